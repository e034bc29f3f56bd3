// RWKV-7's layer: the six mixes, and everything between its products and `output`.
//
// For one token and head, key i and value j, with v0 the first layer's v:
//   w = exp(-e^(-1/2) sigmoid(w0 + w~)), a = sigmoid(a0 + a~), v <- v + (v0 - v) sigmoid(v0 + v~), kappa = k k_k / |k k_k|,
//   k <- k (1 + (a - 1) k_a);  S_ij <- w_i S_ij - kappa_i a_i sum_l kappa_l S_lj + k_i v_j;  o_j = sum_i r_i S_ij;
//   out = (groupnorm(o) + (sum_i r_i k_i r_k_i) v) g~
//
// A block is a head of a sequence; a thread holds 16 keys of one column of S, so that the only chain over tokens is two
// exchanges among four lanes. Tokens are prepared up to WKV7_STAGE at a time by a warp each, the ones after them are
// fetched meanwhile.
#pragma once
#include "norm.cuh"

constexpr int N7 = 64;
constexpr int WKV7_THREADS = 256;
constexpr int WKV7_WARPS = WKV7_THREADS / WARP;
constexpr int WKV7_STAGE = 16;
constexpr int WKV7_PARTS = WKV7_THREADS / N7; // threads that share a column
constexpr int WKV7_KEYS = N7 / WKV7_PARTS;
constexpr int LOWS = 4; // w, a, g, v
enum { LOW_W, LOW_A, LOW_G, LOW_V };

constexpr float DECAY_MAX = 0.60653066f; // e^(-1/2)
constexpr float LENGTH_MIN = 1e-12f;

// E is what r, k and v are written as, D the others.
template <class E, class D> DEVICE void ln_mix7(const LnMix7 &p)
{
    SHARED float scratch[2][2][WARP];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const Share weight = load_share(p.weight, p.width), bias = load_share(p.bias, p.width);
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
        const bool valid = column < p.width;
        float off[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            off[i] = (starts >= 0 ? kept.v[turn][i] : before.v[turn][i]) - now.v[turn][i];
        }
        store_four<float>(p.normed, 0, at + column, now.v[turn], valid);
#pragma unroll
        for (int c = 0; c < 6; c++) {
            float mixed[4] = {};
            if (valid) {
                load_floats(p.shares + static_cast<long long>(c) * p.width + column, mixed);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                mixed[i] = now.v[turn][i] + off[i] * mixed[i];
            }
            if (c < 3) {
                store_four<E>(p.out[c], all, at + column, mixed, valid);
            } else {
                store_four<D>(p.dense[c - 3], all, at + column, mixed, valid);
            }
            if (c == 2 && p.dense[LOW_V]) {
                store_four<D>(p.dense[LOW_V], all, at + column, mixed, valid);
            }
        }
    }
}

// What a lane has of a token: columns `lane` and `lane + 32` of the head.
template <class In> struct Raw7 {
    In r[2], k[2], v[2];
    float projected[LOWS][2], first[2];
};

// Threads that read 64 columns of a row of `up` together, and rows that the block reads at once.
template <class Low> constexpr int UP_LANES = N7 * sizeof(Low) / 16;
template <class Low> constexpr int UP_ROWS = WKV7_THREADS / UP_LANES<Low>;

// The low-rank projections of one row and head, in `sums`; all threads take part.
template <class Low>
DEVICE void project7(const Wkv7 &p, long long row, int first, float (&partial)[LOWS][WKV7_WARPS][N7])
{
    constexpr int EACH = 16 / sizeof(Low), LANES = UP_LANES<Low>, ROWS = UP_ROWS<Low>;
    const int tid = threadIdx.x, lane = tid % LANES, count = p.is_first ? LOWS - 1 : LOWS;
#pragma unroll
    for (int c = 0; c < LOWS; c++) {
        float sums[EACH] = {};
        if (c < count) {
            const Low *up = static_cast<const Low *>(p.up[c]) + first + lane * EACH;
            const float *low = p.low[c] + row * p.ranks[c];
#pragma unroll 4
            for (int j = tid / LANES; j < p.ranks[c]; j += ROWS) {
                float weights[EACH];
                load_floats(up + static_cast<long long>(j) * p.width, weights);
                const float z = low[j];
#pragma unroll
                for (int e = 0; e < EACH; e++) {
                    sums[e] += z * weights[e];
                }
            }
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
#pragma unroll
            for (int step = LANES; step < WARP; step *= 2) {
                sums[e] += __shfl_xor_sync(ALL, sums[e], step);
            }
            if (tid % WARP < LANES) {
                partial[c][tid / WARP][lane * EACH + e] = sums[e];
            }
        }
    }
    __syncthreads();
    // A thread a sum.
    const int c = tid / N7, column = tid % N7;
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WKV7_WARPS; warp++) {
        sum += partial[c][warp][column];
    }
    __syncthreads();
    partial[c][0][column] = sum;
    __syncthreads();
}

