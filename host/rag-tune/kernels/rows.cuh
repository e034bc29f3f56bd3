// Normalisations, token shifts and their mixes, forwards and backwards: a block a row.
#pragma once

#include "args.cuh"

struct Moments {
    float mean;
    float scale;
};

// Mean and 1 / sqrt(variance + eps) of a row whose groups the block's threads hold.
DEVICE Moments row_moments(const float (&v)[ROW_GROUPS][8], int groups, int width, float eps,
                           float (&scratch)[2][2][WARP])
{
    float sum = 0.0f, none = 0.0f;
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        if (threadIdx.x + q * ROW_THREADS < groups) {
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum += v[q][e];
            }
        }
    }
    block_sums(sum, none, scratch[0]);
    const float mean = sum / width;
    float squares = 0.0f;
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        if (threadIdx.x + q * ROW_THREADS < groups) {
#pragma unroll
            for (int e = 0; e < 8; e++) {
                squares += (v[q][e] - mean) * (v[q][e] - mean);
            }
        }
    }
    block_sums(squares, none, scratch[1]);
    return {mean, rsqrtf(squares / width + eps)};
}

// 0 x f32, 1 weight, 2 bias, 3 out T, 4 y T or none: x + y is normalised, and 5 gets it. n: D. f: eps.
template <class T> DEVICE void norm(const Args &p)
{
    SHARED float scratch[2][2][WARP];
    const int width = p.n[0], groups = width / 8;
    const long long row = static_cast<long long>(blockIdx.x) * width;
    const bool adds = p.at[4] != 0;
    float v[ROW_GROUPS][8];
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            load8(p.to<float>(0) + row + g * 8, v[q]);
            if (adds) {
                float y[8];
                load8(p.to<T>(4) + row + g * 8, y);
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    v[q][e] += y[e];
                }
                store8(p.to<float>(5) + row + g * 8, v[q]);
            }
        }
    }
    const Moments m = row_moments(v, groups, width, p.f[0], scratch);
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            float w[8], b[8];
            load8(p.to<float>(1) + g * 8, w), load8(p.to<float>(2) + g * 8, b);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                v[q][e] = (v[q][e] - m.mean) * m.scale * w[e] + b[e];
            }
            store8(p.to<T>(3) + row + g * 8, v[q]);
        }
    }
}

// 0 x f32, 1 out [R, 2] f32: mean and scale of each row. n: D. f: eps.
DEVICE void row_stats(const Args &p)
{
    SHARED float scratch[2][2][WARP];
    const int width = p.n[0], groups = width / 8;
    float v[ROW_GROUPS][8];
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            load8(p.to<float>(0) + static_cast<long long>(blockIdx.x) * width + g * 8, v[q]);
        }
    }
    const Moments m = row_moments(v, groups, width, p.f[0], scratch);
    if (threadIdx.x == 0) {
        p.to<float>(1)[2 * blockIdx.x] = m.mean, p.to<float>(1)[2 * blockIdx.x + 1] = m.scale;
    }
}

// 0 xx T, 1 before f32 [B, D], 2 maa, 3 out T: xx + (previous − xx) · maa; 4 and 5 a second of both, or none. n: D, T.
template <class T> DEVICE void mix(const Args &p)
{
    const int width = p.n[0], row = blockIdx.x;
    for (int i = threadIdx.x * 8; i < width; i += ROW_THREADS * 8) {
        const long long at = static_cast<long long>(row) * width + i;
        float x[8], previous[8], maa[8], out[8];
        load8(p.to<T>(0) + at, x);
        load_previous(p.to<T>(0), p.to<float>(1), row, p.n[1], width, i, previous);
#pragma unroll
        for (int both = 0; both < 2; both++) {
            if (p.at[2 + 2 * both] == 0) {
                continue;
            }
            load8(p.to<float>(2 + 2 * both) + i, maa);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                out[e] = x[e] + (previous[e] - x[e]) * maa[e];
            }
            store8(p.to<T>(3 + 2 * both) + at, out);
        }
    }
}

