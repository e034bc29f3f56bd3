// Cross-entropy of rows of logits, and its derivatives.
#pragma once

#include "args.cuh"

constexpr int LOSS_THREADS = 512;

struct Top {
    float value;
    float sum;
    int place;
};

// Of two parts of a row: the largest logit, the first of equals, and Σ e^(logit − largest).
DEVICE Top joined(const Top &a, const Top &b)
{
    const bool first = a.value > b.value || (a.value == b.value && a.place < b.place);
    const Top &top = first ? a : b, &rest = first ? b : a;
    const float sum = rest.sum == 0.0f ? 0.0f : rest.sum * expf(rest.value - top.value);
    return {top.value, top.sum + sum, top.place};
}

// 0 logits f32 [rows, V], 1 labels u32, 2 out f32: the loss of each row, 3 out T [rows, V]: its derivative · weight,
// with that of L2Wrap. n: V. f: weight, L2Wrap's factor. A block a row.
template <class T> DEVICE void loss_rows(const Args &p)
{
    SHARED Top tops[LOSS_THREADS / WARP];
    const int size = p.n[0];
    const float *logits = p.to<float>(0) + static_cast<long long>(blockIdx.x) * size;
    T *out = p.to<T>(3) + static_cast<long long>(blockIdx.x) * size;
    const int label = static_cast<int>(p.to<unsigned>(1)[blockIdx.x]);
    Top top = {-INFINITY, 0.0f, size};
    for (int i = threadIdx.x; i < size; i += LOSS_THREADS) {
        const float logit = logits[i];
        if (logit > top.value) {
            top = {logit, top.sum * expf(top.value - logit) + 1.0f, i};
        } else {
            top.sum += expf(logit - top.value);
        }
    }
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const Top other = {__shfl_xor_sync(ALL, top.value, step), __shfl_xor_sync(ALL, top.sum, step),
                           __shfl_xor_sync(ALL, top.place, step)};
        top = joined(top, other);
    }
    if (threadIdx.x % WARP == 0) {
        tops[threadIdx.x / WARP] = top;
    }
    __syncthreads();
    top = tops[0];
    for (int warp = 1; warp < LOSS_THREADS / WARP; warp++) {
        top = joined(top, tops[warp]);
    }
    if (threadIdx.x == 0) {
        p.to<float>(2)[blockIdx.x] = logf(top.sum) + top.value - logits[label];
    }
    // With T = f32 the derivatives overwrite the logits.
    __syncthreads();
    const float scale = p.f[0] / top.sum;
    for (int i = threadIdx.x; i < size; i += LOSS_THREADS) {
        float by = expf(logits[i] - top.value) * scale;
        by -= i == label ? p.f[0] : 0.0f;
        by += i == top.place ? p.f[0] * p.f[1] * top.value : 0.0f;
        out[i] = from_float<T>(by);
    }
}