template <class Low> DEVICE void fetch_ups(const Wkv7 &p, int first)
{
#if !defined(EMULATED) && __CUDA_ARCH__ >= 800
    for (int c = 0; c < (p.is_first ? LOWS - 1 : LOWS); c++) {
        const Low *up = static_cast<const Low *>(p.up[c]) + first;
        for (int j = threadIdx.x; j < p.ranks[c]; j += WKV7_THREADS) {
            asm volatile("prefetch.global.L2 [%0];" ::"l"(up + static_cast<long long>(j) * p.width));
        }
    }
#endif
}

template <class In, class Out, class Low, int STAGE> DEVICE void wkv7(const Wkv7 &p)
{
    constexpr bool STEP = STAGE == 1;
    constexpr int TURNS7 = (STAGE + WKV7_WARPS - 1) / WKV7_WARPS; // tokens of a warp
    SHARED __align__(16) float rs[STAGE][N7], ws[STAGE][N7], ks[STAGE][N7], kappas[STAGE][N7], replaced[STAGE][N7];
    SHARED float vs[STAGE][N7], os[STAGE][N7];
    SHARED float partial[STEP ? LOWS : 1][STEP ? WKV7_WARPS : 1][N7];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const int tid = threadIdx.x, lane = tid % WARP, warp = tid / WARP;
    const int sequence = blockIdx.x / p.heads, head = blockIdx.x % p.heads, first = head * N7;
    const int column = tid / WKV7_PARTS, part = tid % WKV7_PARTS;
    const bool is_first = p.is_first != 0;
    float w0[2], a0[2], v0[2], k_k[2], k_a[2], r_k[2], norm_weight[2], norm_bias[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int own = first + h * WARP + lane;
        w0[h] = p.base[LOW_W][own], a0[h] = p.base[LOW_A][own], v0[h] = is_first ? 0.0f : p.base[LOW_V][own];
        k_k[h] = p.k_k[own], k_a[h] = p.k_a[own], r_k[h] = p.r_k[own];
        norm_weight[h] = p.norm_weight[own], norm_bias[h] = p.norm_bias[own];
    }
    if (STEP && !p.projected[0]) {
        fetch_ups<Low>(p, first);
    }
    float *state = p.states[sequence] + p.heads_at + static_cast<long long>(head) * N7 * N7 + column;
    // The e-th key of a thread: four beside each other, so that a warp reads them from shared memory without conflict.
    auto key_of = [&](int e) { return e / 4 * (4 * WKV7_PARTS) + part * 4 + e % 4; };
    float s[WKV7_KEYS];
    auto load_state = [&]() {
#pragma unroll
        for (int e = 0; e < WKV7_KEYS; e++) {
            s[e] = state[key_of(e) * N7];
        }
    };
    if (STEP) {
        // Only this layer's kernel touches it.
        load_state();
    }
    wait_previous();
    const int start = p.offsets ? p.offsets[sequence] : sequence, end = p.offsets ? p.offsets[sequence + 1] : start + 1;
    if (start == end) {
        return;
    }
    if (!STEP) {
        load_state();
    }
    const bool fused = STEP && !p.projected[0];
    if constexpr (STEP) {
        if (fused) {
            project7<Low>(p, start, first, partial);
        }
    }
    const In *rg = static_cast<const In *>(p.r), *kg = static_cast<const In *>(p.k), *vg = static_cast<const In *>(p.v);
    Raw7<In> raw[TURNS7];
    auto fetch = [&](int row0) {
#pragma unroll
        for (int i = 0; i < TURNS7; i++) {
            const int t = warp + i * WKV7_WARPS;
            if (t >= STAGE || row0 + t >= end) {
                continue;
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const long long at = static_cast<long long>(row0 + t) * p.width + first + h * WARP + lane;
                raw[i].r[h] = rg[at], raw[i].k[h] = kg[at], raw[i].v[h] = vg[at];
#pragma unroll
                for (int c = 0; c < LOWS; c++) {
                    if (fused) {
                        raw[i].projected[c][h] = partial[STEP ? c : 0][0][h * WARP + lane];
                    } else {
                        raw[i].projected[c][h] = c == LOW_V && is_first ? 0.0f : p.projected[c][at];
                    }
                }
                raw[i].first[h] = is_first ? 0.0f : p.first[at];
            }
        }
    };
    fetch(start);
    for (int row0 = start; row0 < end; row0 += STAGE) {
        const int rows = min(STAGE, end - row0);
        float v[TURNS7][2], g[TURNS7][2], own[TURNS7];
#pragma unroll
        for (int i = 0; i < TURNS7; i++) {
            const int t = warp + i * WKV7_WARPS;
            if (t >= rows) {
                continue;
            }
            float rate[2], kappa[2], squares = 0.0f;
            own[i] = 0.0f;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int at = h * WARP + lane;
                const float r = to_float(raw[i].r[h]), k = to_float(raw[i].k[h]);
                v[i][h] = to_float(raw[i].v[h]), g[i][h] = raw[i].projected[LOW_G][h];
                if (is_first) {
                    p.first[static_cast<long long>(row0 + t) * p.width + first + at] = v[i][h];
                } else {
                    v[i][h] += (raw[i].first[h] - v[i][h]) * sigmoid(v0[h] + raw[i].projected[LOW_V][h]);
                }
                rate[h] = sigmoid(a0[h] + raw[i].projected[LOW_A][h]);
                kappa[h] = k * k_k[h];
                const float key = k * (1.0f + (rate[h] - 1.0f) * k_a[h]);
                own[i] += r * key * r_k[h];
                squares += kappa[h] * kappa[h];
                rs[t][at] = r, ks[t][at] = key, vs[t][at] = v[i][h];
                ws[t][at] = expf(-DECAY_MAX * sigmoid(w0[h] + raw[i].projected[LOW_W][h]));
            }
            own[i] = warp_sum(own[i]);
            const float length = fmaxf(sqrtf(warp_sum(squares)), LENGTH_MIN);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                kappa[h] /= length;
                kappas[t][h * WARP + lane] = kappa[h], replaced[t][h * WARP + lane] = kappa[h] * rate[h];
            }
        }
        __syncthreads();
        if (row0 + STAGE < end) {
            fetch(row0 + STAGE);
        }
