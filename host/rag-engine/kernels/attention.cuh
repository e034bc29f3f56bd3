// Attention within texts of unequal lengths that stand behind each other: a block takes 64 or 128 queries of one text and
// one head, and passes over the keys once (softmax with a running maximum: Milakov and Gimelshein 2018, arXiv:1805.02867).
//
// The product before gave queries, keys and values without their biases. A query's is added here. A key's changes all
// scores of a query alike, which softmax does not see. A value's is added to the result, since weights sum to 1.
#pragma once
#include "halves.cuh"

struct Attention {
    // [tokens, 3, heads, head size]: queries, keys, values.
    const void *qkv;
    // As one row of these.
    const float *bias;
    // [tokens, heads, head size].
    void *context;
    // Where each text starts, and one more where the last ends.
    const int *starts;
    // A text, and its first query, for each blockIdx.x.
    const int *tiles;
    int width;
    int heads;
    float scale;
};

constexpr int ATTENTION_THREADS = 128;
constexpr int ATTENTION_WARPS = ATTENTION_THREADS / WARP;
// Queries of a block for each set, and keys at a time.
constexpr int TILE = 64;
constexpr float LOG2_E = 1.44269504f;

// Keys and values of a tile; eight elements more a row, so that rows of a matrix lie in different banks.
template <int D> struct Stage {
    half16 keys[TILE][D + 8];
    half16 values[TILE][D + 8];
};

// One text and head as a block sees them.
template <int D> struct View {
    const half16 *base;
    int stride;
    int width;
    int length;

    // Brings keys and values from `key` on; beyond the end zeros.
    DEVICE void fetch(Stage<D> &stage, int key) const
    {
        constexpr int PIECES = D / 8;
        for (int i = threadIdx.x; i < TILE * PIECES; i += ATTENTION_THREADS) {
            const int row = i / PIECES, column = i % PIECES * 8;
            const bool there = key + row < length;
            const half16 *from = base + static_cast<long long>(there ? key + row : 0) * stride + width + column;
            copy_16(&stage.keys[row][column], from, there);
            copy_16(&stage.values[row][column], from + width, there);
        }
        copies_queued();
    }
};

// 16 queries of a warp: their halves, scores of a tile, and what they have so far. A lane holds two rows, and of each
// eight columns the pair from lane % 4 * 2 on.
template <int D> struct Queries {
    unsigned halves[D / 16][4];
    float scores[TILE / 8][4];
    float high[2], sums[2];
    float context[D / 8][4];

    // Scaled for powers of two, with their bias; beyond the end zeros.
    DEVICE void load(const Attention &p, const View<D> &view, int own)
    {
        const int pair = threadIdx.x % 4 * 2;
        const float scale = p.scale * LOG2_E;
#pragma unroll
        for (int part = 0; part < D / 16 * 4; part++) {
            const int query = own + part % 2 * 8, column = part / 2 * 8 + pair;
            unsigned word = 0;
            if (query < view.length) {
                const long long row = static_cast<long long>(query) * view.stride;
                word = *reinterpret_cast<const unsigned *>(view.base + row + column);
            }
            const float *bias = p.bias + blockIdx.y * D + column;
            const float low = (low_half(word) + bias[0]) * scale, high_of = (high_half(word) + bias[1]) * scale;
            halves[part / 4][part % 4] = half_pair(low, high_of);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            context[n][0] = context[n][1] = context[n][2] = context[n][3] = 0.0f;
        }
        high[0] = high[1] = -INFINITY, sums[0] = sums[1] = 0.0f;
    }

    // Leaves out keys beyond the end, `there` of the tile being in the text.
    DEVICE void mask(int there)
    {
        const int pair = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < TILE / 2; i++) {
            if (i / 4 * 8 + pair + i % 2 >= there) {
                scores[i / 4][i % 4] = -INFINITY;
            }
        }
    }

    // Scores become weights, and what there is so far shrinks where a higher score came.
    DEVICE void weigh()
    {
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float higher = high[row];
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
                higher = fmaxf(higher, fmaxf(scores[n][2 * row], scores[n][2 * row + 1]));
            }
            higher = fmaxf(higher, __shfl_xor_sync(ALL, higher, 1));
            higher = fmaxf(higher, __shfl_xor_sync(ALL, higher, 2));
            const float shrink = power_of_two(high[row] - higher);
            high[row] = higher;
            float sum = sums[row] * shrink;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
                for (int i = 2 * row; i < 2 * row + 2; i++) {
                    scores[n][i] = power_of_two(scores[n][i] - higher);
                    sum += scores[n][i];
                }
            }
            sums[row] = sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                context[n][2 * row] *= shrink, context[n][2 * row + 1] *= shrink;
            }
        }
    }

    DEVICE void store(const Attention &p, const View<D> &view, int start, int own) const
    {
        const int head = blockIdx.y, pair = threadIdx.x % 4 * 2;
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float sum = sums[row];
            sum += __shfl_xor_sync(ALL, sum, 1);
            sum += __shfl_xor_sync(ALL, sum, 2);
            const int query = own + row * 8;
            if (query >= view.length) {
                continue;
            }
            half16 *out = static_cast<half16 *>(p.context) + static_cast<long long>(start + query) * p.width + head * D;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                const float *bias = p.bias + 2 * p.width + head * D + n * 8 + pair;
                const float left = context[n][2 * row] / sum + bias[0];
                const float right = context[n][2 * row + 1] / sum + bias[1];
                *reinterpret_cast<unsigned *>(out + n * 8 + pair) = half_pair(left, right);
            }
        }
    }
};

