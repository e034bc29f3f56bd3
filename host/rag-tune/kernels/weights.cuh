// Frozen weights made dense, and Adam.
#pragma once

#include "maps.cuh"

// Values that share a scale.
constexpr int SHARING = 64;

// 0 levels i8, 1 scales f32, 2 out T. n: values.
template <class T> DEVICE void dense_int8(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        const float scale = p.to<float>(1)[at / SHARING];
        const uint2 words = *reinterpret_cast<const uint2 *>(p.to<signed char>(0) + at);
        float out[8];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const unsigned word = e < 4 ? words.x : words.y;
            out[e] = static_cast<float>(static_cast<signed char>(word >> e % 4 * 8 & 0xffu)) * scale;
        }
        store8(p.to<T>(2) + at, out);
    }
}

__constant__ float LEVELS[16] = {-1.0f,        -0.6961928f,  -0.52507305f, -0.3949175f,  -0.28444138f, -0.18477343f,
                                 -0.09105004f, 0.0f,         0.0795803f,   0.1609302f,   0.2461123f,   0.33791524f,
                                 0.44070983f,  0.562617f,    0.72295684f,  1.0f};

// 0 pairs of levels, the earlier in the high half, 1 scales f32, 2 out T. n: values.
template <class T> DEVICE void dense_nf4(const Args &p)
{
    SHARED float levels[16];
    if (threadIdx.x < 16) {
        levels[threadIdx.x] = LEVELS[threadIdx.x];
    }
    __syncthreads();
    const long long at = map_at();
    if (at < count_of(p)) {
        const float scale = p.to<float>(1)[at / SHARING];
        const unsigned pairs = *reinterpret_cast<const unsigned *>(p.to<unsigned char>(0) + at / 2);
        float out[8];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            out[e] = levels[pairs >> (e / 2 * 8 + (e % 2 == 0 ? 4 : 0)) & 15u] * scale;
        }
        store8(p.to<T>(2) + at, out);
    }
}

// 0 values, 1 gradients, 2 and 3 means of them and of their squares, all f32, 4 a copy of the values in bf16. n: values.
// f: β1, β2, step size, √ of the second mean's correction, ε, factor of gradients, share of a value that is kept.
DEVICE void adam(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8], g[8], m[8], v[8];
        load8(p.to<float>(0) + at, x), load8(p.to<float>(1) + at, g);
        load8(p.to<float>(2) + at, m), load8(p.to<float>(3) + at, v);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            g[e] *= p.f[5];
            m[e] = p.f[0] * m[e] + (1.0f - p.f[0]) * g[e];
            v[e] = p.f[1] * v[e] + (1.0f - p.f[1]) * g[e] * g[e];
            x[e] = p.f[6] * x[e] - p.f[2] * m[e] / (sqrtf(v[e]) * p.f[3] + p.f[4]);
        }
        store8(p.to<float>(0) + at, x), store8(p.to<float>(2) + at, m), store8(p.to<float>(3) + at, v);
        store8(p.to<bf16>(4) + at, x);
    }
}

// 0 values f32, 1 out f64, one a block: Σ x². n: values. Blocks take turns of 2 048 values.
DEVICE void squares(const Args &p)
{
    SHARED double sums[MAP_THREADS / WARP];
    double sum = 0.0;
    for (long long at = map_at(); at < count_of(p); at += static_cast<long long>(gridDim.x) * MAP_THREADS * 8) {
        float x[8];
        load8(p.to<float>(0) + at, x);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            sum += static_cast<double>(x[e]) * x[e];
        }
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) {
        sums[threadIdx.x / WARP] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < MAP_THREADS / WARP; warp++) {
            sum += sums[warp];
        }
        p.to<double>(1)[blockIdx.x] = sum;
    }
}
