// Normalisations and mixes with the previous token.
#pragma once
#include "params.cuh"

// Rows of up to 8192 columns, four columns a thread, once or twice.
constexpr int NORM_THREADS_MAX = 1024;
constexpr int TURNS = 2;

// One row's share of a thread.
struct Share {
    float v[TURNS][4];
};

DEVICE int column_of(int turn) { return (turn * blockDim.x + threadIdx.x) * 4; }

template <class In> DEVICE Share load_share(const In *row, int width)
{
    Share share = {};
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        if (row && column_of(turn) < width) {
            load_floats(row + column_of(turn), share.v[turn]);
        }
    }
    return share;
}

// Normalises two rows at once; what lies beyond their end stays 0.
DEVICE void normalise(Share &a, Share &b, const Share &weight, const Share &bias, int width, float epsilon,
                      float (&scratch)[2][2][WARP])
{
    float sum_a = 0.0f, sum_b = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum_a += a.v[turn][i], sum_b += b.v[turn][i];
        }
    }
    block_sums(sum_a, sum_b, scratch[0]);
    const float mean_a = sum_a / width, mean_b = sum_b / width;
    float squares_a = 0.0f, squares_b = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const bool valid = column_of(turn) < width;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a.v[turn][i] = valid ? a.v[turn][i] - mean_a : 0.0f;
            b.v[turn][i] = valid ? b.v[turn][i] - mean_b : 0.0f;
            squares_a += a.v[turn][i] * a.v[turn][i], squares_b += b.v[turn][i] * b.v[turn][i];
        }
    }
    block_sums(squares_a, squares_b, scratch[1]);
    const float scale_a = rsqrtf(squares_a / width + epsilon), scale_b = rsqrtf(squares_b / width + epsilon);
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a.v[turn][i] = a.v[turn][i] * scale_a * weight.v[turn][i] + bias.v[turn][i];
            b.v[turn][i] = b.v[turn][i] * scale_b * weight.v[turn][i] + bias.v[turn][i];
        }
    }
}

template <class E> DEVICE void embed(const Embed &p)
{
    SHARED float scratch[2][2][WARP];
    release_next();
    const Share weight = load_share(p.weight, p.width), bias = load_share(p.bias, p.width);
    wait_previous();
    const long long row = blockIdx.x;
    Share x = load_share(static_cast<const E *>(p.table) + static_cast<long long>(p.tokens[row]) * p.width, p.width);
    if (p.weight) {
        Share none = {};
        normalise(x, none, weight, bias, p.width, p.epsilon, scratch);
    }
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        store_four<float>(p.x, 0, row * p.width + column_of(turn), x.v[turn], column_of(turn) < p.width);
    }
}

template <class E> DEVICE void ln_mix(const LnMix &p)
{
    SHARED float scratch[2][2][WARP];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const Share weight = load_share(p.weight, p.width), bias = load_share(p.bias, p.width);
    const Share maa0 = load_share(p.maa[0], p.width), maa1 = load_share(p.maa[1], p.width);
    wait_previous();
    const long long row = blockIdx.x, at = row * p.width, all = static_cast<long long>(p.rows) * p.width;
    const int starts = p.starts[row];
    Share now = load_share(p.x + at, p.width);
    // A sequence's first row has its predecessor, normalised already, in the state.
    const Share kept = load_share(starts >= 0 ? p.states[starts] + p.shift : nullptr, p.width);
    Share before = load_share(starts >= 0 ? nullptr : p.x + at - p.width, p.width);
    normalise(now, before, weight, bias, p.width, p.epsilon, scratch);
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int column = column_of(turn);
        float first[4], second[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float xx = now.v[turn][i];
            const float off = (starts >= 0 ? kept.v[turn][i] : before.v[turn][i]) - xx;
            first[i] = xx + off * maa0.v[turn][i], second[i] = xx + off * maa1.v[turn][i];
        }
        const bool valid = column < p.width;
        store_four<float>(p.normed, 0, at + column, now.v[turn], valid);
        store_four<E>(p.out[0], all, at + column, first, valid);
        if (p.out[1]) {
            store_four<E>(p.out[1], all, at + column, second, valid);
        }
    }
}

