// What the trainer's kernels share: their one structure of arguments, and rows of numbers eight at a time.
//
// Activations are T (f32 or bf16) and everything is computed in f32. A first line of each kernel names its addresses
// and sizes. Rows are [R, D] with R = B · T tokens; D is a multiple of 64, the size of a head.
#pragma once

#include "../../rag-engine/kernels/common.cuh"

struct Args {
    unsigned long long at[20];
    int n[8];
    float f[8];

    template <class T> DEVICE T *to(int i) const { return reinterpret_cast<T *>(at[i]); }
};

// Instances for both types of activations.
#define BOTH(name, threads)                           \
    KERNEL(name##_f32, Args, threads, name<float>(p)) \
    KERNEL(name##_bf16, Args, threads, name<bf16>(p))

// Of a kernel that depends on no type.
#define ANY(name, threads) KERNEL(name##_any, Args, threads, name(p))

// Threads of a block that works on rows, and groups of eight values that each of them can hold.
constexpr int ROW_THREADS = 256;
constexpr int ROW_GROUPS = 4;

DEVICE void load8(const float *at, float (&out)[8]) { load_floats<8>(at, out); }
DEVICE void load8(const bf16 *at, float (&out)[8]) { load_floats<8>(at, out); }

DEVICE void store8(float *at, const float (&v)[8])
{
    *reinterpret_cast<float4 *>(at) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4 *>(at + 4) = make_float4(v[4], v[5], v[6], v[7]);
}
DEVICE void store8(bf16 *at, const float (&v)[8]) { store_floats(at, v); }

// Sums of two values over groups of eight lanes, in each of them.
DEVICE void sums_of_eight(float &x, float &y)
{
#pragma unroll
    for (int step = 4; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL, x, step), y += __shfl_xor_sync(ALL, y, step);
    }
}

// The row before a row of a sequence: of `before` [B, D] for its first.
template <class T> DEVICE void load_previous(const T *x, const float *before, int row, int tokens, int width, int i,
                                             float (&out)[8])
{
    if (row % tokens == 0) {
        load8(before + static_cast<long long>(row / tokens) * width + i, out);
    } else {
        load8(x + static_cast<long long>(row - 1) * width + i, out);
    }
}
