// Products of few inputs (one to eight) with a weight matrix: bound by the speed at which weights are read.
//
// A warp computes two rows of the matrix at a time for all inputs; several 16-byte loads a lane are under way before
// the first is used, the first of them before the kernel ahead has ended. Quantised weights meet inputs quantised to
// int8 in blocks of 32 columns, as on the CPU, and are multiplied as integers.
#pragma once
#include "params.cuh"

constexpr int GEMV_THREADS = 256;
constexpr int GEMV_WARPS = GEMV_THREADS / WARP;
constexpr int ROWS_AT_ONCE = 2;
constexpr int INPUT_BLOCK = 32;

DEVICE void finish(const Gemv &p, const GemvJob &job, int input, int row, float sum, bool elements_are_bf16)
{
    const long long at = static_cast<long long>(input) * job.rows + row;
    float *out = static_cast<float *>(job.out);
    switch (job.epilogue) {
    case STORE:
        out[at] = sum;
        break;
    case TANH:
        out[at] = tanhf(sum);
        break;
    case RELU2: {
        const float positive = fmaxf(sum, 0.0f);
        if (elements_are_bf16) {
            static_cast<bf16 *>(job.out)[at] = from_float<bf16>(positive * positive);
        } else {
            out[at] = positive * positive;
        }
        break;
    }
    case SIGMOID:
        out[at] = sigmoid(sum);
        break;
    case ADD:
        out[at] += sum;
        break;
    default:
        out[at] += job.gate[at] * sum;
        p.states[input][p.shift + row] = p.normed[at];
    }
}

// Adds up every lane's sums; lane `i` then finishes the i-th of them.
template <int B> DEVICE void reduce(const Gemv &p, const GemvJob &job, int row0, float (&sums)[ROWS_AT_ONCE][B],
                                    bool elements_are_bf16)
{
    const int lane = threadIdx.x % WARP;
    float own = 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
#pragma unroll
        for (int b = 0; b < B; b++) {
            const float sum = warp_sum(sums[r][b]);
            if (lane == r * B + b) {
                own = sum;
            }
        }
    }
    const int row = row0 + lane / B, input = lane % B;
    if (lane < ROWS_AT_ONCE * B && row < job.rows && input < p.batch) {
        finish(p, job, input, row, own, elements_are_bf16);
    }
}

DEVICE const GemvJob &find_job(const Gemv &p)
{
    int index = 0;
    for (int i = 1; i < p.job_count; i++) {
        if (static_cast<int>(blockIdx.x) >= p.jobs[i].first) {
            index = i;
        }
    }
    return p.jobs[index];
}

// Weights are read once: they need not stay in the cache of a multiprocessor.
DEVICE uint4 load_once(const void *at)
{
#ifndef EMULATED
    return __ldcs(static_cast<const uint4 *>(at));
#else
    return *static_cast<const uint4 *>(at);
#endif
}

DEVICE void unpack(const uint4 &v, float (&out)[4])
{
    out[0] = __uint_as_float(v.x), out[1] = __uint_as_float(v.y);
    out[2] = __uint_as_float(v.z), out[3] = __uint_as_float(v.w);
}

DEVICE void unpack(const uint4 &v, float (&out)[8])
{
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
    unpack_bf16<8>(words, out);
}

// One job with f32 or bf16 weights.
template <class W, class X, int B> DEVICE void dense_job(const Gemv &p, const GemvJob &job)
{
    constexpr int EACH = 16 / sizeof(W), STEP = WARP * EACH, DEPTH = 4;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int groups = (job.rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, stride = job.blocks * GEMV_WARPS;
    const W *weights = static_cast<const W *>(job.weights);
    const X *x = static_cast<const X *>(job.x);
    bool waited = false;
    for (int group = (blockIdx.x - job.first) * GEMV_WARPS + warp; group < groups; group += stride) {
        const int row0 = group * ROWS_AT_ONCE;
        float sums[ROWS_AT_ONCE][B] = {};
        for (int start = lane * EACH; start - lane * EACH < p.cols; start += STEP * DEPTH) {
            uint4 loaded[DEPTH][ROWS_AT_ONCE];
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
#pragma unroll
                for (int r = 0; r < ROWS_AT_ONCE; r++) {
                    const int column = start + d * STEP, row = min(row0 + r, job.rows - 1);
                    loaded[d][r] = make_uint4(0, 0, 0, 0);
                    if (column < p.cols) {
                        loaded[d][r] = load_once(weights + static_cast<long long>(row) * p.cols + column);
                    }
                }
            }
            if (!waited) {
                wait_previous();
                waited = true;
            }
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                const int column = start + d * STEP;
                if (column >= p.cols) {
                    continue;
                }
                float w[ROWS_AT_ONCE][EACH];
#pragma unroll
                for (int r = 0; r < ROWS_AT_ONCE; r++) {
                    unpack(loaded[d][r], w[r]);
                }
#pragma unroll
                for (int b = 0; b < B; b++) {
                    float in[EACH];
                    load_floats(x + static_cast<long long>(min(b, p.batch - 1)) * p.cols + column, in);
#pragma unroll
                    for (int e = 0; e < EACH; e++) {
#pragma unroll
                        for (int r = 0; r < ROWS_AT_ONCE; r++) {
                            sums[r][b] += w[r][e] * in[e];
                        }
                    }
                }
            }
        }
        reduce<B>(p, job, row0, sums, sizeof(X) == 2);
    }
    if (!waited) {
        wait_previous();
    }
}

