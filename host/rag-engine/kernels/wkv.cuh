// RWKV-6's recurrence: o_j = sum_i r_i (S_ij + u_i k_i v_j); S_ij <- w_i S_ij + k_i v_j, in f32.
//
// `wkv_step` is for one token of each of many sequences: bound by reading and writing S. `wkv_seq` is for long prompts:
// the columns of S do not touch each other, so that a block owns 16 of them and the only chain over tokens is one
// multiply-add a token; inputs are staged 16 tokens at a time while the ones before are worked on.
#pragma once
#include "params.cuh"

template <int N> constexpr int STEP_THREADS = N * N / 16 < WARP ? WARP : N * N / 16;

template <int N, class In, class Out, class Low> DEVICE void wkv_step(const WkvStep &p)
{
    constexpr int COLUMNS = N / 4, KEYS = N / 4; // threads along values and along keys, four of each a thread
    constexpr int THREADS = STEP_THREADS<N>;
    constexpr int GROUPS = THREADS / N, PARTIALS = KEYS > GROUPS ? KEYS : GROUPS;
    SHARED __align__(16) float rs[N], ks[N], vs[N], ws[N], partial[PARTIALS][N], scratch[33];
    release_next();
    if (fetches_ahead(p.ahead)) {
        return;
    }
    const int row = blockIdx.x / p.heads, head = blockIdx.x % p.heads, tid = threadIdx.x;
    const int column = tid % COLUMNS * 4, key = tid / COLUMNS;
    const bool active = key < KEYS;
    float *state = p.states[row] + p.heads_at + static_cast<long long>(head) * N * N;
    float4 s[4];
    if (active) {
#pragma unroll
        for (int q = 0; q < 4; q++) {
            s[q] = *reinterpret_cast<const float4 *>(state + (key + KEYS * q) * N + column);
        }
    }
    const long long base = static_cast<long long>(row) * p.width;
    const int first = head * N;
    wait_previous();
    // omega, from the low-rank product unless it is there already: groups of N threads take a share of the rank.
    if (p.omega) {
        for (int i = tid; i < N; i += THREADS) {
            ws[i] = decay_of(p.decay[first + i] + p.omega[base + first + i]);
        }
    } else {
        const Low *up = static_cast<const Low *>(p.decay_up);
        float sum = 0.0f;
        for (int j = tid / N; j < p.decay_rank; j += GROUPS) {
            sum += p.decay_low[static_cast<long long>(row) * p.decay_rank + j] *
                   to_float(up[static_cast<long long>(j) * p.width + first + tid % N]);
        }
        partial[tid / N][tid % N] = sum;
        __syncthreads();
        for (int i = tid; i < N; i += THREADS) {
            float omega = p.decay[first + i];
            for (int j = 0; j < GROUPS; j++) {
                omega += partial[j][i];
            }
            ws[i] = decay_of(omega);
        }
    }
    float *kept = p.states[row] + p.shift;
    for (int i = tid; i < N; i += THREADS) {
        rs[i] = to_float(static_cast<const In *>(p.r)[base + first + i]);
        ks[i] = to_float(static_cast<const In *>(p.k)[base + first + i]);
        vs[i] = to_float(static_cast<const In *>(p.v)[base + first + i]);
        kept[first + i] = p.normed[base + first + i];
    }
    __syncthreads();
    if (active) {
        const float4 v = *reinterpret_cast<const float4 *>(&vs[column]);
        float4 o = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int i = key + KEYS * q;
            const float r = rs[i], w = ws[i], k = ks[i], u = p.bonus[first + i];
            const float4 kv = make_float4(k * v.x, k * v.y, k * v.z, k * v.w);
            o.x += r * (s[q].x + u * kv.x), o.y += r * (s[q].y + u * kv.y);
            o.z += r * (s[q].z + u * kv.z), o.w += r * (s[q].w + u * kv.w);
            const float4 next = make_float4(w * s[q].x + kv.x, w * s[q].y + kv.y, w * s[q].z + kv.z, w * s[q].w + kv.w);
            *reinterpret_cast<float4 *>(state + i * N + column) = next;
        }
        *reinterpret_cast<float4 *>(&partial[key][column]) = o;
    }
    __syncthreads();
    float value = 0.0f;
    if (tid < N) {
        for (int j = 0; j < KEYS; j++) {
            value += partial[j][tid];
        }
    }
    const float mean = block_sum(value, scratch) / N;
    const float off = tid < N ? value - mean : 0.0f;
    const float scale = rsqrtf(block_sum(off * off, scratch) / N + p.epsilon);
    if (tid < N) {
        const int i = first + tid;
        const float g = to_float(static_cast<const In *>(p.g)[base + i]);
        const float normed = off * scale * p.norm_weight[i] + p.norm_bias[i];
        static_cast<Out *>(p.out)[base + i] = from_float<Out>(normed * silu(g));
    }
}