// Two columns a thread, `ROWS` rows a block; blockIdx.y is one of the five mixes, of which the first, w, is not written
// as int8 but as f32: its product is with dense weights.
constexpr int LERP_THREADS = 64;

DEVICE float2 load_two(const float *at) { return *reinterpret_cast<const float2 *>(at); }
DEVICE float2 load_two(const bf16 *at)
{
    const unsigned word = *reinterpret_cast<const unsigned *>(at);
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}

// For int8 eight lanes write theirs together, all lanes taking part.
template <class E> DEVICE void store_two(void *out, long long, long long at, float a, float b, bool valid)
{
    if (valid) {
        static_cast<E *>(out)[at] = from_float<E>(a);
        static_cast<E *>(out)[at + 1] = from_float<E>(b);
    }
}
template <> DEVICE void store_two<int8>(void *out, long long all, long long at, float a, float b, bool valid)
{
    float largest = valid ? fmaxf(fabsf(a), fabsf(b)) : 0.0f;
#pragma unroll
    for (int step = SCALED / 4; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, step));
    }
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    if (valid) {
        signed char *levels = static_cast<signed char *>(out) + at;
        levels[0] = static_cast<signed char>(__float2int_rn(a * inverse));
        levels[1] = static_cast<signed char>(__float2int_rn(b * inverse));
        if (threadIdx.x % (SCALED / 2) == 0) {
            *scale_at(out, all, at) = largest / 127.0f;
        }
    }
}

// Of the low-rank mix, taken at once: with one row all that is to be read is under way, with eight registers are short.
template <int ROWS> constexpr int RANK_PIECES = ROWS == 1 ? 32 : 8;

template <class W, class E, int ROWS> DEVICE void lerp(const Lerp &p)
{
    constexpr int RANK_PIECE = RANK_PIECES<ROWS>;
    SHARED __align__(16) float low[RANK_PIECE][ROWS < 4 ? 4 : ROWS];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const int columns = (p.width / 2 + LERP_THREADS - 1) / LERP_THREADS;
    const int c = blockIdx.y, tile = blockIdx.x / columns;
    const int column = (static_cast<int>(blockIdx.x) % columns * LERP_THREADS + threadIdx.x) * 2;
    const bool valid = column < p.width;
    const int own = valid ? column : 0, row0 = tile * ROWS;
    const W *up = static_cast<const W *>(p.up) + static_cast<long long>(c) * p.rank * p.width + own;
    const float2 maa = load_two(p.maa + c * p.width + own);
    float sums[ROWS][2] = {};
    for (int first = 0; first < p.rank; first += RANK_PIECE) {
        float2 weights[RANK_PIECE];
#pragma unroll
        for (int j = 0; j < RANK_PIECE; j++) {
            weights[j] = make_float2(0.0f, 0.0f);
            if (first + j < p.rank) {
                weights[j] = load_two(up + static_cast<long long>(first + j) * p.width);
            }
        }
        if (first == 0) {
            wait_previous();
        }
        __syncthreads();
        for (int i = threadIdx.x; i < ROWS * RANK_PIECE; i += LERP_THREADS) {
            const int r = i / RANK_PIECE, j = i % RANK_PIECE;
            float z = 0.0f;
            if (row0 + r < p.rows && first + j < p.rank) {
                z = p.low[(static_cast<long long>(row0 + r) * 5 + c) * p.rank + first + j];
            }
            low[j][r] = p.tanh_low ? tanhf(z) : z;
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < RANK_PIECE; j++) {
            float z[ROWS < 4 ? 4 : ROWS];
            load_floats(low[j], z);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                sums[r][0] += z[r] * weights[j].x;
                sums[r][1] += z[r] * weights[j].y;
            }
        }
    }
    const long long all = static_cast<long long>(p.rows) * p.width;
    // A part of `out` has room for f32 whatever is written, where int8 is.
    constexpr int BYTES = sizeof(E) == 1 ? 4 : sizeof(E);
    unsigned char *out = static_cast<unsigned char *>(p.out) + c * all * BYTES;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = row0 + r;
        if (row >= p.rows) {
            break;
        }
        const long long at = static_cast<long long>(row) * p.width + own;
        const int starts = p.starts[row];
        const float2 previous = load_two(starts >= 0 ? p.states[starts] + p.shift + own : p.normed + at - p.width);
        const float2 xx = load_two(p.normed + at);
        const float a = xx.x + (previous.x - xx.x) * (maa.x + sums[r][0]);
        const float b = xx.y + (previous.y - xx.y) * (maa.y + sums[r][1]);
        if (sizeof(E) == 1 && c == 0) {
            store_two<float>(out, all, at, a, b, valid);
        } else {
            store_two<E>(out, all, at, a, b, valid);
        }
    }
}

