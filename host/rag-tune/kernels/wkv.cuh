// RWKV-6's recurrence, forwards and backwards, in chunks of 64 tokens that are computed at once.
//
// With S [key i][value j] before a token, w = e^−rate, δ = ∂L/∂o and G = ∂L/∂S after it:
//
//   o_j = Σ_i r_i (S_ij + u_i k_i v_j)      S ← diag(w) S + k vᵀ
//   dr = S δ + u⊙k b    dk = G v + u⊙r b    dv = Gᵀ k + (Σ r u k) δ    du += r⊙k b    G ← diag(w) G + r δᵀ,  b = δ·v
//
// First each chunk's own sum is made (`chunk_sums`), then the states at the chunks' starts, or the G at their ends, by
// a scan over them (`chunk_scan`), then what the tokens give (`recur`, `recur_back`): S and G stay in f32. A warp holds
// one head's 64 × 64 values: lane 4a + b those of keys 8a to 8a + 7 and values 16b to 16b + 15.
//
// The derivative by log w is a running sum from the chunk's end, where it is rowsum(G ⊙ S):
// dlog w_t = dlog w_{t+1} + (r ⊙ S δ)_{t+1} − (k ⊙ G v)_t.
#pragma once

#include "args.cuh"

constexpr int HEAD = 64;
constexpr int CHUNK = 64;
constexpr int WKV_WARPS = 2;
constexpr int KEYS = 8;
constexpr int VALUES = 16;

// N values from an address that is a multiple of 16 bytes.
template <int N> DEVICE void open(const float *at, float (&out)[N]) { load_floats<N>(at, out); }
template <int N> DEVICE void open(const bf16 *at, float (&out)[N])
{
#pragma unroll
    for (int i = 0; i < N; i += 8) {
        float part[8];
        load_floats<8>(at + i, part);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            out[i + e] = part[e];
        }
    }
}

DEVICE void load2(const float *at, float (&out)[2])
{
    const float2 v = *reinterpret_cast<const float2 *>(at);
    out[0] = v.x, out[1] = v.y;
}
DEVICE void load2(const bf16 *at, float (&out)[2])
{
    const unsigned word = *reinterpret_cast<const unsigned *>(at);
    out[0] = __uint_as_float(word << 16), out[1] = __uint_as_float(word & 0xffff0000u);
}
DEVICE void store2(float *at, float x, float y) { *reinterpret_cast<float2 *>(at) = make_float2(x, y); }
DEVICE void store2(bf16 *at, float x, float y) { *reinterpret_cast<unsigned *>(at) = bf16_pair(x, y); }

// One warp's task: a chunk of a head of a sequence. n: D, T, H, chunks of a sequence, tasks.
struct Task {
    int lane, key, value, pair, head, tokens, width;
    long long head_of_all, number, start;

    DEVICE explicit Task(const Args &p)
    {
        lane = threadIdx.x % WARP, key = lane / 4 * KEYS, value = lane % 4 * VALUES, pair = lane * 2;
        number = static_cast<long long>(blockIdx.x) * WKV_WARPS + threadIdx.x / WARP;
        const int chunks = p.n[3], heads = p.n[2], all = p.n[1];
        const int chunk = static_cast<int>(number % chunks);
        head_of_all = number / chunks;
        head = static_cast<int>(head_of_all % heads), width = p.n[0];
        tokens = min(CHUNK, all - chunk * CHUNK);
        start = (head_of_all / heads * all + chunk * CHUNK) * width + head * HEAD;
    }
    DEVICE long long token(int t) const { return start + static_cast<long long>(t) * width; }
};

using Matrix = float[KEYS][VALUES];

DEVICE void load_matrix(const float *at, const Task &task, Matrix &m)
{
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
#pragma unroll
        for (int j = 0; j < VALUES; j += 4) {
            const float4 v = *reinterpret_cast<const float4 *>(at + (task.key + i) * HEAD + task.value + j);
            m[i][j] = v.x, m[i][j + 1] = v.y, m[i][j + 2] = v.z, m[i][j + 3] = v.w;
        }
    }
}