constexpr int STAGE = 16;

template <int N> constexpr int SEQ_COLUMNS = N < 16 ? N : 16;
template <int N> constexpr int SEQ_THREADS = SEQ_COLUMNS<N> * N / 8 < WARP ? WARP : SEQ_COLUMNS<N> * N / 8;

template <int N, class E> DEVICE void wkv_seq(const WkvSeq &p)
{
    constexpr int COLUMNS = SEQ_COLUMNS<N>, KEYS = N / 8, THREADS = SEQ_THREADS<N>, PARTS = N / COLUMNS;
    constexpr int EACH = (STAGE * N + THREADS - 1) / THREADS, V_EACH = (STAGE * COLUMNS + THREADS - 1) / THREADS;
    SHARED __align__(16) float rs[STAGE][N], ks[STAGE][N], ws[STAGE][N];
    SHARED float vs[STAGE][COLUMNS], os[STAGE][COLUMNS], bonus[STAGE];
    release_next();
    const int tid = threadIdx.x, part = blockIdx.x % PARTS, head = blockIdx.x / PARTS % p.heads;
    const int sequence = blockIdx.x / PARTS / p.heads;
    const int key = tid % KEYS, column = tid / KEYS;
    const bool active = column < COLUMNS;
    const int first = head * N, first_column = first + part * COLUMNS;
    wait_previous();
    const int start = p.offsets[sequence], end = p.offsets[sequence + 1];
    if (start == end) {
        return;
    }
    float *state = p.states[sequence] + p.heads_at + static_cast<long long>(head) * N * N + part * COLUMNS + column;
    float s[8];
    if (active) {
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
                r_next[e] = rg[from], k_next[e] = kg[from], w_next[e] = p.omega[from];
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
            if (at < rows * N) {
                rs[at / N][at % N] = to_float(r_next[e]);
                ks[at / N][at % N] = to_float(k_next[e]);
                ws[at / N][at % N] = decay_of(p.decay[first + at % N] + w_next[e]);
            }
        }
#pragma unroll
        for (int e = 0; e < V_EACH; e++) {
            const int at = tid + e * THREADS;
            if (at < rows * COLUMNS) {
                vs[at / COLUMNS][at % COLUMNS] = to_float(v_next[e]);
            }
        }
        __syncthreads();
        for (int t = tid / WARP; t < rows; t += THREADS / WARP) {
            float sum = 0.0f;
            for (int i = tid % WARP; i < N; i += WARP) {
                sum += rs[t][i] * p.bonus[first + i] * ks[t][i];
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
#pragma unroll 2
        for (int t = 0; t < rows; t++) {
            const float v = vs[t][active ? column : 0];
            float o = 0.0f;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int i = half * (N / 2) + key * 4;
                const float4 r = *reinterpret_cast<const float4 *>(&rs[t][i]);
                const float4 k = *reinterpret_cast<const float4 *>(&ks[t][i]);
                const float4 w = *reinterpret_cast<const float4 *>(&ws[t][i]);
                float *own = s + half * 4;
                o += r.x * own[0], own[0] = w.x * own[0] + k.x * v;
                o += r.y * own[1], own[1] = w.y * own[1] + k.y * v;
                o += r.z * own[2], own[2] = w.z * own[2] + k.z * v;
                o += r.w * own[3], own[3] = w.w * own[3] + k.w * v;
            }
#pragma unroll
            for (int step = KEYS / 2; step > 0; step /= 2) {
                o += __shfl_xor_sync(ALL, o, step);
            }
            if (active && key == 0) {
                os[t][column] = o + bonus[t] * v;
            }
        }
        __syncthreads();
        for (int at = tid; at < rows * COLUMNS; at += THREADS) {
            p.out[static_cast<long long>(row0 + at / COLUMNS) * p.width + first_column + at % COLUMNS] =
                os[at / COLUMNS][at % COLUMNS];
        }
    }
    if (active) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            state[(e / 4 * (N / 2) + key * 4 + e % 4) * N] = s[e];
        }
    }
    float *kept = p.states[sequence] + p.shift;
    for (int i = tid; i < COLUMNS; i += THREADS) {
        kept[first_column + i] = p.normed[static_cast<long long>(end - 1) * p.width + first_column + i];
    }
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
