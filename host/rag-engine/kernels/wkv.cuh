// RWKV-6's recurrence: o_j = sum_i r_i (S_ij + u_i k_i v_j); S_ij <- w_i S_ij + k_i v_j, in f32.
//
// `wkv_step` is for one token of each of many sequences: bound by reading and writing S. `wkv_seq` is for long prompts:
// the columns of S do not touch each other, so that a block owns 32 of them and the only chain over tokens is one
// multiply-add a token; inputs are staged some tokens at a time while the ones before are worked on. Where there are too few
// sequences for a whole GPU, they are cut into runs: what a run adds to S, from 0, is computed for all at once, `link_runs`
// makes of it the S before each, and then the runs' outputs are computed at once too.
#pragma once
#include "params.cuh"

template <int N> constexpr int STEP_THREADS = N * N / 16 < WARP ? WARP : N * N / 16;

// Values of the low-rank product that a thread keeps: for ranks of up to 128.
constexpr int UPS = 32;

template <int N, class In, class Out, class Low> DEVICE void wkv_step(const WkvStep &p)
{
    constexpr int COLUMNS = N / 4, KEYS = N / 4; // threads along values and along keys, four of each a thread
    constexpr int THREADS = STEP_THREADS<N>;
    constexpr int GROUPS = THREADS / N, PARTIALS = KEYS > GROUPS ? KEYS : GROUPS;
    SHARED __align__(16) float rs[N], ks[N], vs[N], ws[N], partial[PARTIALS][N], os[N < WARP ? WARP : N];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const int row = blockIdx.x / p.heads, head = blockIdx.x % p.heads, tid = threadIdx.x;
    const int column = tid % COLUMNS * 4, key = tid / COLUMNS, first = head * N, own = first + tid % N;
    const bool active = key < KEYS;
    float *state = p.states[row] + p.heads_at + static_cast<long long>(head) * N * N;
    float4 s[4];
    if (active) {
#pragma unroll
        for (int q = 0; q < 4; q++) {
            s[q] = *reinterpret_cast<const float4 *>(state + (key + KEYS * q) * N + column);
        }
    }
    float ups[UPS];
    if (!p.omega) {
        const Low *up = static_cast<const Low *>(p.decay_up);
#pragma unroll
        for (int i = 0; i < UPS; i++) {
            const int j = tid / N + i * GROUPS;
            ups[i] = j < p.decay_rank ? to_float(up[static_cast<long long>(j) * p.width + own]) : 0.0f;
        }
    }
    const float decay = p.decay[own], norm_weight = p.norm_weight[own], norm_bias = p.norm_bias[own];
    float us[4];
#pragma unroll
    for (int q = 0; q < 4; q++) {
        us[q] = active ? p.bonus[first + key + KEYS * q] : 0.0f;
    }
    wait_previous();
    const long long base = static_cast<long long>(row) * p.width;
    float *kept = p.states[row] + p.shift;
    if (tid < N) {
        rs[tid] = to_float(static_cast<const In *>(p.r)[base + own]);
        ks[tid] = to_float(static_cast<const In *>(p.k)[base + own]);
        vs[tid] = to_float(static_cast<const In *>(p.v)[base + own]);
        kept[own] = p.normed[base + own];
    }
    const float g = tid < N ? to_float(static_cast<const In *>(p.g)[base + own]) : 0.0f;
    // omega, from the low-rank product unless it is there already: groups of N threads take a share of the rank.
    float omega = 0.0f;
    if (!p.omega) {
        const float *low = p.decay_low + static_cast<long long>(row) * p.decay_rank;
#pragma unroll
        for (int i = 0; i < UPS; i++) {
            const int j = tid / N + i * GROUPS;
            omega += j < p.decay_rank ? low[j] * ups[i] : 0.0f;
        }
        partial[tid / N][tid % N] = omega;
        __syncthreads();
        omega = 0.0f;
        for (int j = 0; j < GROUPS; j++) {
            omega += partial[j][tid % N];
        }
    } else if (tid < N) {
        omega = p.omega[base + own];
    }
    if (tid < N) {
        ws[tid] = decay_of(decay + omega);
    }
    __syncthreads();
    if (active) {
        const float4 v = *reinterpret_cast<const float4 *>(&vs[column]);
        float4 o = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int i = key + KEYS * q;
            const float r = rs[i], w = ws[i], k = ks[i], u = us[q];
            const float4 kv = make_float4(k * v.x, k * v.y, k * v.z, k * v.w);
            o.x += r * (s[q].x + u * kv.x), o.y += r * (s[q].y + u * kv.y);
            o.z += r * (s[q].z + u * kv.z), o.w += r * (s[q].w + u * kv.w);
            const float4 next = make_float4(w * s[q].x + kv.x, w * s[q].y + kv.y, w * s[q].z + kv.z, w * s[q].w + kv.w);
            *reinterpret_cast<float4 *>(state + i * N + column) = next;
        }
        *reinterpret_cast<float4 *>(&partial[key][column]) = o;
    }
    __syncthreads();
    if (tid < N) {
        float value = 0.0f;
#pragma unroll
        for (int j = 0; j < KEYS; j++) {
            value += partial[j][tid];
        }
        os[tid] = value;
    }
    __syncthreads();
    if (tid >= (N < WARP ? WARP : N)) {
        return;
    }
    // Each warp adds up the whole head.
    float sum = 0.0f, squares = 0.0f;
    for (int i = tid % WARP; i < N; i += WARP) {
        sum += os[i];
    }
    const float mean = warp_sum(sum) / N;
    for (int i = tid % WARP; i < N; i += WARP) {
        squares += (os[i] - mean) * (os[i] - mean);
    }
    const float scale = rsqrtf(warp_sum(squares) / N + p.epsilon);
    const float normed = (tid < N ? os[tid] - mean : 0.0f) * scale * norm_weight + norm_bias;
    store_one<Out>(p.out, static_cast<long long>(p.rows) * p.width, base + own, normed * silu(g), tid < N);
}