// Four columns of a row a thread, all five mixes.
template <class E> DEVICE void mix_rows(const MixRows &p)
{
    release_next();
    wait_previous();
    const long long row = blockIdx.x, at = row * p.width, all = static_cast<long long>(p.rows) * p.width;
    const int starts = p.starts[row];
    const float *before = starts >= 0 ? p.states[starts] + p.shift : p.normed + at - p.width;
    for (int column = threadIdx.x * 4; column < p.width; column += blockDim.x * 4) {
        float now[4], off[4];
        load_floats(p.normed + at + column, now);
        load_floats(before + column, off);
#pragma unroll
        for (int c = 0; c < 5; c++) {
            E *out = static_cast<E *>(p.out) + c * all + at + column;
            float sums[4], maa[4];
            load_floats(out, sums);
            load_floats(p.maa + c * p.width + column, maa);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sums[i] = now[i] + (off[i] - now[i]) * (maa[i] + sums[i]);
            }
            store_four<E>(out, 0, 0, sums, true);
        }
    }
}

template <class E> DEVICE void last_norm(const LastNorm &p)
{
    SHARED float scratch[2][2][WARP];
    release_next();
    const Share weight = load_share(p.weight, p.width), bias = load_share(p.bias, p.width);
    wait_previous();
    const long long row = blockIdx.x;
    Share x = load_share(p.x + static_cast<long long>(p.wanted[row]) * p.width, p.width), none = {};
    normalise(x, none, weight, bias, p.width, p.epsilon, scratch);
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int column = column_of(turn);
        store_four<E>(p.out, static_cast<long long>(p.rows) * p.width, row * p.width + column, x.v[turn],
                      column < p.width);
    }
}

template <class E> DEVICE void combine(const Combine &p)
{
    const long long row = blockIdx.x, at = row * p.width;
    const int ends = p.ends[row];
    release_next();
    wait_previous();
    for (int i = threadIdx.x * 4; i < p.width; i += blockDim.x * 4) {
        if (p.gate) {
            float gate[4], value[4], x[4];
            load_floats(static_cast<const E *>(p.gate) + at + i, gate);
            load_floats(static_cast<const E *>(p.value) + at + i, value);
            load_floats(p.x + at + i, x);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                x[j] += sigmoid(gate[j]) * value[j];
            }
            store_floats(p.x + at + i, x);
        }
        if (ends >= 0) {
            *reinterpret_cast<float4 *>(p.states[ends] + p.shift + i) =
                *reinterpret_cast<const float4 *>(p.normed + at + i);
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

enum Function { OF_TANH, OF_SIGMOID };

template <class E, Function F> DEVICE void map_of(const Map &p)
{
    release_next();
    wait_previous();
    const float *in = static_cast<const float *>(p.in);
    E *out = static_cast<E *>(p.out);
    for (long long i = 1ll * blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += 1ll * gridDim.x * blockDim.x) {
        out[i] = from_float<E>(F == OF_TANH ? tanhf(in[i]) : sigmoid(in[i]));
    }
}