DEVICE void store_matrix(float *at, const Task &task, const Matrix &m)
{
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
#pragma unroll
        for (int j = 0; j < VALUES; j += 4) {
            *reinterpret_cast<float4 *>(at + (task.key + i) * HEAD + task.value + j) =
                make_float4(m[i][j], m[i][j + 1], m[i][j + 2], m[i][j + 3]);
        }
    }
}

// Tokens whose rows are on their way to a warp at once.
constexpr int AHEAD = 4;

// The rows of a chunk's tokens, copied to shared memory some tokens ahead: the rates, and N tensors of T.
template <class T, int N> struct Rows {
    static constexpr int ROW = HEAD * static_cast<int>(sizeof(T));
    static constexpr int SLOT = HEAD * 4 + N * ROW;
    static constexpr int BYTES = AHEAD * SLOT;
    // Pieces of 16 bytes that a lane copies.
    static constexpr int EACH = (SLOT / 16 + WARP - 1) / WARP;

    unsigned char *ring;
    const unsigned char *from[EACH];
    int stride[EACH], lane, tokens;
    bool back;

    DEVICE Rows(unsigned char *memory, const Task &task, const float *rates, const T *const (&tensors)[N], bool backwards)
        : ring(memory), lane(task.lane), tokens(task.tokens), back(backwards)
    {
#pragma unroll
        for (int q = 0; q < EACH; q++) {
            const int piece = lane + q * WARP, of_tensors = piece * 16 - HEAD * 4;
            from[q] = reinterpret_cast<const unsigned char *>(rates + task.start) + piece * 16;
            stride[q] = task.width * 4;
#pragma unroll
            for (int i = 0; i < N; i++) {
                if (of_tensors >= i * ROW && of_tensors < (i + 1) * ROW) {
                    from[q] = reinterpret_cast<const unsigned char *>(tensors[i] + task.start) + of_tensors - i * ROW;
                    stride[q] = task.width * static_cast<int>(sizeof(T));
                }
            }
        }
#pragma unroll
        for (int step = 0; step < AHEAD - 1; step++) {
            fetch(step);
        }
    }

    // The token of a step.
    DEVICE int token(int step) const { return back ? tokens - 1 - step : step; }

    // Waits for a step's rows, and fetches those of a later one in the place of the one before.
    DEVICE void next(int step)
    {
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 2) : "memory");
        __syncwarp();
        fetch(step + AHEAD - 1);
    }

    DEVICE const float *rates(int step) const { return reinterpret_cast<const float *>(ring + step % AHEAD * SLOT); }
    DEVICE const T *row(int step, int i) const
    {
        return reinterpret_cast<const T *>(ring + step % AHEAD * SLOT + HEAD * 4 + i * ROW);
    }

    // All are fetched before the ring is used for others.
    DEVICE void end() const
    {
        asm volatile("cp.async.wait_all;" ::: "memory");
        __syncwarp();
    }

private:
    DEVICE void fetch(int step)
    {
        if (step < tokens) {
#pragma unroll
            for (int q = 0; q < EACH; q++) {
                if (lane + q * WARP < SLOT / 16) {
                    unsigned char *to = ring + step % AHEAD * SLOT + (lane + q * WARP) * 16;
                    const unsigned char *source = from[q] + static_cast<long long>(token(step)) * stride[q];
                    const unsigned place = static_cast<unsigned>(__cvta_generic_to_shared(to));
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(source) : "memory");
                }
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
};

// m ← diag(e^−rates) m + keys valuesᵀ.
DEVICE void move_on(Matrix &m, const float (&rates)[KEYS], const float (&keys)[KEYS], const float (&values)[VALUES])
{
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
        const float w = __expf(-rates[i]);
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            m[i][j] = fmaf(w, m[i][j], keys[i] * values[j]);
        }
    }
}

// Sums over the lanes of the other values: lane's two keys from `pair` on.
DEVICE void sum_keys(float (&parts)[KEYS], int lane, float (&out)[2])
{
    float four[4];
    const bool second = lane & 2, odd = lane & 1;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const float given = __shfl_xor_sync(ALL, second ? parts[q] : parts[q + 4], 2);
        four[q] = (second ? parts[q + 4] : parts[q]) + given;
    }
#pragma unroll
    for (int q = 0; q < 2; q++) {
        const float given = __shfl_xor_sync(ALL, odd ? four[q] : four[q + 2], 1);
        out[q] = (odd ? four[q + 2] : four[q]) + given;
    }
}

