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
#define KERNEL(name, Params, threads, call) RESIDENT_KERNEL(name, Params, threads, 1, call)
// For kernels of which a multiprocessor is to hold so many blocks.
#define RESIDENT_KERNEL(name, Params, threads, resident, call)                                            \
    extern "C" __global__ void __launch_bounds__(threads, resident) name(const __grid_constant__ Params p) \
    {                                                                                                     \
        call;                                                                                             \
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

// The sums of two values over a block of at most 32 whole warps, in every thread. `scratch` is this call's alone.
DEVICE void block_sums(float &x, float &y, float (&scratch)[2][WARP])
{
    const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    x = warp_sum(x), y = warp_sum(y);
    if (lane == 0) {
        scratch[0][threadIdx.x / WARP] = x, scratch[1][threadIdx.x / WARP] = y;
    }
    __syncthreads();
    x = warp_sum(lane < warps ? scratch[0][lane] : 0.0f);
    y = warp_sum(lane < warps ? scratch[1][lane] : 0.0f);
}

// ---- rows of elements

// A row's elements as int8: levels, and a scale for each SCALED columns behind the levels of all rows.
struct int8 {
    signed char level;
};

constexpr int SCALED = 16;

// Where the scale of an element is.
DEVICE float *scale_at(void *levels, long long all, long long at)
{
    return reinterpret_cast<float *>(static_cast<signed char *>(levels) + all) + at / SCALED;
}

// Writes one element; for int8 16 lanes that begin at a multiple of 16 write theirs together, all lanes taking part.
template <class E> DEVICE void store_one(void *out, long long, long long at, float value, bool valid)
{
    if (valid) {
        static_cast<E *>(out)[at] = from_float<E>(value);
    }
}
template <> DEVICE void store_one<int8>(void *out, long long all, long long at, float value, bool valid)
{
    float largest = valid ? fabsf(value) : 0.0f;
#pragma unroll
    for (int step = SCALED / 2; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, step));
    }
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    if (valid) {
        static_cast<signed char *>(out)[at] = static_cast<signed char>(__float2int_rn(value * inverse));
        if (threadIdx.x % SCALED == 0) {
            *scale_at(out, all, at) = largest / 127.0f;
        }
    }
}

// Writes four elements from a multiple of four on; for int8 four lanes write theirs together, all lanes taking part.
template <class E> DEVICE void store_four(void *out, long long all, long long at, const float (&values)[4], bool valid);
template <>
DEVICE void store_four<float>(void *out, long long, long long at, const float (&values)[4], bool valid)
{
    if (valid) {
        store_floats(static_cast<float *>(out) + at, values);
    }
}
template <> DEVICE void store_four<bf16>(void *out, long long, long long at, const float (&values)[4], bool valid)
{
    if (valid) {
        *reinterpret_cast<uint2 *>(static_cast<bf16 *>(out) + at) =
            make_uint2(bf16_pair(values[0], values[1]), bf16_pair(values[2], values[3]));
    }
}
template <> DEVICE void store_four<int8>(void *out, long long all, long long at, const float (&values)[4], bool valid)
{
    float largest = fmaxf(fmaxf(fabsf(values[0]), fabsf(values[1])), fmaxf(fabsf(values[2]), fabsf(values[3])));
    largest = valid ? largest : 0.0f;
    largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 2));
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        word |= (static_cast<unsigned>(__float2int_rn(values[i] * inverse)) & 0xffu) << i * 8;
    }
    if (valid) {
        *reinterpret_cast<unsigned *>(static_cast<signed char *>(out) + at) = word;
        if (threadIdx.x % (SCALED / 4) == 0) {
            *scale_at(out, all, at) = largest / 127.0f;
        }
    }
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
