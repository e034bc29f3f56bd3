// Draws each sequence's next token as `sampler.rs` defines it: penalties, softmax, top-p, top-k, temperature, draw.
//
// One block a sequence. Probabilities are summed as integers (p * 2^40), so that sums do not depend on their order and
// the cutoff of top-p is exact; it is found by its bits, eight at a time. Candidates are drawn from in the order of
// their ids, not by probability: the same distribution, another token for the same random number.
#pragma once
#include "params.cuh"

constexpr int SAMPLE_THREADS = 1024;
constexpr int SAMPLE_WARPS = SAMPLE_THREADS / WARP;
typedef unsigned long long u64;

DEVICE u64 mass_of(float p) { return static_cast<u64>(p * 1099511627776.0f); }

// The larger value, the smaller id of equals.
DEVICE void take_larger(float &value, int &id, float other, int other_id)
{
    if (other > value || (other == value && other_id < id)) {
        value = other, id = other_id;
    }
}

// The largest value that is not banned and its id, in every thread.
DEVICE void block_largest(const float *__restrict__ values, const unsigned *__restrict__ banned, int count,
                          float &value, int &id, float *floats, int *ints)
{
    value = -INFINITY, id = 0x7fffffff;
#pragma unroll 8
    for (int i = threadIdx.x; i < count; i += SAMPLE_THREADS) {
        const bool out = banned[i / 32] >> i % 32 & 1;
        take_larger(value, id, out ? -INFINITY : values[i], i);
    }
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int round = 0; round < 2; round++) {
        for (int step = WARP / 2; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(ALL, value, step);
            take_larger(value, id, other, __shfl_xor_sync(ALL, id, step));
        }
        if (round == 0) {
            if (lane == 0) {
                floats[warp] = value, ints[warp] = id;
            }
            __syncthreads();
            value = floats[lane], id = ints[lane];
        }
    }
    __syncthreads();
}

// The largest bound so that values of at least it weigh `wanted` or more; a value weighs its mass, or 1 to count.
DEVICE unsigned bound_of(const float *values, int count, float top, u64 wanted, bool by_mass, u64 *histogram,
                         unsigned *found)
{
    unsigned prefix = 0;
    u64 above = 0; // weight of what lies above the prefix's range
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += SAMPLE_THREADS) {
            histogram[i] = 0;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += SAMPLE_THREADS) {
            const float p = expf(values[i] - top);
            const unsigned bits = __float_as_uint(p);
            if (p > 0.0f && (shift == 24 || bits >> (shift + 8) == prefix >> (shift + 8))) {
                atomicAdd(&histogram[bits >> shift & 255], by_mass ? mass_of(p) : 1ull);
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            u64 sum = above;
            int digit = 255;
            while (digit > 0 && sum + histogram[digit] < wanted) {
                sum += histogram[digit--];
            }
            found[0] = prefix | static_cast<unsigned>(digit) << shift;
            histogram[256] = sum;
        }
        __syncthreads();
        prefix = found[0], above = histogram[256];
        __syncthreads();
    }
    return prefix;
}