// Sums over the lanes of the other keys: a lane's two values from value + 2 · (lane / 4) on.
DEVICE void sum_values(float (&parts)[VALUES], int lane, float (&out)[2])
{
    float eight[8], four[4];
    const bool a = lane & 16, b = lane & 8, c = lane & 4;
#pragma unroll
    for (int q = 0; q < 8; q++) {
        const float given = __shfl_xor_sync(ALL, a ? parts[q] : parts[q + 8], 16);
        eight[q] = (a ? parts[q + 8] : parts[q]) + given;
    }
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const float given = __shfl_xor_sync(ALL, b ? eight[q] : eight[q + 4], 8);
        four[q] = (b ? eight[q + 4] : eight[q]) + given;
    }
#pragma unroll
    for (int q = 0; q < 2; q++) {
        const float given = __shfl_xor_sync(ALL, c ? four[q] : four[q + 2], 4);
        out[q] = (c ? four[q + 2] : four[q]) + given;
    }
}

// 0 rates f32, 1 keys T, 2 values T, 3 out [tasks, 64, 64] f32: what a chunk adds to S, or backwards, with r and δ for
// keys and values, to G; 4 out [tasks, 64] f32: by how much it decays what was before.
template <class T, bool BACK> DEVICE void chunk_sums(const Args &p)
{
    const Task task(p);
    if (task.number >= p.n[4]) {
        return;
    }
    Matrix m = {};
    float rate_sums[KEYS] = {};
    SHARED __align__(16) unsigned char rings[WKV_WARPS][Rows<T, 2>::BYTES];
    const T *const tensors[2] = {p.to<T>(1), p.to<T>(2)};
    Rows<T, 2> rows(rings[threadIdx.x / WARP], task, p.to<float>(0), tensors, BACK);
#pragma unroll 1
    for (int step = 0; step < task.tokens; step++) {
        rows.next(step);
        float rate[KEYS], key[KEYS], value[VALUES];
        open(rows.rates(step) + task.key, rate), open(rows.row(step, 0) + task.key, key);
        open(rows.row(step, 1) + task.value, value);
        move_on(m, rate, key, value);
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            rate_sums[i] += rate[i];
        }
    }
    store_matrix(p.to<float>(3) + task.number * HEAD * HEAD, task, m);
    if (task.lane % 4 == 0) {
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            p.to<float>(4)[task.number * HEAD + task.key + i] = __expf(-rate_sums[i]);
        }
    }
}

// 0 [B · H, chunks, 64, 64] f32: what `chunk_sums` made becomes what there is before each chunk, or after it backwards;
// 1 its decays, 2 what there is before all, or none for zeros, 3 out: what there is after all, or none. n[3]: chunks,
// n[5]: backwards. A block of 256 threads a quarter of a head.
DEVICE void chunk_scan(const Args &p)
{
    const int chunks = p.n[3];
    const long long head = blockIdx.x / 4;
    const int at = (blockIdx.x % 4 * 256 + threadIdx.x) * 4;
    float4 now = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (p.at[2] != 0) {
        now = *reinterpret_cast<const float4 *>(p.to<float>(2) + head * HEAD * HEAD + at);
    }
    float4 *sums = reinterpret_cast<float4 *>(p.to<float>(0) + head * chunks * HEAD * HEAD + at);
    const float *decays = p.to<float>(1) + head * chunks * HEAD + at / HEAD;
    const int first = p.n[5] ? chunks - 1 : 0, step = p.n[5] ? -1 : 1;
    float4 next = sums[static_cast<long long>(first) * HEAD * HEAD / 4];
    float decay_next = decays[first * HEAD];
    for (int c = 0, place = first; c < chunks; c++, place += step) {
        const float4 sum = next;
        const float decay = decay_next;
        if (c + 1 < chunks) {
            next = sums[static_cast<long long>(place + step) * HEAD * HEAD / 4];
            decay_next = decays[(place + step) * HEAD];
        }
        sums[static_cast<long long>(place) * HEAD * HEAD / 4] = now;
        now.x = fmaf(decay, now.x, sum.x), now.y = fmaf(decay, now.y, sum.y);
        now.z = fmaf(decay, now.z, sum.z), now.w = fmaf(decay, now.w, sum.w);
    }
    if (p.at[3] != 0) {
        *reinterpret_cast<float4 *>(p.to<float>(3) + head * HEAD * HEAD + at) = now;
    }
}

