// The trainer's kernels, each for activations in f32 and in bf16 where it reads or writes some.

#include "loss.cuh"
#include "rows.cuh"
#include "sums.cuh"
#include "weights.cuh"
#include "wkv.cuh"

BOTH(norm, ROW_THREADS)
BOTH(mix, ROW_THREADS)
BOTH(lerp, ROW_THREADS)
BOTH(lerp_back, ROW_THREADS)
BOTH(embed, ROW_THREADS)
BOTH(pick, ROW_THREADS)
BOTH(last_rows, ROW_THREADS)
ANY(row_stats, ROW_THREADS)
KERNEL(norm_back_plain_f32, Args, ROW_THREADS, (norm_back<float, PLAIN>(p)))
KERNEL(norm_back_plain_bf16, Args, ROW_THREADS, (norm_back<bf16, PLAIN>(p)))
KERNEL(norm_back_channel_f32, Args, ROW_THREADS, (norm_back<float, CHANNEL>(p)))
KERNEL(norm_back_channel_bf16, Args, ROW_THREADS, (norm_back<bf16, CHANNEL>(p)))
KERNEL(norm_back_time_f32, Args, ROW_THREADS, (norm_back<float, TIME>(p)))
KERNEL(norm_back_time_bf16, Args, ROW_THREADS, (norm_back<bf16, TIME>(p)))

BOTH(tanh_all, MAP_THREADS)
BOTH(tanh_back, MAP_THREADS)
BOTH(square, MAP_THREADS)
BOTH(square_back, MAP_THREADS)
BOTH(add_gated, MAP_THREADS)
BOTH(gated_back, MAP_THREADS)
BOTH(gate, MAP_THREADS)
BOTH(gate_back, MAP_THREADS)
BOTH(drop, MAP_THREADS)
BOTH(add_all, MAP_THREADS)
BOTH(fold, MAP_THREADS)
BOTH(fold_back, MAP_THREADS)
ANY(rate, MAP_THREADS)
ANY(to_bf16, MAP_THREADS)
ANY(repeat, MAP_THREADS)

KERNEL(chunk_sums_f32, Args, WKV_WARPS *WARP, (chunk_sums<float, false>(p)))
KERNEL(chunk_sums_bf16, Args, WKV_WARPS *WARP, (chunk_sums<bf16, false>(p)))
KERNEL(chunk_sums_back_f32, Args, WKV_WARPS *WARP, (chunk_sums<float, true>(p)))
KERNEL(chunk_sums_back_bf16, Args, WKV_WARPS *WARP, (chunk_sums<bf16, true>(p)))
ANY(chunk_scan, 256)
BOTH(recur, WKV_WARPS *WARP)
BOTH(recur_back, WKV_WARPS *WARP)
ANY(sum_heads, 64)

KERNEL(strip_sums_f32, Args, STRIP_THREADS, (strip_sums<float, VALUES_ALONE>(p)))
KERNEL(strip_sums_bf16, Args, STRIP_THREADS, (strip_sums<bf16, VALUES_ALONE>(p)))
KERNEL(strip_sums_differences_f32, Args, STRIP_THREADS, (strip_sums<float, WITH_DIFFERENCES>(p)))
KERNEL(strip_sums_differences_bf16, Args, STRIP_THREADS, (strip_sums<bf16, WITH_DIFFERENCES>(p)))
KERNEL(strip_sums_normed_f32, Args, STRIP_THREADS, (strip_sums<float, WITH_NORMED>(p)))
KERNEL(strip_sums_normed_bf16, Args, STRIP_THREADS, (strip_sums<bf16, WITH_NORMED>(p)))
KERNEL(strip_sums_heads_f32, Args, STRIP_THREADS, (strip_sums<float, WITH_HEADS>(p)))
KERNEL(strip_sums_heads_bf16, Args, STRIP_THREADS, (strip_sums<bf16, WITH_HEADS>(p)))
ANY(add_strips, 256)

BOTH(loss_rows, LOSS_THREADS)
BOTH(dense_int8, MAP_THREADS)
BOTH(dense_nf4, MAP_THREADS)
ANY(adam, MAP_THREADS)
ANY(squares, MAP_THREADS)