template <class W, class X, int B> DEVICE void gemv_dense(const Gemv &p)
{
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    dense_job<W, X, B>(p, find_job(p));
}

// ---- quantised

enum QuantFormat { INT8, INT4, NF4 };

// Weights in 16 bytes.
template <QuantFormat F> constexpr int EACH_OF = F == INT8 ? 16 : 32;

DEVICE int dot4(int a, int b, int c)
{
#ifndef EMULATED
    return __dp4a(a, b, c);
#else
    return emulated_dot4(a, b, c);
#endif
}

// The levels of 8 columns: a word's nibbles in the columns' order (nf4), or those of columns 0 to 3 low and 4 to 7 high
// in its bytes (int4).
DEVICE void levels_of_nf4(unsigned word, int &low, int &high)
{
    // The levels of matrix.rs less 128, four to a word.
    constexpr unsigned T0 = 0xcebda881u, T1 = 0x00f4e9dcu, T2 = 0x2b1f140au, T3 = 0x7f5c4738u;
    const unsigned names = word & 0x77777777u, side = ((word >> 1) & 0x44444444u) | 0x32103210u;
    low = __byte_perm(__byte_perm(T0, T1, names), __byte_perm(T2, T3, names), side);
    high = __byte_perm(__byte_perm(T0, T1, names >> 16), __byte_perm(T2, T3, names >> 16), side >> 16);
}

DEVICE void levels_of_int4(unsigned word, int &low, int &high)
{
    low = word & 0x0f0f0f0fu;
    high = (word >> 4) & 0x0f0f0f0fu;
}

// Inputs as int8 levels [B][K] and scales [B][K / INPUT_BLOCK] in shared memory; eight columns a thread.
template <int B> DEVICE void quantise_inputs(const Gemv &p, const float *x, signed char *levels, float *scales)
{
    const int units = p.cols / 8, all = p.batch * units;
    for (int base = 0; base < all; base += GEMV_THREADS) {
        const int unit = base + threadIdx.x;
        float values[8] = {};
        if (unit < all) {
            load_floats(x + static_cast<long long>(unit) * 8, values);
        }
        float largest = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            largest = fmaxf(largest, fabsf(values[i]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 2));
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        unsigned words[2] = {};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            words[i / 4] |= (static_cast<unsigned>(__float2int_rn(values[i] * inverse)) & 0xffu) << i % 4 * 8;
        }
        if (unit < all) {
            *reinterpret_cast<uint2 *>(levels + static_cast<long long>(unit) * 8) = make_uint2(words[0], words[1]);
            if (unit % 4 == 0) {
                scales[unit / 4] = largest / 127.0f;
            }
        }
    }
}

