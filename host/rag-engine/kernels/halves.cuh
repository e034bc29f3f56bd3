// Half-precision numbers, and what a warp does with them: products of small matrices on the tensor cores.
#pragma once
#include "common.cuh"

struct half16 {
    unsigned short bits;
};

constexpr float HALF_MAX = 65504.0f;

DEVICE float to_float(half16 x) { return half_to_float(x.bits); }

// The nearest half; what is too large becomes the largest.
template <> DEVICE half16 from_float<half16>(float x)
{
    x = fminf(fmaxf(x, -HALF_MAX), HALF_MAX);
#ifndef EMULATED
    return half16{__half_as_ushort(__float2half_rn(x))};
#else
    return half16{emulated_from_float(x)};
#endif
}

// The first in the low bits, as it stands first in memory.
DEVICE unsigned half_pair(float low, float high)
{
    return from_float<half16>(low).bits | static_cast<unsigned>(from_float<half16>(high).bits) << 16;
}

// As `half_pair`, of numbers that are within halves' range anyway.
DEVICE unsigned pair_within_halves(float low, float high)
{
#ifndef EMULATED
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return half_pair(low, high);
#endif
}

// 2 to the power of x, within two units of the last place; results too small for a normal number are 0.
DEVICE float power_of_two(float x)
{
#ifndef EMULATED
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#else
    return exp2f(x);
#endif
}

DEVICE float low_half(unsigned pair) { return half_to_float(static_cast<unsigned short>(pair & 0xffffu)); }
DEVICE float high_half(unsigned pair) { return half_to_float(static_cast<unsigned short>(pair >> 16)); }

// Four or eight elements from a multiple of as many on.
template <int E> DEVICE void load_floats(const half16 *at, float (&out)[E])
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
#pragma unroll
    for (int i = 0; i < E / 2; i++) {
        out[2 * i] = low_half(words[i]), out[2 * i + 1] = high_half(words[i]);
    }
}

DEVICE void store_floats(half16 *at, const float (&values)[4])
{
    *reinterpret_cast<uint2 *>(at) = make_uint2(half_pair(values[0], values[1]), half_pair(values[2], values[3]));
}

DEVICE void store_floats(half16 *at, const float (&values)[8])
{
    *reinterpret_cast<uint4 *>(at) = make_uint4(half_pair(values[0], values[1]), half_pair(values[2], values[3]),
                                                half_pair(values[4], values[5]), half_pair(values[6], values[7]));
}

DEVICE void store_floats(float *at, const float (&values)[8])
{
    *reinterpret_cast<float4 *>(at) = make_float4(values[0], values[1], values[2], values[3]);
    *reinterpret_cast<float4 *>(at + 4) = make_float4(values[4], values[5], values[6], values[7]);
}

// sums [16, 8] += a [16, 16] · b [16, 8], spread over the warp as mma.m16n8k16 has it: a lane holds rows lane / 4 and 8
// more, and of each eight columns two from lane % 4 * 2 on; of b its column is lane / 4 and its rows are those of a's
// columns.
DEVICE void multiply_16_8_16(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
#ifndef EMULATED
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    emulated_multiply(sums, a, b0, b1);
#endif
}

// Four matrices of 8 × 8 halves in shared memory: lane 8·m + r gives the address of row r of the m-th, and gets of each
// row lane / 4, from column lane % 4 * 2 on; turned, of column lane / 4 from that row on.
template <bool TURNED> DEVICE void load_matrices(unsigned (&parts)[4], const half16 *row)
{
#ifndef EMULATED
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    if constexpr (TURNED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                     : "r"(at)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                     : "r"(at)
                     : "memory");
    }
#else
    emulated_load(parts, reinterpret_cast<const unsigned short *>(row), TURNED);
#endif
}

// ---- copies to shared memory that go on while the block computes

// 16 bytes, or zeros.
DEVICE void copy_16(half16 *to, const half16 *from, bool there)
{
#ifndef EMULATED
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(there ? 16 : 0) : "memory");
#else
    *reinterpret_cast<uint4 *>(to) = there ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
#endif
}

// Ends a group of copies.
DEVICE void copies_queued()
{
#ifndef EMULATED
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until this thread's copies are there but for the last groups.
template <int GROUPS> DEVICE void wait_copies()
{
#ifndef EMULATED
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}
