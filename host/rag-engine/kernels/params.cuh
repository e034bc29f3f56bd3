// The structures that the host hands to kernels. `cuda/params.rs` has the same, in the same order.
//
// R are the rows of a call: tokens of all sequences, below each other. D is the model's width, H and N its heads and
// their size, m and d the ranks of its mixes, K and O the inputs and outputs of a matrix. `element` types are f32 or
// bf16 as the kernel's name says.
#pragma once
#include "common.cuh"

// x <- LN(table[token]).
struct Embed {
    const void *table;
    const int *tokens;
    const float *weight, *bias; // none: the table is normalised
    float *x;
    int width;
    float epsilon;
};

// Normalises rows and mixes each with the one before.
struct LnMix {
    const float *x;
    const float *weight, *bias;
    const float *maa[2];
    float *const *states;
    const int *starts; // [R]: the sequence that begins with this row, else -1
    long long shift;   // of the previous token's row in a state
    float *normed;     // [R, D]
    void *out[2];      // [R, D] elements; the second may be none
    int rows, width;
    float epsilon;
    Ahead ahead;
};

// The five mixed inputs out of the low-rank product.
struct Lerp {
    const float *low; // [R, 5m], before its tanh if `tanh_low`
    const void *up;   // [5][m][D] elements
    const float *maa; // [5][D]
    const float *normed;
    float *const *states;
    const int *starts;
    long long shift;
    void *out; // [5][R, D] elements
    int rows, width, rank, tanh_low;
    Ahead ahead;
};

// The same in place of what cuBLAS made of the low-rank product.
struct MixRows {
    void *out; // [5][R, D] elements
    const float *maa, *normed;
    float *const *states;
    const int *starts;
    long long shift;
    int rows, width;
};

enum Epilogue { STORE, TANH, RELU2, SIGMOID, ADD, ADD_GATED, ADD_KEPT };

// out [batch, O] = epilogue(x [batch, K] . weights [O, K]).
struct GemvJob {
    const void *weights;
    const unsigned short *scales, *minima; // f16, [O, K / block]
    const void *x;
    void *out;
    const float *gate; // of ADD_GATED, [batch, O]
    int rows, block;   // O; columns that share a scale
    int epilogue;
    int dense;         // weights are bf16 though the kernel's are quantised
    int first, split;  // of the grid's blocks; warps that share a row
};

constexpr int JOBS_MAX = 7;

struct Gemv {
    GemvJob jobs[JOBS_MAX];
    int job_count, cols, batch;
    // With ADD_GATED and ADD_KEPT: the rows that sequences keep of the channel mix's inputs.
    float *const *states;
    long long shift;
    const float *normed;
    Ahead ahead;
};

// One token of every sequence: decay, recurrence, normalisation per head, gate.
struct WkvStep {
    const void *k, *v, *r, *g; // [R, D] elements
    const float *omega;        // [R, D] without w0; none: from `decay_low`
    const float *decay_low;    // [R, d], after its tanh
    const void *decay_up;      // [d, D] low-rank elements
    const float *decay, *bonus, *norm_weight, *norm_bias;
    const float *normed; // kept as the time mix's previous row
    float *const *states;
    long long shift, heads_at;
    void *out; // [R, D] elements
    int rows, width, heads, decay_rank;
    float epsilon;
    Ahead ahead;
};

// What decays are made of becomes the decays.
struct Decays {
    float *values;      // [R, D]
    const float *decay; // [D]
    long long count;    // R D
    int width;
};

// Any number of tokens of every sequence, each cut into runs that are worked on side by side.
struct WkvSeq {
    const void *k, *v, *r;
    const float *decays; // [R, D]
    const float *bonus;
    const float *normed;
    float *const *states;
    const int *offsets; // [sequences + 1], rows
    long long shift, heads_at;
    float *out;    // [R, D]
    float *starts; // [sequences][runs][H][N][N]: S before each run; what the sums make of it first. With one run: none
    float *totals; // [sequences][runs][D]: the decay over each run
    int width, heads;
    int runs, run_tokens; // of a sequence at most; of a run
};

// From what each run adds to S, and its decay, to S before each run and after the last.
struct WkvLink {
    float *starts; // as above
    const float *totals;
    float *const *states;
    const int *offsets;
    long long heads_at;
    int sequences, width, head; // head: N
    int runs, run_tokens;
};

// RWKV-7: normalises rows and mixes each with the one before, by six fixed shares.
struct LnMix7 {
    const float *x;
    const float *weight, *bias;
    const float *shares; // [6][D]: of r, k, v, w, a, g
    float *const *states;
    const int *starts;
    long long shift;
    float *normed;  // [R, D]
    void *out[3];   // [R, D] elements: of r, k, v
    void *dense[4]; // of w, a, g, and v again, unless that is none: [R, D] elements, f32 where those are int8
    int rows, width;
    float epsilon;
    Ahead ahead;
};

// RWKV-7: all between the products and `output`. Of the four low-rank projections, w, a, g, v, either the outputs are
// there or their inner values and the weights.
struct Wkv7 {
    const void *r, *k, *v;     // [R, D] elements
    const float *projected[4]; // [R, D]
    const float *low[4];       // [R, rank], after its function
    const void *up[4];         // [rank, D] low-rank elements
    const float *base[4];      // w0, a0, none, v0
    const float *k_k, *k_a, *r_k, *norm_weight, *norm_bias;
    float *first;        // [R, D]: v of the first layer
    const float *normed; // kept as the time mix's previous row
    float *const *states;
    const int *offsets; // [sequences + 1], rows; none: a row a sequence
    long long shift, heads_at;
    void *out; // [R, D] elements
    int ranks[4];
    int rows, width, heads;
    int is_first; // the first layer: keeps its v
    float epsilon;
    Ahead ahead;
};

// out = groupnorm(o) * silu(g).
struct Gate {
    const float *o;
    const void *g;
    const float *weight, *bias;
    void *out;
    int rows, width, heads;
    float epsilon;
};

// x += sigmoid(gate) * value, unless there is no gate: x is whole then; keeps the last rows of sequences.
struct Combine {
    float *x;
    const void *gate, *value; // [R, D] elements
    const float *normed;
    float *const *states;
    const int *ends; // [R]: the sequence that ends with this row, else -1
    long long shift;
    int width;
};

// In place or to another type.
struct Map {
    const void *in;
    void *out;
    long long count;
};

// out [i] = LN(x [wanted[i]]).
struct LastNorm {
    const float *x;
    const int *wanted;
    const float *weight, *bias;
    void *out;
    int rows, width;
    float epsilon;
};

// out = bf16 of a quantised matrix.
struct Dequantise {
    const void *levels;
    const unsigned short *scales, *minima;
    bf16 *out;
    long long rows;
    int cols, block;
};

// How one sequence's next token is drawn.
struct Draw {
    float temperature; // 0 takes the largest
    float top_p;
    int top_k; // 0 is none
    int penalties, penalties_at;
    float unit; // in [0, 1)
};

struct Penalty {
    int id;
    float amount;
};

struct Sample {
    float *logits; // [R, vocabulary]
    const Draw *draws;
    const Penalty *penalties;
    const unsigned *banned; // a bit an id
    int *out;
    int vocabulary;
};

// Random weights.
struct Fill {
    void *out;
    unsigned long long count; // elements
    unsigned long long seed;
    float middle, reach;
};