// Scores of a warp's queries against a tile's keys; what is loaded of the keys serves all of them.
template <int D, int SETS> DEVICE void score(Queries<D> (&queries)[SETS], const Stage<D> &stage)
{
    const int lane = threadIdx.x % WARP, matrix = lane / 8;
#pragma unroll
    for (int set = 0; set < SETS; set++) {
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
            float(&scores)[4] = queries[set].scores[n];
            scores[0] = scores[1] = scores[2] = scores[3] = 0.0f;
        }
    }
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
        for (int n = 0; n < TILE / 8; n += 2) {
            unsigned keys[4];
            load_matrices<false>(keys, &stage.keys[(n + matrix / 2) * 8 + lane % 8][k * 16 + matrix % 2 * 8]);
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                multiply_16_8_16(queries[set].scores[n], queries[set].halves[k], keys[0], keys[1]);
                multiply_16_8_16(queries[set].scores[n + 1], queries[set].halves[k], keys[2], keys[3]);
            }
        }
    }
}

// Adds a tile's values by their weights.
template <int D, int SETS> DEVICE void add_values(Queries<D> (&queries)[SETS], const Stage<D> &stage)
{
    const int lane = threadIdx.x % WARP, matrix = lane / 8;
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        unsigned weights[SETS][4];
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            const float(&left)[4] = queries[set].scores[2 * k], (&right)[4] = queries[set].scores[2 * k + 1];
            weights[set][0] = pair_within_halves(left[0], left[1]), weights[set][1] = pair_within_halves(left[2], left[3]);
            weights[set][2] = pair_within_halves(right[0], right[1]), weights[set][3] = pair_within_halves(right[2], right[3]);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            unsigned values[4];
            load_matrices<true>(values, &stage.values[k * 16 + matrix % 2 * 8 + lane % 8][(n + matrix / 2) * 8]);
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                multiply_16_8_16(queries[set].context[n], weights[set], values[0], values[1]);
                multiply_16_8_16(queries[set].context[n + 1], weights[set], values[2], values[3]);
            }
        }
    }
}

