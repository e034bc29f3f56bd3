// Products of few inputs (one to eight) with a weight matrix: bound by the speed at which weights are read.
//
// A block computes some rows of the matrix for all inputs. `split` of its eight warps share a row: each takes every
// `split`-th piece of it, one 16-byte load a lane and row, all rows' loads under way before the first is used, the first
// ones before the kernel ahead has ended. Quantised weights meet inputs that are int8 too, in blocks of 16 columns, and
// are multiplied as integers.
#pragma once
#include "params.cuh"

constexpr int GEMV_THREADS = 256;
constexpr int GEMV_WARPS = GEMV_THREADS / WARP;
// Rows of a warp by the number of inputs; forward.rs has the same.
template <int B> constexpr int ROWS_OF = B <= 2 ? 8 : 4;
// Blocks that a multiprocessor is to hold: as many as leave the registers that a thread needs.
template <int B> constexpr int RESIDENT_DENSE = B == 1 ? 4 : B == 2 ? 3 : 2;
template <int B> constexpr int RESIDENT_QUANTISED = B <= 4 ? 2 : 1;

// Finishes one output; all lanes take part, 16 beside each other have rows beside each other.
template <class E> DEVICE void finish(const Gemv &p, const GemvJob &job, int input, int row, float sum, bool valid)
{
    const long long at = static_cast<long long>(input) * job.rows + row;
    float *out = static_cast<float *>(job.out);
    if (job.epilogue == RELU2) {
        const float positive = fmaxf(sum, 0.0f);
        store_one<E>(job.out, static_cast<long long>(p.batch) * job.rows, at, positive * positive, valid);
        return;
    }
    if (!valid) {
        return;
    }
    switch (job.epilogue) {
    case STORE:
        out[at] = sum;
        break;
    case TANH:
        out[at] = tanhf(sum);
        break;
    case SIGMOID:
        out[at] = sigmoid(sum);
        break;
    case ADD:
        out[at] += sum;
        break;
    default:
        out[at] += job.epilogue == ADD_GATED ? job.gate[at] * sum : sum;
        p.states[input][p.shift + row] = p.normed[at];
    }
}

// Lanes swap halves of N values until each has one, added up over the lanes that had it.
template <int N, int MASK, int ALL_OF> DEVICE void swap_halves(float (&values)[ALL_OF])
{
    if constexpr (N > 1) {
        const bool upper = threadIdx.x & MASK;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float given = upper ? values[i] : values[i + N / 2];
            values[i] = (upper ? values[i + N / 2] : values[i]) + __shfl_xor_sync(ALL, given, MASK);
        }
        swap_halves<N / 2, MASK / 2>(values);
    }
}

// Adds up N values over the lanes; lane `i * WARP / N` and those after it end with the i-th sum.
template <int N> DEVICE float scatter_sums(float (&values)[N])
{
    swap_halves<N, WARP / 2>(values);
    float sum = values[0];
#pragma unroll
    for (int mask = WARP / N / 2; mask > 0; mask /= 2) {
        sum += __shfl_xor_sync(ALL, sum, mask);
    }
    return sum;
}