constexpr int DECAY_THREADS = 256;

// Four elements a thread.
DEVICE void decays_of(const Decays &p)
{
    release_next();
    const long long at = 4 * (1ll * blockIdx.x * DECAY_THREADS + threadIdx.x);
    if (at >= p.count) {
        return;
    }
    const float4 own = *reinterpret_cast<const float4 *>(p.decay + at % p.width);
    wait_previous();
    float4 *values = reinterpret_cast<float4 *>(p.values + at);
    const float4 v = *values;
    *values = make_float4(decay_of(own.x + v.x), decay_of(own.y + v.y), decay_of(own.z + v.z), decay_of(own.w + v.w));
}

constexpr int TOGETHER = 8; // tokens whose outputs are added up over the keys at once

template <int N> constexpr int SEQ_COLUMNS = N < 32 ? N : 32;
template <int N> constexpr int SEQ_THREADS = SEQ_COLUMNS<N> * N / 8 < WARP ? WARP : SEQ_COLUMNS<N> * N / 8;

// SUMS: only what each run adds to S, and its decay. STAGE tokens are staged at a time: many let few blocks wait less, few
// let a multiprocessor hold more blocks.
template <int N, class E, bool SUMS, int STAGE> DEVICE void wkv_seq(const WkvSeq &p)
{
    constexpr int COLUMNS = SEQ_COLUMNS<N>, KEYS = N / 8, THREADS = SEQ_THREADS<N>, PARTS = N / COLUMNS;
    constexpr int EACH = (STAGE * N + THREADS - 1) / THREADS, V_EACH = (STAGE * COLUMNS + THREADS - 1) / THREADS;
    SHARED __align__(16) float rs[STAGE][N], ks[STAGE][N], ws[STAGE][N];
    SHARED float vs[STAGE][COLUMNS], os[STAGE][COLUMNS], bonus[STAGE], bonuses[N];
    static_assert(KEYS == 1 || KEYS == TOGETHER, "a head of 8 or of 64");
    release_next();
    const int tid = threadIdx.x, part = blockIdx.x % PARTS, head = blockIdx.x / PARTS % p.heads;
    const int index = blockIdx.x / PARTS / p.heads, sequence = index / p.runs; // index: of the run among all
    const int key = tid % KEYS, column = tid / KEYS;
    const bool active = column < COLUMNS;
    const int first = head * N, first_column = first + part * COLUMNS;
    for (int i = tid; i < N; i += THREADS) {
        bonuses[i] = p.bonus[first + i];
    }
    __syncthreads();
    wait_previous();
    const int start = p.offsets[sequence] + index % p.runs * p.run_tokens, last = p.offsets[sequence + 1];
    const int end = min(start + p.run_tokens, last);
    if (start >= end) {
        return;
    }
    float *heads = p.runs > 1 ? p.starts + static_cast<long long>(index) * p.heads * N * N : p.states[sequence] + p.heads_at;
    float *state = heads + static_cast<long long>(head) * N * N + part * COLUMNS + column;
    float s[8] = {}, total = 1.0f;
    if (active && !SUMS) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            s[e] = state[(e / 4 * (N / 2) + key * 4 + e % 4) * N];
        }
    }
    const E *rg = static_cast<const E *>(p.r), *kg = static_cast<const E *>(p.k), *vg = static_cast<const E *>(p.v);
    E r_next[EACH], k_next[EACH], v_next[V_EACH];
    float w_next[EACH];
    auto fetch = [&](int row0) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int at = tid + e * THREADS, row = row0 + at / N, i = first + at % N;
            if (at < STAGE * N && row < end) {
                const long long from = static_cast<long long>(row) * p.width + i;
                k_next[e] = kg[from], w_next[e] = p.decays[from];
                if constexpr (!SUMS) {
                    r_next[e] = rg[from];
                }
            }
        }
