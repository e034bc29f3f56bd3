// What an encoder does row by row beside attention: embedding, normalisation, GELU, and what becomes of the last layer.
//
// A warp takes a row of up to 4096 columns, a multiple of 4; products before leave their biases to these kernels.
#pragma once
#include "halves.cuh"

constexpr int ROW_THREADS = 128;
constexpr int ROWS_A_BLOCK = ROW_THREADS / WARP;
constexpr int MAP_THREADS = 256;

// Weight and bias of a normalisation, and where its rows go.
struct Norm {
    const float *weight;
    const float *bias;
    // [rows, width]: the residual stream.
    float *x;
    // The same in halves, or null.
    half16 *copy;
    int rows;
    int width;
    float eps;
};

DEVICE int own_row() { return static_cast<int>(blockIdx.x) * ROWS_A_BLOCK + static_cast<int>(threadIdx.x) / WARP; }
DEVICE int own_column(int turn) { return (turn * WARP + static_cast<int>(threadIdx.x) % WARP) * 4; }

// Normalises a row that the warp holds, four columns a lane and turn, and stores it.
template <int TURNS> DEVICE void normalise(const Norm &p, float (&row)[TURNS][4], int index)
{
    float sum = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        sum += row[turn][0] + row[turn][1] + row[turn][2] + row[turn][3];
    }
    const float mean = warp_sum(sum) / p.width;
    float squares = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        if (own_column(turn) < p.width) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                row[turn][i] -= mean;
                squares += row[turn][i] * row[turn][i];
            }
        }
    }
    const float scale = 1.0f / sqrtf(warp_sum(squares) / p.width + p.eps);
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int column = own_column(turn);
        if (column < p.width) {
            float weight[4], bias[4];
            load_floats(p.weight + column, weight);
            load_floats(p.bias + column, bias);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                row[turn][i] = row[turn][i] * scale * weight[i] + bias[i];
            }
            const long long at = static_cast<long long>(index) * p.width + column;
            store_floats(p.x + at, row[turn]);
            if (p.copy) {
                store_floats(p.copy + at, row[turn]);
            }
        }
    }
}

struct EmbedRows {
    Norm norm;
    // [words, width].
    const void *words;
    // [positions, width], the vector of token type 0 included; what a token of type 1 has more, or null.
    const float *positions;
    const float *second;
    // [rows] each: word, position, type.
    const int *ids;
    const int *places;
    const int *kinds;
};

template <class W, int TURNS> DEVICE void embed_rows(const EmbedRows &p)
{
    const int index = own_row(), width = p.norm.width;
    if (index >= p.norm.rows) {
        return;
    }
    const W *word = static_cast<const W *>(p.words) + static_cast<long long>(p.ids[index]) * width;
    const float *position = p.positions + static_cast<long long>(p.places[index]) * width;
    const float *second = p.kinds[index] ? p.second : nullptr;
    float row[TURNS][4] = {};
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int column = own_column(turn);
        if (column < width) {
            float more[4];
            load_floats(word + column, row[turn]);
            load_floats(position + column, more);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                row[turn][i] += more[i] + (second ? second[column + i] : 0.0f);
            }
        }
    }
    normalise<TURNS>(p.norm, row, index);
}

// The product before has added to x; its bias follows.
struct AddNorm {
    Norm norm;
    const float *added;
};

template <int TURNS> DEVICE void add_norm(const AddNorm &p)
{
    const int index = own_row(), width = p.norm.width;
    if (index >= p.norm.rows) {
        return;
    }
    const float *x = p.norm.x + static_cast<long long>(index) * width;
    float row[TURNS][4] = {};
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int column = own_column(turn);
        if (column < width) {
            float more[4];
            load_floats(x + column, row[turn]);
            load_floats(p.added + column, more);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                row[turn][i] += more[i];
            }
        }
    }
    normalise<TURNS>(p.norm, row, index);
}

// Eight elements a thread.
struct Gelu {
    // [rows, columns], in place.
    void *values;
    const float *bias;
    long long count;
    int columns;
};

template <class E> DEVICE void gelu(const Gelu &p)
{
    const long long at = (static_cast<long long>(blockIdx.x) * MAP_THREADS + threadIdx.x) * 8;
    if (at >= p.count) {
        return;
    }
    E *values = static_cast<E *>(p.values) + at;
    float x[8], bias[8];
    load_floats(values, x);
    load_floats(p.bias + at % p.columns, bias);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float v = x[i] + bias[i];
        x[i] = 0.5f * v * (1.0f + erff(v * 0.70710678f));
    }
    store_floats(values, x);
}

// ---- what becomes of the last layer

