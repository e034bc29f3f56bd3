// Sums over rows, in a fixed order: strips of rows first, then the strips.
#pragma once

#include "maps.cuh"

constexpr int STRIPS = 64;
constexpr int STRIP_THREADS = 64;

enum Summed { VALUES_ALONE, WITH_DIFFERENCES, WITH_NORMED, WITH_HEADS };

// A strip's sums of each column: blocks are [D / 512, STRIPS]. 0 derivatives T, 1 out [STRIPS, 2, D] f32.
// VALUES_ALONE: Σ by. WITH_DIFFERENCES: Σ by · (previous − xx), 2 xx T, 3 before. WITH_NORMED: Σ by · (x − mean) · scale
// and Σ by, 2 x f32, 3 moments of rows. WITH_HEADS: the same within heads of 2 o T, with by · silu(3 g T) for by.
// n: D, T, R. f: eps.
template <class T, Summed S> DEVICE void strip_sums(const Args &p)
{
    const int width = p.n[0], rows = p.n[2], each = (rows + STRIPS - 1) / STRIPS;
    const int i = (blockIdx.x * STRIP_THREADS + threadIdx.x) * 8;
    const bool valid = i < width;
    const int first = blockIdx.y * each, last = min(rows, first + each);
    float sums[8] = {}, plain[8] = {};
    for (int row = first; row < last; row++) {
        const long long at = static_cast<long long>(row) * width + i;
        float by[8] = {}, x[8] = {};
        if (valid) {
            load8(p.to<T>(0) + at, by);
        }
        if constexpr (S == WITH_DIFFERENCES) {
            if (valid) {
                float previous[8];
                load8(p.to<T>(2) + at, x);
                load_previous(p.to<T>(2), p.to<float>(3), row, p.n[1], width, i, previous);
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    x[e] = previous[e] - x[e];
                }
            }
        }
        if constexpr (S == WITH_NORMED) {
            const float mean = p.to<float>(3)[2 * row], scale = p.to<float>(3)[2 * row + 1];
            if (valid) {
                load8(p.to<float>(2) + at, x);
            }
#pragma unroll
            for (int e = 0; e < 8; e++) {
                x[e] = (x[e] - mean) * scale;
            }
        }
        if constexpr (S == WITH_HEADS) {
            const HeadPart<T> part(p.to<T>(2), at, valid, p.f[0]);
            float g[8] = {};
            if (valid) {
                load8(p.to<T>(3) + at, g);
            }
#pragma unroll
            for (int e = 0; e < 8; e++) {
                x[e] = part.centred[e] * part.scale, by[e] *= silu(g[e]);
            }
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
            plain[e] += by[e], sums[e] += by[e] * x[e];
        }
    }
    if (valid) {
        float *out = p.to<float>(1) + static_cast<long long>(blockIdx.y) * 2 * width + i;
        store8(out, S == VALUES_ALONE ? plain : sums), store8(out + width, plain);
    }
}

// 0 strips [STRIPS, 2, D] f32, 1 gradient to which the first sums are added, 2 that of the second, or none. n: D.
DEVICE void add_strips(const Args &p)
{
    const int width = p.n[0], i = blockIdx.x * 256 + threadIdx.x;
    if (i < width) {
        for (int part = 0; part < 2; part++) {
            if (p.at[1 + part] != 0) {
                float sum = 0.0f;
                for (int s = 0; s < STRIPS; s++) {
                    sum += p.to<float>(0)[(2 * s + part) * width + i];
                }
                p.to<float>(1 + part)[i] += sum;
            }
        }
    }
}