#pragma unroll
        for (int e = 0; e < V_EACH; e++) {
            const int at = tid + e * THREADS, row = row0 + at / COLUMNS;
            if (at < STAGE * COLUMNS && row < end) {
                v_next[e] = vg[static_cast<long long>(row) * p.width + first_column + at % COLUMNS];
            }
        }
    };
    fetch(start);
    for (int row0 = start; row0 < end; row0 += STAGE) {
        const int rows = min(STAGE, end - row0);
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int at = tid + e * THREADS;
            // What is beyond the last token changes nothing.
            const bool valid = at < rows * N;
            if (at < STAGE * N) {
                if constexpr (!SUMS) {
                    rs[at / N][at % N] = valid ? to_float(r_next[e]) : 0.0f;
                }
                ks[at / N][at % N] = valid ? to_float(k_next[e]) : 0.0f;
                ws[at / N][at % N] = valid ? w_next[e] : 1.0f;
            }
        }
#pragma unroll
        for (int e = 0; e < V_EACH; e++) {
            const int at = tid + e * THREADS;
            if (at < STAGE * COLUMNS) {
                vs[at / COLUMNS][at % COLUMNS] = at < rows * COLUMNS ? to_float(v_next[e]) : 0.0f;
            }
        }
        __syncthreads();
        if constexpr (SUMS) {
            if (row0 + STAGE < end) {
                fetch(row0 + STAGE);
            }
            if (part == 0 && tid < N) {
#pragma unroll
                for (int t = 0; t < STAGE; t++) {
                    total *= ws[t][tid];
                }
            }
            for (int t = 0; t < rows; t++) {
                const float v = vs[t][active ? column : 0];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int i = half * (N / 2) + key * 4;
                    const float4 k = *reinterpret_cast<const float4 *>(&ks[t][i]);
                    const float4 w = *reinterpret_cast<const float4 *>(&ws[t][i]);
                    float *own = s + half * 4;
                    own[0] = w.x * own[0] + k.x * v, own[1] = w.y * own[1] + k.y * v;
                    own[2] = w.z * own[2] + k.z * v, own[3] = w.w * own[3] + k.w * v;
                }
            }
            __syncthreads();
        } else {
#pragma unroll
            for (int t = tid / WARP; t < STAGE; t += THREADS / WARP) {
                float sum = 0.0f;
#pragma unroll
                for (int i = tid % WARP; i < N; i += WARP) {
                    sum += rs[t][i] * bonuses[i] * ks[t][i];
                }
                sum = warp_sum(sum);
                if (tid % WARP == 0) {
                    bonus[t] = sum;
                }
            }
            __syncthreads();
            if (row0 + STAGE < end) {
                fetch(row0 + STAGE);
            }
            for (int t0 = 0; t0 < rows; t0 += TOGETHER) {
                float o[TOGETHER];
#pragma unroll
                for (int t = 0; t < TOGETHER; t++) {
                    const float v = vs[t0 + t][active ? column : 0];
                    float sum[2] = {};
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const int i = half * (N / 2) + key * 4;
                        const float4 r = *reinterpret_cast<const float4 *>(&rs[t0 + t][i]);
                        const float4 k = *reinterpret_cast<const float4 *>(&ks[t0 + t][i]);
                        const float4 w = *reinterpret_cast<const float4 *>(&ws[t0 + t][i]);
                        float *own = s + half * 4;
                        sum[half] += r.x * own[0], own[0] = w.x * own[0] + k.x * v;
                        sum[half] += r.y * own[1], own[1] = w.y * own[1] + k.y * v;
                        sum[half] += r.z * own[2], own[2] = w.z * own[2] + k.z * v;
                        sum[half] += r.w * own[3], own[3] = w.w * own[3] + k.w * v;
                    }
                    o[t] = sum[0] + sum[1];
                }
                if constexpr (KEYS == TOGETHER) {
                    // Lanes swap halves: the k-th of the keys' lanes ends with the k-th token's sum.
#pragma unroll
                    for (int half = TOGETHER / 2; half > 0; half /= 2) {
                        const bool upper = key & half;
#pragma unroll
                        for (int i = 0; i < half; i++) {
                            const float given = upper ? o[i] : o[i + half];
                            o[i] = (upper ? o[i + half] : o[i]) + __shfl_xor_sync(ALL, given, half);
                        }
                    }
                    os[t0 + key][column] = o[0] + bonus[t0 + key] * vs[t0 + key][column];
                } else if (active) {
#pragma unroll
                    for (int t = 0; t < TOGETHER; t++) {
                        os[t0 + t][column] = o[t] + bonus[t0 + t] * vs[t0 + t][column];
                    }
                }
            }
            __syncthreads();
            for (int at = tid; at < rows * COLUMNS; at += THREADS) {
                p.out[static_cast<long long>(row0 + at / COLUMNS) * p.width + first_column + at % COLUMNS] =
                    os[at / COLUMNS][at % COLUMNS];
            }
        }
    }
    if (active && (SUMS || p.runs == 1)) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            state[(e / 4 * (N / 2) + key * 4 + e % 4) * N] = s[e];
        }
    }
    if (SUMS && part == 0 && tid < N) {
        p.totals[static_cast<long long>(index) * p.width + first + tid] = total;
    }
    if (SUMS || end < last) {
        return;
    }
    float *kept = p.states[sequence] + p.shift;
    for (int i = tid; i < COLUMNS; i += THREADS) {
        kept[first_column + i] = p.normed[static_cast<long long>(end - 1) * p.width + first_column + i];
    }
}