// Adds up the warps' sums and finishes the block's outputs.
template <class E, int B>
DEVICE void finish_block(const Gemv &p, const GemvJob &job, int row0, float (&sums)[ROWS_OF<B> * B])
{
    constexpr int R = ROWS_OF<B>, N = R * B;
    SHARED float partial[GEMV_WARPS][N];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const float own = scatter_sums<N>(sums);
    if (lane % (WARP / N) == 0) {
        partial[warp][lane / (WARP / N)] = own;
    }
    __syncthreads();
    const int rows = GEMV_WARPS / job.split * R;
    for (int base = 0; base < rows * B; base += GEMV_THREADS) {
        const int index = base + threadIdx.x, input = index / rows, row = index % rows;
        const bool valid = index < rows * B && row0 + row < job.rows && input < p.batch;
        float sum = 0.0f;
        if (valid) {
            for (int part = 0; part < job.split; part++) {
                sum += partial[row / R * job.split + part][row % R * B + input];
            }
        }
        // Whole warps leave together.
        if (base + warp * WARP < rows * B) {
            finish<E>(p, job, input, row0 + row, sum, valid);
        }
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

// The first row of the block and of the warp in a job, and which share of rows the warp has.
struct Place {
    int block_row, row, part;
};

template <int B> DEVICE Place place_of(const GemvJob &job)
{
    const int warp = threadIdx.x / WARP, rows = GEMV_WARPS / job.split * ROWS_OF<B>;
    const int block_row = (static_cast<int>(blockIdx.x) - job.first) * rows;
    return {block_row, block_row + warp / job.split * ROWS_OF<B>, warp % job.split};
}

// One job with f32 or bf16 weights; E is what RELU2 writes.
template <class W, class X, class E, int B> DEVICE void dense_job(const Gemv &p, const GemvJob &job)
{
    constexpr int R = ROWS_OF<B>, EACH = 16 / sizeof(W), PIECE = WARP * EACH;
    const int lane = threadIdx.x % WARP;
    const Place place = place_of<B>(job);
    const W *weights = static_cast<const W *>(job.weights);
    const X *x = static_cast<const X *>(job.x);
    float sums[R * B] = {};
    bool waited = false;
    for (int piece = place.part * PIECE; piece < p.cols; piece += job.split * PIECE) {
        const int column = piece + lane * EACH;
        const bool inside = column < p.cols;
        uint4 loaded[R];
#pragma unroll
        for (int r = 0; r < R; r++) {
            const int row = min(place.row + r, job.rows - 1);
            loaded[r] = make_uint4(0, 0, 0, 0);
            if (inside) {
                loaded[r] = load_once(weights + static_cast<long long>(row) * p.cols + column);
            }
        }
        if (!waited) {
            wait_previous();
            waited = true;
        }
        if (!inside) {
            continue;
        }
        float in[B][EACH];
#pragma unroll
        for (int b = 0; b < B; b++) {
            load_floats(x + static_cast<long long>(min(b, p.batch - 1)) * p.cols + column, in[b]);
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            float w[EACH];
            unpack(loaded[r], w);
#pragma unroll
            for (int b = 0; b < B; b++) {
#pragma unroll
                for (int e = 0; e < EACH; e++) {
                    sums[r * B + b] += w[e] * in[b][e];
                }
            }
        }
    }
    if (!waited) {
        wait_previous();
    }
    finish_block<E, B>(p, job, place.block_row, sums);
}

template <class W, class X, int B> DEVICE void gemv_dense(const Gemv &p)
{
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    dense_job<W, X, X, B>(p, find_job(p));
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

template <QuantFormat F, int B> DEVICE void quantised_job(const Gemv &p, const GemvJob &job)
{
    constexpr int R = ROWS_OF<B>, EACH = EACH_OF<F>, PIECE = WARP * EACH;
    const int lane = threadIdx.x % WARP;
    const Place place = place_of<B>(job);
    const int blocks = p.cols / job.block;
    const long long row_bytes = F == INT8 ? p.cols : p.cols / 2;
    const unsigned char *weights = static_cast<const unsigned char *>(job.weights);
    const signed char *levels = static_cast<const signed char *>(job.x);
    const float *scales = reinterpret_cast<const float *>(levels + static_cast<long long>(p.batch) * p.cols);
    float sums[R * B] = {};
    bool waited = false;
    for (int piece = place.part * PIECE; piece < p.cols; piece += job.split * PIECE) {
        const int column = piece + lane * EACH;
        const bool inside = column < p.cols;
        uint4 loaded[R];
        unsigned short scale[R] = {}, minimum[R] = {};
#pragma unroll
        for (int r = 0; r < R; r++) {
            const long long row = min(place.row + r, job.rows - 1);
            loaded[r] = make_uint4(0, 0, 0, 0);
            if (inside) {
                loaded[r] = load_once(weights + row * row_bytes + (F == INT8 ? column : column / 2));
                scale[r] = job.scales[row * blocks + column / job.block];
                if (F == INT4) {
                    minimum[r] = job.minima[row * blocks + column / job.block];
                }
            }
        }
        if (!waited) {
            wait_previous();
            waited = true;
        }
        if (!inside) {
            continue;
        }
#pragma unroll
        for (int b = 0; b < B; b++) {
            const int input = min(b, p.batch - 1);
            const int4 *in = reinterpret_cast<const int4 *>(levels + static_cast<long long>(input) * p.cols + column);
            const float *in_scales = scales + (static_cast<long long>(input) * p.cols + column) / SCALED;
            int x[EACH / 4];
            float x_scale[EACH / SCALED], x_sum = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH / 16; i++) {
                const int4 v = in[i];
                x[4 * i] = v.x, x[4 * i + 1] = v.y, x[4 * i + 2] = v.z, x[4 * i + 3] = v.w;
                x_scale[i] = in_scales[i];
                if (F == INT4) {
                    int total = 0;
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        total = dot4(0x01010101, x[4 * i + j], total);
                    }
                    x_sum += x_scale[i] * static_cast<float>(total);
                }
            }
#pragma unroll
            for (int r = 0; r < R; r++) {
                const unsigned words[4] = {loaded[r].x, loaded[r].y, loaded[r].z, loaded[r].w};
                int w[EACH / 4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (F == INT8) {
                        w[i] = words[i];
                    } else if (F == INT4) {
                        levels_of_int4(words[i], w[2 * i], w[2 * i + 1]);
                    } else {
                        levels_of_nf4(words[i], w[2 * i], w[2 * i + 1]);
                    }
                }
                float value = 0.0f;
#pragma unroll
                for (int i = 0; i < EACH / 16; i++) {
                    int dot = 0;
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        dot = dot4(w[4 * i + j], x[4 * i + j], dot);
                    }
                    value += x_scale[i] * static_cast<float>(dot);
                }
                sums[r * B + b] += half_to_float(scale[r]) * value;
                if (F == INT4) {
                    sums[r * B + b] += half_to_float(minimum[r]) * x_sum;
                }
            }
        }
    }
    if (!waited) {
        wait_previous();
    }
    finish_block<int8, B>(p, job, place.block_row, sums);
}

template <QuantFormat F, int B> DEVICE void gemv_quantised(const Gemv &p)
{
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const GemvJob &job = find_job(p);
    if (job.dense) {
        dense_job<bf16, float, int8, B>(p, job);
    } else {
        quantised_job<F, B>(p, job);
    }
}

// ---- for many inputs

// Eight columns a thread.
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
