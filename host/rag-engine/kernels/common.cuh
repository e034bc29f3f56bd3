// What all kernels share: number types, sums over a warp and a block, the order between one kernel and the next.
//
// Every kernel takes one structure by value (params.cuh), so that the host needs no argument lists. A kernel may be
// started while the one before it still runs (programmatic dependent launch): until `wait_previous` it touches nothing
// that a kernel of the same stream writes, only weights, and S of its layer, which no other kernel of the step touches.
#pragma once

#ifndef EMULATED
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DEVICE __device__ __forceinline__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define SHARED __shared__
#define KERNEL(name, Params, threads, call)                                                     \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p) \
    {                                                                                           \
        call;                                                                                   \
    }
#endif

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

// ---- numbers

struct bf16 {
    unsigned short bits;
};

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x)
{
#ifndef EMULATED
    return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    return emulated_bf16(x);
#endif
}

DEVICE float half_to_float(unsigned short bits)
{
#ifndef EMULATED
    return __half2float(__ushort_as_half(bits));
#else
    return emulated_half(bits);
#endif
}

// E elements from an address that is a multiple of 16 (or of E elements).
template <int E> DEVICE void load_floats(const float *at, float (&out)[E])
{
    static_assert(E % 4 == 0, "whole vectors");
#pragma unroll
    for (int i = 0; i < E; i += 4) {
        const float4 v = *reinterpret_cast<const float4 *>(at + i);
        out[i] = v.x, out[i + 1] = v.y, out[i + 2] = v.z, out[i + 3] = v.w;
    }
}

template <int E> DEVICE void unpack_bf16(const unsigned (&words)[E / 2], float (&out)[E])
{
#pragma unroll
    for (int i = 0; i < E / 2; i++) {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

template <int E> DEVICE void load_floats(const bf16 *at, float (&out)[E])
{
    static_assert(E == 4 || E == 8, "one vector");
    unsigned words[E / 2];
    if constexpr (E == 8) {
        const uint4 v = *reinterpret_cast<const uint4 *>(at);
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    } else {
        const uint2 v = *reinterpret_cast<const uint2 *>(at);
        words[0] = v.x, words[1] = v.y;
    }
    unpack_bf16<E>(words, out);
}

DEVICE void store_floats(float *at, const float (&values)[4])
{
    *reinterpret_cast<float4 *>(at) = make_float4(values[0], values[1], values[2], values[3]);
}

DEVICE unsigned bf16_pair(float low, float high)
{
    return from_float<bf16>(low).bits | static_cast<unsigned>(from_float<bf16>(high).bits) << 16;
}

DEVICE void store_floats(bf16 *at, const float (&values)[8])
{
    *reinterpret_cast<uint4 *>(at) = make_uint4(bf16_pair(values[0], values[1]), bf16_pair(values[2], values[3]),
                                                bf16_pair(values[4], values[5]), bf16_pair(values[6], values[7]));
}

// ---- functions

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE float silu(float x) { return x * sigmoid(x); }
// The decay of omega.
DEVICE float decay_of(float omega) { return expf(-expf(omega)); }

// ---- sums

template <class T> DEVICE T warp_sum(T x)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL, x, step);
    }
    return x;
}

DEVICE float warp_max(float x)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
    }
    return x;
}

// The sum over a block of at most 32 whole warps, in every thread. `scratch` has room for 33 values.
template <class T> DEVICE T block_sum(T x, T *scratch)
{
    const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0) {
        scratch[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    if (threadIdx.x < WARP) {
        const T all = warp_sum(lane < warps ? scratch[lane] : T(0));
        if (lane == 0) {
            scratch[WARP] = all;
        }
    }
    __syncthreads();
    return scratch[WARP];
}

// ---- order between kernels

DEVICE void wait_previous()
{
#if !defined(EMULATED) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel of the stream start. What this one writes is seen there after `wait_previous` all the same.
DEVICE void release_next()
{
#if !defined(EMULATED) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Bytes of weights that a later kernel reads, fetched to the L2 cache by the blocks after the first `blocks`, while this
// kernel leaves the memory idle.
struct Ahead {
    const unsigned char *at;
    unsigned long long bytes;
    int blocks;
    int extra;
};

constexpr int AHEAD_PIECE = 2048;

// Whether this is one of those blocks; it is done then.
DEVICE bool fetches_ahead(const Ahead &ahead)
{
    const int own = static_cast<int>(blockIdx.x) - ahead.blocks;
    if (own < 0) {
        return false;
    }
#if !defined(EMULATED) && __CUDA_ARCH__ >= 900
    if (blockIdx.y > 0) {
        return true;
    }
    const unsigned long long stride = 1ull * ahead.extra * blockDim.x * AHEAD_PIECE;
    unsigned long long at = (1ull * own * blockDim.x + threadIdx.x) * AHEAD_PIECE;
    for (; at + AHEAD_PIECE <= ahead.bytes; at += stride) {
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(ahead.at + at), "r"(AHEAD_PIECE) : "memory");
    }
#endif
    return true;
}