constexpr int LINK_THREADS = 256;
constexpr int LINKED = 8; // runs whose sums are under way at once

// A thread an element of S.
DEVICE void link_runs(const WkvLink &p)
{
    release_next();
    wait_previous();
    const long long all = static_cast<long long>(p.width) * p.head, unit = 1ll * blockIdx.x * LINK_THREADS + threadIdx.x;
    const int sequence = static_cast<int>(unit / all), within = static_cast<int>(unit % all);
    if (sequence >= p.sequences) {
        return;
    }
    const int tokens = p.offsets[sequence + 1] - p.offsets[sequence], count = (tokens + p.run_tokens - 1) / p.run_tokens;
    float *starts = p.starts + sequence * p.runs * all + within;
    const float *totals = p.totals + 1ll * sequence * p.runs * p.width + within / p.head;
    float *state = p.states[sequence] + p.heads_at + within, s = *state;
    for (int run = 0; run < count; run += LINKED) {
        float added[LINKED], decay[LINKED];
#pragma unroll
        for (int i = 0; i < LINKED; i++) {
            if (run + i < count) {
                added[i] = starts[(run + i) * all], decay[i] = totals[static_cast<long long>(run + i) * p.width];
            }
        }
#pragma unroll
        for (int i = 0; i < LINKED; i++) {
            if (run + i < count) {
                starts[(run + i) * all] = s;
                s = decay[i] * s + added[i];
            }
        }
    }
    *state = s;
}

// A warp a head of a row.
constexpr int GATE_THREADS = 256;

template <int N, class E> DEVICE void gate_rows(const Gate &p)
{
    constexpr int EACH = (N + WARP - 1) / WARP;
    release_next();
    wait_previous();
    const int lane = threadIdx.x % WARP;
    const long long unit = blockIdx.x * (GATE_THREADS / WARP) + threadIdx.x / WARP;
    if (unit >= static_cast<long long>(p.rows) * p.heads) {
        return;
    }
    const long long row = unit / p.heads;
    const int first = static_cast<int>(unit % p.heads) * N;
    const long long base = row * p.width + first;
    float values[EACH], sum = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int i = lane * EACH + e;
        values[e] = i < N ? p.o[base + i] : 0.0f;
        sum += values[e];
    }
    const float mean = warp_sum(sum) / N;
    float squares = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const float off = lane * EACH + e < N ? values[e] - mean : 0.0f;
        squares += off * off;
    }
    const float scale = rsqrtf(warp_sum(squares) / N + p.epsilon);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int i = lane * EACH + e;
        if (i < N) {
            const float normed = (values[e] - mean) * scale * p.weight[first + i] + p.bias[first + i];
            const float g = to_float(static_cast<const E *>(p.g)[base + i]);
            static_cast<E *>(p.out)[base + i] = from_float<E>(normed * silu(g));
        }
    }
}