// A block takes 64 queries for each set.
template <int D, int SETS> DEVICE void attention_halves(const Attention &p)
{
    SHARED __align__(16) Stage<D> stages[2];
    const int text = p.tiles[2 * blockIdx.x], first = p.tiles[2 * blockIdx.x + 1];
    const int start = p.starts[text], stride = 3 * p.width;
    const half16 *base = static_cast<const half16 *>(p.qkv) + static_cast<long long>(start) * stride + blockIdx.y * D;
    const View<D> view = {base, stride, p.width, p.starts[text + 1] - start};
    view.fetch(stages[0], 0);

    const int own = first + static_cast<int>(threadIdx.x) / WARP * 16 * SETS + static_cast<int>(threadIdx.x) % WARP / 4;
    Queries<D> queries[SETS];
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        queries[set].load(p, view, own + set * 16);
    }
    for (int key = 0, now = 0; key < view.length; key += TILE, now ^= 1) {
        if (key + TILE < view.length) {
            view.fetch(stages[now ^ 1], key + TILE);
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads();
        score<D, SETS>(queries, stages[now]);
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            if (key + TILE > view.length) {
                queries[set].mask(view.length - key);
            }
            queries[set].weigh();
        }
        add_values<D, SETS>(queries, stages[now]);
        __syncthreads();
    }
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        queries[set].store(p, view, start, own + set * 16);
    }
}

// In f32, for comparisons: a warp takes one query after the other, a lane each 32nd key. Heads of 128 at most.
constexpr int HEAD_MAX = 128;

DEVICE void attention_exact(const Attention &p)
{
    SHARED float queries[ATTENTION_WARPS][HEAD_MAX];
    SHARED float weights[ATTENTION_WARPS][WARP];
    const int text = p.tiles[2 * blockIdx.x], first = p.tiles[2 * blockIdx.x + 1];
    const int start = p.starts[text], length = p.starts[text + 1] - start, size = p.width / p.heads;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, head = blockIdx.y;
    const long long stride = 3ll * p.width;
    const float *base = static_cast<const float *>(p.qkv) + start * stride + head * size;
    const float *bias = p.bias + head * size;
    const int last = first + TILE < length ? first + TILE : length;
    for (int query = first + warp; query < last; query += ATTENTION_WARPS) {
        __syncwarp();
        for (int i = lane; i < size; i += WARP) {
            queries[warp][i] = (base[query * stride + i] + bias[i]) * p.scale;
        }
        float high = -INFINITY, sum = 0.0f, context[HEAD_MAX / WARP] = {};
        for (int key0 = 0; key0 < length; key0 += WARP) {
            __syncwarp();
            const int key = key0 + lane;
            float score = -INFINITY;
            if (key < length) {
                const float *of = base + key * stride + p.width;
                score = 0.0f;
                for (int i = 0; i < size; i++) {
                    score += queries[warp][i] * of[i];
                }
            }
            float higher = fmaxf(high, score);
#pragma unroll
            for (int step = WARP / 2; step > 0; step /= 2) {
                higher = fmaxf(higher, __shfl_xor_sync(ALL, higher, step));
            }
            const float shrink = expf(high - higher), weight = expf(score - higher);
            high = higher;
            sum = sum * shrink + warp_sum(weight);
            weights[warp][lane] = weight;
            __syncwarp();
            const int keys = length - key0 < WARP ? length - key0 : WARP;
#pragma unroll
            for (int part = 0; part < HEAD_MAX / WARP; part++) {
                const int i = part * WARP + lane;
                context[part] *= shrink;
                for (int j = 0; i < size && j < keys; j++) {
                    context[part] += weights[warp][j] * base[(key0 + j) * stride + 2 * p.width + i];
                }
            }
        }
        float *out = static_cast<float *>(p.context) + static_cast<long long>(start + query) * p.width + head * size;
#pragma unroll
        for (int part = 0; part < HEAD_MAX / WARP; part++) {
            const int i = part * WARP + lane;
            if (i < size) {
                out[i] = context[part] / sum + bias[2 * p.width + i];
            }
        }
    }
}