// 0 rates f32, 1 r, 2 k, 3 v T, 4 u [H, 64] f32, 5 S before each chunk, 6 out T: o.
template <class T> DEVICE void recur(const Args &p)
{
    const Task task(p);
    if (task.number >= p.n[4]) {
        return;
    }
    Matrix m;
    load_matrix(p.to<float>(5) + task.number * HEAD * HEAD, task, m);
    float u[KEYS];
    load8(p.to<float>(4) + task.head * HEAD + task.key, u);
    SHARED __align__(16) unsigned char rings[WKV_WARPS][Rows<T, 3>::BYTES];
    const T *const tensors[3] = {p.to<T>(1), p.to<T>(2), p.to<T>(3)};
    Rows<T, 3> rows(rings[threadIdx.x / WARP], task, p.to<float>(0), tensors, false);
#pragma unroll 1
    for (int t = 0; t < task.tokens; t++) {
        rows.next(t);
        float rate[KEYS], r[KEYS], k[KEYS], v[VALUES], o[VALUES], out[2];
        open(rows.rates(t) + task.key, rate), open(rows.row(t, 0) + task.key, r);
        open(rows.row(t, 1) + task.key, k), open(rows.row(t, 2) + task.value, v);
        float bonus = 0.0f;
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            bonus += r[i] * u[i] * k[i];
        }
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            o[j] = bonus * v[j];
        }
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                o[j] = fmaf(r[i], m[i][j], o[j]);
            }
        }
        move_on(m, rate, k, v);
        sum_values(o, task.lane, out);
        store2(p.to<T>(6) + task.token(t) + task.value + task.lane / 4 * 2, out[0], out[1]);
    }
}

// 0 rates f32, 1 r, 2 k, 3 v, 4 δ T, 5 u, 6 S before and 7 G after each chunk, out T: 8 by r, 9 by k, 10 by v, 11 by
// ω (the logarithm of the rate), 12 out [tasks, 64] f32: by u.
template <class T> DEVICE void recur_back(const Args &p)
{
    DYNAMIC_SHARED(memory);
    const Task task(p);
    if (task.number >= p.n[4]) {
        return;
    }
    // r ⊙ S δ of each token.
    float *kept = reinterpret_cast<float *>(memory) + threadIdx.x / WARP * CHUNK * HEAD;
    Matrix m;
    load_matrix(p.to<float>(6) + task.number * HEAD * HEAD, task, m);
    float u[2], by_log[2];
    load2(p.to<float>(5) + task.head * HEAD + task.pair, u);
    float by_u[2] = {};
    SHARED __align__(16) unsigned char rings[WKV_WARPS][Rows<T, 4>::BYTES];
    const T *const tensors[4] = {p.to<T>(1), p.to<T>(2), p.to<T>(3), p.to<T>(4)};
    Rows<T, 4> rows(rings[threadIdx.x / WARP], task, p.to<float>(0), tensors, false);
#pragma unroll 1
    for (int t = 0; t < task.tokens; t++) {
        rows.next(t);
        const long long at = task.token(t);
        float rate[KEYS], k[KEYS], v[VALUES], by_o[VALUES], parts[KEYS], alpha[2], own_r[2], own_k[2];
        open(rows.rates(t) + task.key, rate), open(rows.row(t, 1) + task.key, k);
        open(rows.row(t, 2) + task.value, v), open(rows.row(t, 3) + task.value, by_o);
        float b = 0.0f;
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            b = fmaf(v[j], by_o[j], b);
        }
        b += __shfl_xor_sync(ALL, b, 1);
        b += __shfl_xor_sync(ALL, b, 2);
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            parts[i] = 0.0f;
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                parts[i] = fmaf(m[i][j], by_o[j], parts[i]);
            }
        }
        move_on(m, rate, k, v);
        sum_keys(parts, task.lane, alpha);
        load2(rows.row(t, 0) + task.pair, own_r), load2(rows.row(t, 1) + task.pair, own_k);
        kept[t * HEAD + task.pair] = own_r[0] * alpha[0], kept[t * HEAD + task.pair + 1] = own_r[1] * alpha[1];
        by_u[0] += own_r[0] * own_k[0] * b, by_u[1] += own_r[1] * own_k[1] * b;
        store2(p.to<T>(8) + at + task.pair, alpha[0] + u[0] * own_k[0] * b, alpha[1] + u[1] * own_k[1] * b);
    }
    rows.end();
    store2(p.to<float>(12) + task.number * HEAD + task.pair, by_u[0], by_u[1]);
    {
        Matrix last;
        float parts[KEYS];
        load_matrix(p.to<float>(7) + task.number * HEAD * HEAD, task, last);
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            parts[i] = 0.0f;
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                parts[i] = fmaf(m[i][j], last[i][j], parts[i]);
                m[i][j] = last[i][j];
            }
        }
        sum_keys(parts, task.lane, by_log);
    }
    float all_u[KEYS];
    load8(p.to<float>(5) + task.head * HEAD + task.key, all_u);
    Rows<T, 4> last_first(rings[threadIdx.x / WARP], task, p.to<float>(0), tensors, true);
