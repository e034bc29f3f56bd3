// Normalisations and mixes with the previous token.
#pragma once
#include "params.cuh"

// Writes the normalised row to `out` (shared or global); all threads of the block take part.
template <class In>
DEVICE void norm_row(const In *x, const float *weight, const float *bias, int width, float epsilon, float *out,
                     float *scratch)
{
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float value = to_float(x[i]);
        out[i] = value;
        sum += value;
    }
    const float mean = block_sum(sum, scratch) / width;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float off = out[i] - mean;
        squares += off * off;
    }
    const float scale = rsqrtf(block_sum(squares, scratch) / width + epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        out[i] = (out[i] - mean) * scale * weight[i] + bias[i];
    }
}

template <class E> DEVICE void embed(const Embed &p)
{
    SHARED float scratch[33];
    release_next();
    wait_previous();
    const long long row = blockIdx.x;
    const E *from = static_cast<const E *>(p.table) + static_cast<long long>(p.tokens[row]) * p.width;
    float *to = p.x + row * p.width;
    if (p.weight) {
        norm_row(from, p.weight, p.bias, p.width, p.epsilon, to, scratch);
        return;
    }
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        to[i] = to_float(from[i]);
    }
}

template <class E> DEVICE void ln_mix(const LnMix &p)
{
    DYNAMIC_SHARED(shared);
    SHARED float scratch[33];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    wait_previous();
    float *now = reinterpret_cast<float *>(shared), *before = now + p.width;
    const long long row = blockIdx.x, at = row * p.width;
    const int starts = p.starts[row];
    norm_row(p.x + at, p.weight, p.bias, p.width, p.epsilon, now, scratch);
    const float *previous;
    if (starts >= 0) {
        previous = p.states[starts] + p.shift;
    } else {
        norm_row(p.x + at - p.width, p.weight, p.bias, p.width, p.epsilon, before, scratch);
        previous = before;
    }
    E *first = static_cast<E *>(p.out[0]), *second = static_cast<E *>(p.out[1]);
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        const float xx = now[i], off = previous[i] - xx;
        p.normed[at + i] = xx;
        first[at + i] = from_float<E>(xx + off * p.maa[0][i]);
        if (second) {
            second[at + i] = from_float<E>(xx + off * p.maa[1][i]);
        }
    }
}

// Two columns a thread, `ROWS` rows a block; blockIdx.y is one of the five mixes.
constexpr int LERP_THREADS = 64;

template <class W, class E, int ROWS> DEVICE void lerp(const Lerp &p)
{
    DYNAMIC_SHARED(shared);
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    wait_previous();
    float *low = reinterpret_cast<float *>(shared); // [ROWS][rank]
    const int columns = (p.width / 2 + LERP_THREADS - 1) / LERP_THREADS;
    const int c = blockIdx.y, tile = blockIdx.x / columns;
    const int column = (static_cast<int>(blockIdx.x) % columns * LERP_THREADS + threadIdx.x) * 2;
    const int row0 = tile * ROWS;
    for (int i = threadIdx.x; i < ROWS * p.rank; i += LERP_THREADS) {
        const int row = row0 + i / p.rank;
        float z = 0.0f;
        if (row < p.rows) {
            z = p.low[(static_cast<long long>(row) * 5 + c) * p.rank + i % p.rank];
        }
        low[i] = p.tanh_low ? tanhf(z) : z;
    }
    __syncthreads();
    if (column >= p.width) {
        return;
    }
    const W *up = static_cast<const W *>(p.up) + static_cast<long long>(c) * p.rank * p.width + column;
    float sums[ROWS][2] = {};
#pragma unroll 4
    for (int j = 0; j < p.rank; j++) {
        const float a = to_float(up[static_cast<long long>(j) * p.width]);
        const float b = to_float(up[static_cast<long long>(j) * p.width + 1]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float z = low[r * p.rank + j];
            sums[r][0] += z * a;
            sums[r][1] += z * b;
        }
    }
    const float maa[2] = {p.maa[c * p.width + column], p.maa[c * p.width + column + 1]};
    E *out = static_cast<E *>(p.out) + static_cast<long long>(c) * p.rows * p.width;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = row0 + r;
        if (row >= p.rows) {
            break;
        }
        const long long at = static_cast<long long>(row) * p.width + column;
        const int starts = p.starts[row];
        const float *previous = starts >= 0 ? p.states[starts] + p.shift + column : p.normed + at - p.width;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float xx = p.normed[at + i];
            out[at + i] = from_float<E>(xx + (previous[i] - xx) * (maa[i] + sums[r][i]));
        }
    }
}

template <class E> DEVICE void last_norm(const LastNorm &p)
{
    DYNAMIC_SHARED(shared);
    SHARED float scratch[33];
    release_next();
    wait_previous();
    float *row = reinterpret_cast<float *>(shared);
    const long long from = static_cast<long long>(p.wanted[blockIdx.x]) * p.width;
    norm_row(p.x + from, p.weight, p.bias, p.width, p.epsilon, row, scratch);
    E *out = static_cast<E *>(p.out) + static_cast<long long>(blockIdx.x) * p.width;
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        out[i] = from_float<E>(row[i]);
    }
}

template <class E> DEVICE void combine(const Combine &p)
{
    const long long row = blockIdx.x, at = row * p.width;
    const E *gate = static_cast<const E *>(p.gate) + at, *value = static_cast<const E *>(p.value) + at;
    const int ends = p.ends[row];
    release_next();
    wait_previous();
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        p.x[at + i] += sigmoid(to_float(gate[i])) * to_float(value[i]);
        if (ends >= 0) {
            p.states[ends][p.shift + i] = p.normed[at + i];
        }
    }
}

template <class E> DEVICE void squared_positive(const Map &p)
{
    release_next();
    wait_previous();
    constexpr int EACH = 16 / sizeof(E);
    const long long step = 1ll * gridDim.x * blockDim.x * EACH;
    const E *in = static_cast<const E *>(p.in);
    E *out = static_cast<E *>(p.out);
    for (long long i = (1ll * blockIdx.x * blockDim.x + threadIdx.x) * EACH; i < p.count; i += step) {
        float values[EACH];
        load_floats(in + i, values);
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const float positive = fmaxf(values[j], 0.0f);
            values[j] = positive * positive;
        }
        store_floats(out + i, values);
    }
}

template <class E> DEVICE void tanh_of(const Map &p)
{
    release_next();
    wait_previous();
    const float *in = static_cast<const float *>(p.in);
    E *out = static_cast<E *>(p.out);
    for (long long i = 1ll * blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += 1ll * gridDim.x * blockDim.x) {
        out[i] = from_float<E>(tanhf(in[i]));
    }
}
