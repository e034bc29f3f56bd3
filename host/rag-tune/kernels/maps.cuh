// What is computed value by value, and the gate with its normalisation within heads: a thread eight values.
#pragma once

#include "args.cuh"

constexpr int MAP_THREADS = 256;

DEVICE long long map_at() { return (static_cast<long long>(blockIdx.x) * MAP_THREADS + threadIdx.x) * 8; }
// Of n[0], n[1] = values modulo and divided by 2^30.
DEVICE long long count_of(const Args &p) { return static_cast<long long>(p.n[1]) * (1 << 30) + p.n[0]; }

// 0 x T, which becomes tanh(x).
template <class T> DEVICE void tanh_all(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8];
        load8(p.to<T>(0) + at, x);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            x[e] = tanhf(x[e]);
        }
        store8(p.to<T>(0) + at, x);
    }
}

// 0 the derivative by tanh, T, which becomes that before it; 1 tanh's value z, T: · (1 − z²).
template <class T> DEVICE void tanh_back(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float by[8], z[8];
        load8(p.to<T>(0) + at, by), load8(p.to<T>(1) + at, z);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            by[e] *= 1.0f - z[e] * z[e];
        }
        store8(p.to<T>(0) + at, by);
    }
}

// 0 f32, which becomes e^(itself + 1 w0 [D]): the rate of decay, −log w. n[2]: D.
DEVICE void rate(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8], w0[8];
        load8(p.to<float>(0) + at, x), load8(p.to<float>(1) + at % p.n[2], w0);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            x[e] = expf(x[e] + w0[e]);
        }
        store8(p.to<float>(0) + at, x);
    }
}

// 0 x T, 1 out T: relu(x)².
template <class T> DEVICE void square(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8];
        load8(p.to<T>(0) + at, x);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float positive = fmaxf(x[e], 0.0f);
            x[e] = positive * positive;
        }
        store8(p.to<T>(1) + at, x);
    }
}

// 0 the derivative by relu(x)², T, which becomes that by x; 1 x T.
template <class T> DEVICE void square_back(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float by[8], x[8];
        load8(p.to<T>(0) + at, by), load8(p.to<T>(1) + at, x);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            by[e] *= 2.0f * fmaxf(x[e], 0.0f);
        }
        store8(p.to<T>(0) + at, by);
    }
}

// 0 x f32, 1 r T, 2 v T, 3 out f32: x + sigmoid(r) · v.
template <class T> DEVICE void add_gated(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8], r[8], v[8];
        load8(p.to<float>(0) + at, x), load8(p.to<T>(1) + at, r), load8(p.to<T>(2) + at, v);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            x[e] += sigmoid(r[e]) * v[e];
        }
        store8(p.to<float>(3) + at, x);
    }
}

// 0 the derivative by sigmoid(r) · v, f32, 1 r T, 2 v T, 3 out T: by r, 4 out T: by v.
template <class T> DEVICE void gated_back(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float by[8], r[8], v[8];
        load8(p.to<float>(0) + at, by), load8(p.to<T>(1) + at, r), load8(p.to<T>(2) + at, v);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float share = sigmoid(r[e]);
            r[e] = by[e] * v[e] * share * (1.0f - share);
            v[e] = by[e] * share;
        }
        store8(p.to<T>(3) + at, r), store8(p.to<T>(4) + at, v);
    }
}

// A head's eighth of o and its moments over the whole head, by eight lanes together.
template <class T> struct HeadPart {
    float centred[8];
    float scale;

    DEVICE HeadPart(const T *o, long long at, bool valid, float eps)
    {
        float none = 0.0f, mean = 0.0f, squares = 0.0f;
        if (valid) {
            load8(o + at, centred);
        } else {
#pragma unroll
            for (int e = 0; e < 8; e++) {
                centred[e] = 0.0f;
            }
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
            mean += centred[e];
        }
        sums_of_eight(mean, none);
        mean /= 64.0f;
#pragma unroll
        for (int e = 0; e < 8; e++) {
            centred[e] -= mean;
            squares += centred[e] * centred[e];
        }
        sums_of_eight(squares, none);
        scale = rsqrtf(squares / 64.0f + eps);
    }
};

// 0 o T, 1 g T, 2 weight, 3 bias, 4 out T: groupnorm(o) · silu(g). n[2]: D. f: eps.
template <class T> DEVICE void gate(const Args &p)
{
    const long long at = map_at();
    const bool valid = at < count_of(p);
    const HeadPart<T> part(p.to<T>(0), at, valid, p.f[0]);
    if (valid) {
        float g[8], w[8], b[8];
        load8(p.to<T>(1) + at, g), load8(p.to<float>(2) + at % p.n[2], w), load8(p.to<float>(3) + at % p.n[2], b);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            g[e] = (part.centred[e] * part.scale * w[e] + b[e]) * silu(g[e]);
        }
        store8(p.to<T>(4) + at, g);
    }
}