// 0 xx T, 1 before, 2 z W2 of the five mixes [5, R, D] T, 3–7 maa, 8 out [5, R, D] T. n: D, T, R.
template <class T> DEVICE void lerp(const Args &p)
{
    const int width = p.n[0], row = blockIdx.x;
    const long long all = static_cast<long long>(p.n[2]) * width;
    for (int i = threadIdx.x * 8; i < width; i += ROW_THREADS * 8) {
        const long long at = static_cast<long long>(row) * width + i;
        float x[8], previous[8];
        load8(p.to<T>(0) + at, x);
        load_previous(p.to<T>(0), p.to<float>(1), row, p.n[1], width, i, previous);
#pragma unroll
        for (int c = 0; c < 5; c++) {
            float share[8], maa[8];
            load8(p.to<T>(2) + c * all + at, share), load8(p.to<float>(3 + c) + i, maa);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                share[e] = x[e] + (previous[e] - x[e]) * (share[e] + maa[e]);
            }
            store8(p.to<T>(8) + c * all + at, share);
        }
    }
}

// 0 xx T, 1 before, 2 z W2 [5, R, D] T, which becomes the derivatives by it, 3–7 maa, 8 derivatives by the five x_c
// [5, R, D] T, 9 out f32: their sum, 10 out f32: the derivative by previous − xx. n: D, T, R.
template <class T> DEVICE void lerp_back(const Args &p)
{
    const int width = p.n[0], row = blockIdx.x;
    const long long all = static_cast<long long>(p.n[2]) * width;
    for (int i = threadIdx.x * 8; i < width; i += ROW_THREADS * 8) {
        const long long at = static_cast<long long>(row) * width + i;
        float x[8], previous[8], sum[8] = {}, by_difference[8] = {};
        load8(p.to<T>(0) + at, x);
        load_previous(p.to<T>(0), p.to<float>(1), row, p.n[1], width, i, previous);
// One mix after another: few registers, and so many blocks at once.
#pragma unroll 1
        for (int c = 0; c < 5; c++) {
            float share[8], maa[8], by[8];
            load8(p.to<T>(2) + c * all + at, share), load8(p.to<float>(3 + c) + i, maa);
            load8(p.to<T>(8) + c * all + at, by);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum[e] += by[e], by_difference[e] += by[e] * (share[e] + maa[e]);
                by[e] *= previous[e] - x[e];
            }
            store8(p.to<T>(2) + c * all + at, by);
        }
        store8(p.to<float>(9) + at, sum), store8(p.to<float>(10) + at, by_difference);
    }
}

enum Source { PLAIN, CHANNEL, TIME };

// The derivative by a normalised row, eight values. PLAIN: 0 it, T. CHANNEL: 0 by x_k, 1 by x_r, T, 2 maa_k, 3 maa_r.
// TIME: 0 sum and 1 by the difference of `lerp_back`, 2 by x_x T, 3 maa_x.
template <class T, Source S> DEVICE void by_normed(const Args &p, long long at, int i, bool has_next, float (&by)[8])
{
    const int width = p.n[0];
    if constexpr (S == PLAIN) {
        load8(p.to<T>(0) + at, by);
    } else {
#pragma unroll
        for (int next = 0; next < 2; next++) {
            if (next == 1 && !has_next) {
                continue;
            }
            float a[8], b[8], share_a[8], share_b[8];
            if constexpr (S == CHANNEL) {
                load8(p.to<T>(0) + at + next * width, a), load8(p.to<T>(1) + at + next * width, b);
                load8(p.to<float>(2) + i, share_a), load8(p.to<float>(3) + i, share_b);
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    const float moved = a[e] * share_a[e] + b[e] * share_b[e];
                    by[e] = next == 0 ? a[e] + b[e] - moved : by[e] + moved;
                }
            } else {
                load8(p.to<float>(1) + at + next * width, a), load8(p.to<T>(2) + at + next * width, b);
                load8(p.to<float>(3) + i, share_b);
                if (next == 0) {
                    load8(p.to<float>(0) + at, share_a);
                }
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    const float moved = a[e] + b[e] * share_b[e];
                    by[e] = next == 0 ? share_a[e] + b[e] - moved : by[e] + moved;
                }
            }
        }
    }
}