DEVICE void sample(const Sample &p)
{
    SHARED u64 histogram[257];
    SHARED float floats[WARP];
    SHARED int ints[WARP];
    SHARED unsigned found[1];
    SHARED u64 sums[SAMPLE_WARPS];
    release_next();
    wait_previous();
    const Draw draw = p.draws[blockIdx.x];
    const int count = p.vocabulary, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float *values = p.logits + static_cast<long long>(blockIdx.x) * count;
    for (int i = threadIdx.x; i < draw.penalties; i += SAMPLE_THREADS) {
        const Penalty penalty = p.penalties[draw.penalties_at + i];
        values[penalty.id] -= penalty.amount;
    }
    __syncthreads();
    float top;
    int best;
    block_largest(values, p.banned, count, top, best, floats, ints);
    if (draw.temperature == 0.0f || top == -INFINITY) {
        if (threadIdx.x == 0) {
            p.out[blockIdx.x] = top == -INFINITY ? 0 : best;
        }
        return;
    }
    for (int i = threadIdx.x; i < count; i += SAMPLE_THREADS) {
        if (p.banned[i / 32] >> i % 32 & 1) {
            values[i] = -INFINITY;
        }
    }
    __syncthreads();
    u64 all = 0;
    for (int i = threadIdx.x; i < count; i += SAMPLE_THREADS) {
        all += mass_of(expf(values[i] - top));
    }
    all = warp_sum(all);
    if (lane == 0) {
        sums[warp] = all;
    }
    __syncthreads();
    all = warp_sum(sums[lane]);
    __syncthreads();
    unsigned bound = 1;
    if (draw.top_p < 1.0f) {
        const u64 wanted = static_cast<u64>(static_cast<double>(draw.top_p) * static_cast<double>(all));
        bound = max(bound, bound_of(values, count, top, wanted > 0 ? wanted : 1, true, histogram, found));
    }
    if (draw.top_k > 0) {
        bound = max(bound, bound_of(values, count, top, draw.top_k, false, histogram, found));
    }
    // Each warp owns a range of ids and adds up its candidates; of those equal to top-k's bound all stay.
    const int each = (count + SAMPLE_WARPS - 1) / SAMPLE_WARPS, from = warp * each, to = min(count, from + each);
    const float power = 1.0f / draw.temperature;
    auto weight = [&](int i) -> u64 {
        const float x = values[i] - top, probability = expf(x);
        if (probability <= 0.0f || __float_as_uint(probability) < bound) {
            return 0;
        }
        const u64 mass = mass_of(expf(x * power));
        return mass > 0 ? mass : 1;
    };
    u64 own = 0;
    for (int i = from + lane; i < to; i += WARP) {
        own += weight(i);
    }
    own = warp_sum(own);
    if (lane == 0) {
        sums[warp] = own;
    }
    __syncthreads();
    u64 total = 0, before = 0;
    for (int w = 0; w < SAMPLE_WARPS; w++) {
        before += w < warp ? sums[w] : 0;
        total += sums[w];
    }
    u64 target = static_cast<u64>(static_cast<double>(draw.unit) * static_cast<double>(total));
    target = target < total ? target : total - 1;
    if (target < before || target >= before + own) {
        return;
    }
    // The target is in this warp's range.
    for (int base = from; base < to; base += WARP) {
        const u64 mine = base + lane < to ? weight(base + lane) : 0;
        u64 up_to = mine;
        for (int step = 1; step < WARP; step *= 2) {
            const u64 other = __shfl_up_sync(ALL, up_to, step);
            up_to += lane >= step ? other : 0;
        }
        if (target >= before + up_to - mine && target < before + up_to) {
            p.out[blockIdx.x] = base + lane;
        }
        before += __shfl_sync(ALL, up_to, WARP - 1);
    }
}

// ---- random weights for benchmarks

DEVICE u64 mixed(u64 x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

DEVICE float unit_of(u64 bits) { return static_cast<float>(bits >> 40) / 8388608.0f - 1.0f; }

template <class E> DEVICE void fill_numbers(const Fill &p)
{
    const u64 stride = 1ull * gridDim.x * blockDim.x;
    for (u64 i = 1ull * blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += stride) {
        static_cast<E *>(p.out)[i] = from_float<E>(p.middle + p.reach * unit_of(mixed(p.seed ^ mixed(i))));
    }
}

// Bytes as they come (levels); with a reach, bytes of -127 to 127.
DEVICE void fill_with_bytes(const Fill &p)
{
    const u64 stride = 1ull * gridDim.x * blockDim.x;
    for (u64 i = 1ull * blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += stride) {
        const u64 bits = mixed(p.seed ^ mixed(i));
        const unsigned char byte = bits & 0xff;
        static_cast<unsigned char *>(p.out)[i] = p.reach > 0.0f && byte == 0x80 ? 0x81 : byte;
    }
}

// The same f16 number everywhere: scales. `middle` holds its bits.
DEVICE void fill_with_halves(const Fill &p)
{
    const u64 stride = 1ull * gridDim.x * blockDim.x;
    for (u64 i = 1ull * blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += stride) {
        static_cast<unsigned short *>(p.out)[i] = static_cast<unsigned short>(p.seed);
    }
}