template <QuantFormat F, int B> DEVICE void quantised_job(const Gemv &p, const GemvJob &job)
{
    DYNAMIC_SHARED(shared);
    constexpr int EACH = EACH_OF<F>, STEP = WARP * EACH, DEPTH = F == INT8 ? 4 : 2;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int groups = (job.rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, stride = job.blocks * GEMV_WARPS;
    const int blocks = p.cols / job.block, input_blocks = p.cols / INPUT_BLOCK;
    const long long row_bytes = F == INT8 ? p.cols : p.cols / 2;
    const unsigned char *weights = static_cast<const unsigned char *>(job.weights);
    signed char *levels = reinterpret_cast<signed char *>(shared);
    float *input_scales = reinterpret_cast<float *>(shared + p.batch * p.cols);
    bool waited = false;
    // Every warp passes here at least once: the inputs are quantised by all of them.
    int group = (blockIdx.x - job.first) * GEMV_WARPS + warp;
    do {
        const int row0 = min(group, groups - 1) * ROWS_AT_ONCE;
        float sums[ROWS_AT_ONCE][B] = {};
        for (int first = 0; first < p.cols; first += STEP * DEPTH) {
            uint4 loaded[DEPTH][ROWS_AT_ONCE];
            unsigned short scale[DEPTH][ROWS_AT_ONCE], minimum[DEPTH][ROWS_AT_ONCE];
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
#pragma unroll
                for (int r = 0; r < ROWS_AT_ONCE; r++) {
                    const int column = first + d * STEP + lane * EACH;
                    const long long row = min(row0 + r, job.rows - 1);
                    if (column < p.cols) {
                        loaded[d][r] = load_once(weights + row * row_bytes + (F == INT8 ? column : column / 2));
                        scale[d][r] = job.scales[row * blocks + column / job.block];
                        if (F == INT4) {
                            minimum[d][r] = job.minima[row * blocks + column / job.block];
                        }
                    }
                }
            }
            if (!waited) {
                wait_previous();
                quantise_inputs<B>(p, static_cast<const float *>(job.x), levels, input_scales);
                __syncthreads();
                waited = true;
            }
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                const int column = first + d * STEP + lane * EACH;
                if (column >= p.cols) {
                    continue;
                }
                int w[ROWS_AT_ONCE][EACH / 4];
                float factor[ROWS_AT_ONCE], offset[ROWS_AT_ONCE];
#pragma unroll
                for (int r = 0; r < ROWS_AT_ONCE; r++) {
                    const unsigned words[4] = {loaded[d][r].x, loaded[d][r].y, loaded[d][r].z, loaded[d][r].w};
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        if (F == INT8) {
                            w[r][i] = words[i];
                        } else if (F == INT4) {
                            levels_of_int4(words[i], w[r][2 * i], w[r][2 * i + 1]);
                        } else {
                            levels_of_nf4(words[i], w[r][2 * i], w[r][2 * i + 1]);
                        }
                    }
                    factor[r] = half_to_float(scale[d][r]);
                    offset[r] = F == INT4 ? half_to_float(minimum[d][r]) : 0.0f;
                }
#pragma unroll
                for (int b = 0; b < B; b++) {
                    const int input = min(b, p.batch - 1);
                    const int4 *in = reinterpret_cast<const int4 *>(levels + input * p.cols + column);
                    const float input_scale = input_scales[input * input_blocks + column / INPUT_BLOCK];
                    int dots[ROWS_AT_ONCE] = {}, total = 0;
#pragma unroll
                    for (int i = 0; i < EACH / 16; i++) {
                        const int4 v = in[i];
                        const int words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            if (F == INT4) {
                                total = dot4(0x01010101, words[j], total);
                            }
#pragma unroll
                            for (int r = 0; r < ROWS_AT_ONCE; r++) {
                                dots[r] = dot4(w[r][4 * i + j], words[j], dots[r]);
                            }
                        }
                    }
#pragma unroll
                    for (int r = 0; r < ROWS_AT_ONCE; r++) {
                        float value = factor[r] * static_cast<float>(dots[r]);
                        if (F == INT4) {
                            value += offset[r] * static_cast<float>(total);
                        }
                        sums[r][b] += input_scale * value;
                    }
                }
            }
        }
        if (group < groups) {
            reduce<B>(p, job, row0, sums, false);
        }
        group += stride;
    } while (group < groups);
}

template <QuantFormat F, int B> DEVICE void gemv_quantised(const Gemv &p)
{
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const GemvJob &job = find_job(p);
    if (job.dense) {
        dense_job<bf16, float, B>(p, job);
    } else {
        quantised_job<F, B>(p, job);
    }
}

// ---- for many inputs

// Four columns a thread.
template <QuantFormat F> DEVICE void dequantise(const Dequantise &p)
{
    release_next();
    wait_previous();
    const long long all = p.rows * (p.cols / 8), stride = 1ll * gridDim.x * blockDim.x;
    for (long long unit = 1ll * blockIdx.x * blockDim.x + threadIdx.x; unit < all; unit += stride) {
        const long long row = unit / (p.cols / 8);
        const int column = static_cast<int>(unit % (p.cols / 8)) * 8;
        const long long block = row * (p.cols / p.block) + column / p.block;
        const float scale = half_to_float(p.scales[block]);
        int low, high;
        float offset = 0.0f;
        if (F == INT8) {
            const uint2 words = static_cast<const uint2 *>(p.levels)[unit];
            low = words.x, high = words.y;
        } else {
            const unsigned word = static_cast<const unsigned *>(p.levels)[unit];
            if (F == INT4) {
                levels_of_int4(word, low, high);
                offset = half_to_float(p.minima[block]);
            } else {
                levels_of_nf4(word, low, high);
            }
        }
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int level = static_cast<signed char>((i < 4 ? low : high) >> i % 4 * 8);
            values[i] = scale * static_cast<float>(level) + offset;
        }
        store_floats(p.out + unit * 8, values);
    }
}