#pragma unroll 1
    for (int step = 0; step < task.tokens; step++) {
        last_first.next(step);
        const int t = last_first.token(step);
        const long long at = task.token(t);
        const T *r_row = last_first.row(step, 0), *k_row = last_first.row(step, 1);
        float rate[KEYS], r[KEYS], k[KEYS], v[VALUES], by_o[VALUES], parts[KEYS], beta[2], by_v[VALUES], out[2];
        float own_r[2], own_k[2], own_rate[2];
        open(last_first.rates(step) + task.key, rate), open(r_row + task.key, r), open(k_row + task.key, k);
        open(last_first.row(step, 2) + task.value, v), open(last_first.row(step, 3) + task.value, by_o);
        float b = 0.0f, bonus = 0.0f;
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            b = fmaf(v[j], by_o[j], b);
        }
        b += __shfl_xor_sync(ALL, b, 1);
        b += __shfl_xor_sync(ALL, b, 2);
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            bonus += r[i] * all_u[i] * k[i];
            parts[i] = 0.0f;
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                parts[i] = fmaf(m[i][j], v[j], parts[i]);
            }
        }
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            by_v[j] = bonus * by_o[j];
#pragma unroll
            for (int i = 0; i < KEYS; i++) {
                by_v[j] = fmaf(m[i][j], k[i], by_v[j]);
            }
        }
        move_on(m, rate, r, by_o);
        sum_keys(parts, task.lane, beta);
        sum_values(by_v, task.lane, out);
        store2(p.to<T>(10) + at + task.value + task.lane / 4 * 2, out[0], out[1]);
        load2(r_row + task.pair, own_r), load2(k_row + task.pair, own_k);
        load2(last_first.rates(step) + task.pair, own_rate);
        store2(p.to<T>(9) + at + task.pair, beta[0] + u[0] * own_r[0] * b, beta[1] + u[1] * own_r[1] * b);
        by_log[0] -= own_k[0] * beta[0], by_log[1] -= own_k[1] * beta[1];
        store2(p.to<T>(11) + at + task.pair, -own_rate[0] * by_log[0], -own_rate[1] * by_log[1]);
        by_log[0] += kept[t * HEAD + task.pair], by_log[1] += kept[t * HEAD + task.pair + 1];
    }
}

// 0 gradient f32 [H · n[0]], to which 1 [B, H, n[2], n[0]] f32 is added, summed over B and n[2]. n: values of a head,
// H, parts, B. A block of 64 threads a head and 64 of its values.
DEVICE void sum_heads(const Args &p)
{
    const int size = p.n[0], heads = p.n[1], parts = p.n[2], i = blockIdx.y * 64 + threadIdx.x;
    float sum = 0.0f;
    for (int b = 0; b < p.n[3]; b++) {
        const float *from = p.to<float>(1) + (static_cast<long long>(b) * heads + blockIdx.x) * parts * size + i;
        for (int c = 0; c < parts; c++) {
            sum += from[static_cast<long long>(c) * size];
        }
    }
    p.to<float>(0)[static_cast<long long>(blockIdx.x) * size + i] += sum;
}