// Through a normalisation: 8 its input f32, 9 weight, 10 the derivative by its input f32, which is added to or, with
// n[2], set; 11 a copy of that in T, or none; 12 out T: the derivative by the normalised row, or none. n: D, T, sets.
template <class T, Source S> DEVICE void norm_back(const Args &p)
{
    SHARED float scratch[2][2][WARP];
    SHARED float sums[2][WARP];
    const int width = p.n[0], groups = width / 8, row = blockIdx.x;
    const long long start = static_cast<long long>(row) * width;
    const bool has_next = row % p.n[1] + 1 < p.n[1];
    float x[ROW_GROUPS][8], by[ROW_GROUPS][8];
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            load8(p.to<float>(8) + start + g * 8, x[q]);
            by_normed<T, S>(p, start + g * 8, g * 8, has_next, by[q]);
            if (p.at[12] != 0) {
                store8(p.to<T>(12) + start + g * 8, by[q]);
            }
        }
    }
    const Moments m = row_moments(x, groups, width, p.f[0], scratch);
    float total = 0.0f, along = 0.0f;
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            float w[8];
            load8(p.to<float>(9) + g * 8, w);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                x[q][e] = (x[q][e] - m.mean) * m.scale;
                by[q][e] *= w[e];
                total += by[q][e], along += by[q][e] * x[q][e];
            }
        }
    }
    block_sums(total, along, sums);
    total /= width, along /= width;
#pragma unroll
    for (int q = 0; q < ROW_GROUPS; q++) {
        const int g = threadIdx.x + q * ROW_THREADS;
        if (g < groups) {
            float dx[8] = {};
            if (p.n[2] == 0) {
                load8(p.to<float>(10) + start + g * 8, dx);
            }
#pragma unroll
            for (int e = 0; e < 8; e++) {
                dx[e] += m.scale * (by[q][e] - total - x[q][e] * along);
            }
            store8(p.to<float>(10) + start + g * 8, dx);
            if (p.at[11] != 0) {
                store8(p.to<T>(11) + start + g * 8, dx);
            }
        }
    }
}

// 0 table T, 1 rows of it u32, 2 out f32. n: D.
template <class T> DEVICE void embed(const Args &p)
{
    const long long from = static_cast<long long>(p.to<unsigned>(1)[blockIdx.x]) * p.n[0];
    for (int i = threadIdx.x * 8; i < p.n[0]; i += ROW_THREADS * 8) {
        float v[8];
        load8(p.to<T>(0) + from + i, v);
        store8(p.to<float>(2) + static_cast<long long>(blockIdx.x) * p.n[0] + i, v);
    }
}

// 0 from T, 1 rows u32, 2 to T: row i of `to` is row rows[i] of `from`, or with n[1] the other way round. n: D, back.
template <class T> DEVICE void pick(const Args &p)
{
    const long long there = static_cast<long long>(p.to<unsigned>(1)[blockIdx.x]) * p.n[0];
    const long long here = static_cast<long long>(blockIdx.x) * p.n[0];
    for (int i = threadIdx.x * 8; i < p.n[0]; i += ROW_THREADS * 8) {
        float v[8];
        load8(p.to<T>(0) + (p.n[1] ? here : there) + i, v);
        store8(p.to<T>(2) + (p.n[1] ? there : here) + i, v);
    }
}

// 0 xx T, 1 out f32 [B, D]: each sequence's last row. n: D, T.
template <class T> DEVICE void last_rows(const Args &p)
{
    const long long row = (static_cast<long long>(blockIdx.x) + 1) * p.n[1] - 1;
    for (int i = threadIdx.x * 8; i < p.n[0]; i += ROW_THREADS * 8) {
        float v[8];
        load8(p.to<T>(0) + row * p.n[0] + i, v);
        store8(p.to<float>(1) + static_cast<long long>(blockIdx.x) * p.n[0] + i, v);
    }
}