#pragma unroll 2
        for (int t = 0; t < rows; t++) {
            float held = 0.0f, o = 0.0f;
#pragma unroll
            for (int e = 0; e < WKV7_KEYS; e += 4) {
                float kappa[4];
                load_floats(&kappas[t][key_of(e)], kappa);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    held += kappa[i] * s[e + i];
                }
            }
            held += __shfl_xor_sync(ALL, held, 1);
            held += __shfl_xor_sync(ALL, held, 2);
            const float value = vs[t][column];
#pragma unroll
            for (int e = 0; e < WKV7_KEYS; e += 4) {
                float w[4], k[4], r[4], out[4];
                load_floats(&ws[t][key_of(e)], w);
                load_floats(&ks[t][key_of(e)], k);
                load_floats(&rs[t][key_of(e)], r);
                load_floats(&replaced[t][key_of(e)], out);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    s[e + i] = w[i] * s[e + i] - out[i] * held + k[i] * value;
                    o += r[i] * s[e + i];
                }
            }
            o += __shfl_xor_sync(ALL, o, 1);
            o += __shfl_xor_sync(ALL, o, 2);
            if (part == 0) {
                os[t][column] = o;
            }
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TURNS7; i++) {
            const int t = warp + i * WKV7_WARPS;
            if (t >= rows) {
                continue;
            }
            const float low = os[t][lane], high = os[t][lane + WARP];
            const float mean = warp_sum(low + high) / N7;
            const float off[2] = {low - mean, high - mean};
            const float scale = rsqrtf(warp_sum(off[0] * off[0] + off[1] * off[1]) / N7 + p.epsilon);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const long long at = static_cast<long long>(row0 + t) * p.width + first + h * WARP + lane;
                const float normed = off[h] * scale * norm_weight[h] + norm_bias[h];
                store_one<Out>(p.out, static_cast<long long>(p.rows) * p.width, at, (normed + own[i] * v[i][h]) * g[i][h],
                               true);
            }
        }
    }
#pragma unroll
    for (int e = 0; e < WKV7_KEYS; e++) {
        state[key_of(e) * N7] = s[e];
    }
    if (tid < N7) {
        p.states[sequence][p.shift + first + tid] = p.normed[static_cast<long long>(end - 1) * p.width + first + tid];
    }
}