// A text's vector, blockIdx.x the text: the mean of its rows or the first; blockIdx.y counts 128 columns.
struct Pool {
    const float *x;
    const int *starts;
    // [texts, width].
    float *out;
    int width;
    int first_only;
};

DEVICE void pool_of(const Pool &p)
{
    const int column = blockIdx.y * ROW_THREADS + threadIdx.x;
    if (column >= p.width) {
        return;
    }
    const int start = p.starts[blockIdx.x], end = p.first_only ? start + 1 : p.starts[blockIdx.x + 1];
    float sum = 0.0f;
    for (int row = start; row < end; row++) {
        sum += p.x[static_cast<long long>(row) * p.width + column];
    }
    p.out[static_cast<long long>(blockIdx.x) * p.width + column] = sum / static_cast<float>(end - start);
}

// Chosen rows behind each other, a block each.
struct Gather {
    const float *x;
    const int *rows;
    // [chosen, width].
    void *out;
    int width;
};

template <class E> DEVICE void gather(const Gather &p)
{
    const float *from = p.x + static_cast<long long>(p.rows[blockIdx.x]) * p.width;
    E *to = static_cast<E *>(p.out) + static_cast<long long>(blockIdx.x) * p.width;
    for (int column = threadIdx.x; column < p.width; column += ROW_THREADS) {
        to[column] = from_float<E>(from[column]);
    }
}

// Rows as vectors of unit length in 8 bits with a scale each, a warp each.
struct Directions {
    const float *x;
    // Which of its rows; null for all in order.
    const int *rows;
    // Added to each, or null.
    const float *bias;
    // [count, width].
    signed char *levels;
    float *scales;
    int count;
    int width;
};

DEVICE void directions_of(const Directions &p)
{
    const int index = own_row(), lane = threadIdx.x % WARP;
    if (index >= p.count) {
        return;
    }
    const float *x = p.x + static_cast<long long>(p.rows ? p.rows[index] : index) * p.width;
    float squares = 0.0f, largest = 0.0f;
    for (int column = lane; column < p.width; column += WARP) {
        const float value = x[column] + (p.bias ? p.bias[column] : 0.0f);
        squares += value * value;
        largest = fmaxf(largest, fabsf(value));
    }
    squares = warp_sum(squares);
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, step));
    }
    const float steps = largest > 0.0f ? 127.0f / largest : 0.0f;
    for (int column = lane; column < p.width; column += WARP) {
        const float value = x[column] + (p.bias ? p.bias[column] : 0.0f);
        p.levels[static_cast<long long>(index) * p.width + column] = static_cast<signed char>(roundf(value * steps));
    }
    if (lane == 0) {
        p.scales[index] = largest > 0.0f ? 1.0f / (steps * sqrtf(squares)) : 0.0f;
    }
}

// How much tokens weigh, before negative weights are dropped; a warp each.
struct WeighTokens {
    const float *x;
    const int *rows;
    const float *weight;
    const float *bias;
    float *out;
    int count;
    int width;
};

DEVICE void weigh_tokens_of(const WeighTokens &p)
{
    const int index = own_row(), lane = threadIdx.x % WARP;
    if (index >= p.count) {
        return;
    }
    const float *x = p.x + static_cast<long long>(p.rows[index]) * p.width;
    float sum = 0.0f;
    for (int column = lane; column < p.width; column += WARP) {
        sum += x[column] * p.weight[column];
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        p.out[index] = sum + p.bias[0];
    }
}

// How well a text answers its question, 0 to 1, from the first layer of the head without its bias; a warp each.
struct Score {
    // [texts, columns].
    const float *inner;
    const float *inner_bias;
    const float *weight;
    const float *bias;
    float *out;
    int count;
    int columns;
};

DEVICE void score_of(const Score &p)
{
    const int index = own_row(), lane = threadIdx.x % WARP;
    if (index >= p.count) {
        return;
    }
    const float *inner = p.inner + static_cast<long long>(index) * p.columns;
    float sum = 0.0f;
    for (int column = lane; column < p.columns; column += WARP) {
        sum += tanhf(inner[column] + p.inner_bias[column]) * p.weight[column];
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        p.out[index] = sigmoid(sum + p.bias[0]);
    }
}

// f32 to halves, a thread each.
struct Narrow {
    const float *from;
    half16 *to;
    long long count;
};

DEVICE void narrow_of(const Narrow &p)
{
    const long long at = static_cast<long long>(blockIdx.x) * MAP_THREADS + threadIdx.x;
    if (at < p.count) {
        p.to[at] = from_float<half16>(p.from[at]);
    }
}