// As `gate`, and 4 the derivative by its result, T, 5 out T: by g, 6 out T: by o.
template <class T> DEVICE void gate_back(const Args &p)
{
    const long long at = map_at();
    const bool valid = at < count_of(p);
    const HeadPart<T> part(p.to<T>(0), at, valid, p.f[0]);
    float by_norm[8] = {}, total = 0.0f, along = 0.0f;
    if (valid) {
        float g[8], w[8], b[8], by[8];
        load8(p.to<T>(1) + at, g), load8(p.to<float>(2) + at % p.n[2], w), load8(p.to<float>(3) + at % p.n[2], b);
        load8(p.to<T>(4) + at, by);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float share = sigmoid(g[e]), scaled = part.centred[e] * part.scale;
            by_norm[e] = by[e] * g[e] * share * w[e];
            total += by_norm[e], along += by_norm[e] * scaled;
            g[e] = by[e] * (scaled * w[e] + b[e]) * share * (1.0f + g[e] * (1.0f - share));
        }
        store8(p.to<T>(5) + at, g);
    }
    sums_of_eight(total, along);
    if (valid) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            by_norm[e] =
                part.scale * (by_norm[e] - total / 64.0f - part.centred[e] * part.scale * along / 64.0f);
        }
        store8(p.to<T>(6) + at, by_norm);
    }
}

// 0 from f32, 1 to bf16.
DEVICE void to_bf16(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8];
        load8(p.to<float>(0) + at, x);
        store8(p.to<bf16>(1) + at, x);
    }
}

// 0 from f32 [E], 1 to f32 [B, E], B being the blocks in y. n[2]: E.
DEVICE void repeat(const Args &p)
{
    const long long at = map_at();
    if (at < p.n[2]) {
        float x[8];
        load8(p.to<float>(0) + at, x);
        store8(p.to<float>(1) + static_cast<long long>(blockIdx.y) * p.n[2] + at, x);
    }
}

// SplitMix64's finaliser.
DEVICE unsigned long long scrambled(unsigned long long seed)
{
    unsigned long long z = seed + 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// 0 x T, 1 out T: x with a share of its values set to 0 and the others scaled; what is set to 0 depends on 2 the seed,
// 3 the layer's number and the place, as on the CPU. 4 the limit of 2³² below which a value is left out. n[2]: width.
// f: the scale of those that stay.
template <class T> DEVICE void drop(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8];
        load8(p.to<T>(0) + at, x);
        const unsigned long long row = at / p.n[2], column = at % p.n[2];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const unsigned long long place = (p.at[3] << 40 | row) << 20 ^ (column + e);
            x[e] *= scrambled(p.at[2] ^ scrambled(place)) >> 32 < p.at[4] ? 0.0f : p.f[0];
        }
        store8(p.to<T>(1) + at, x);
    }
}

// 0 to T, 1 added T.
template <class T> DEVICE void add_all(const Args &p)
{
    const long long at = map_at();
    if (at < count_of(p)) {
        float x[8], y[8];
        load8(p.to<T>(0) + at, x), load8(p.to<T>(1) + at, y);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            x[e] += y[e];
        }
        store8(p.to<T>(0) + at, x);
    }
}

// 0 x T [R, in], 1 out T [R, rank]: the sum of the blocks of `rank` values. n: in, rank. A block a row.
template <class T> DEVICE void fold(const Args &p)
{
    const T *x = p.to<T>(0) + static_cast<long long>(blockIdx.x) * p.n[0];
    for (int i = threadIdx.x; i < p.n[1]; i += blockDim.x) {
        float sum = 0.0f;
        for (int at = i; at < p.n[0]; at += p.n[1]) {
            sum += to_float(x[at]);
        }
        p.to<T>(1)[static_cast<long long>(blockIdx.x) * p.n[1] + i] = from_float<T>(sum);
    }
}

// 0 the derivative by x T [R, in], to which 1 that by `fold`, T [R, rank], is added. n: in, rank. A block a row.
template <class T> DEVICE void fold_back(const Args &p)
{
    T *x = p.to<T>(0) + static_cast<long long>(blockIdx.x) * p.n[0];
    const T *by = p.to<T>(1) + static_cast<long long>(blockIdx.x) * p.n[1];
    for (int i = threadIdx.x; i < p.n[0]; i += blockDim.x) {
        x[i] = from_float<T>(to_float(x[i]) + to_float(by[i % p.n[1]]));
    }
}
