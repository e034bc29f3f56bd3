// Every kernel by name, those of RWKV-7 too. `cuda/kernels.rs` looks them up; build.rs compiles this file.
#include "gemv.cuh"
#include "norm.cuh"
#include "sample.cuh"
#include "wkv.cuh"
#include "wkv7.cuh"

KERNEL(embed_f32, Embed, NORM_THREADS_MAX, embed<float>(p))
KERNEL(embed_bf16, Embed, NORM_THREADS_MAX, embed<bf16>(p))
KERNEL(ln_mix_f32, LnMix, NORM_THREADS_MAX, ln_mix<float>(p))
KERNEL(ln_mix_bf16, LnMix, NORM_THREADS_MAX, ln_mix<bf16>(p))
KERNEL(ln_mix_int8, LnMix, NORM_THREADS_MAX, ln_mix<int8>(p))
// Named by the low-rank weights, then by what is written.
KERNEL(lerp1_f32_f32, Lerp, LERP_THREADS, (lerp<float, float, 1>(p)))
KERNEL(lerp1_bf16_int8, Lerp, LERP_THREADS, (lerp<bf16, int8, 1>(p)))
KERNEL(lerp1_bf16_bf16, Lerp, LERP_THREADS, (lerp<bf16, bf16, 1>(p)))
KERNEL(lerp8_f32_f32, Lerp, LERP_THREADS, (lerp<float, float, 8>(p)))
KERNEL(lerp8_bf16_int8, Lerp, LERP_THREADS, (lerp<bf16, int8, 8>(p)))
KERNEL(lerp8_bf16_bf16, Lerp, LERP_THREADS, (lerp<bf16, bf16, 8>(p)))
KERNEL(mix_rows_f32, MixRows, 256, mix_rows<float>(p))
KERNEL(mix_rows_bf16, MixRows, 256, mix_rows<bf16>(p))
KERNEL(last_norm_f32, LastNorm, NORM_THREADS_MAX, last_norm<float>(p))
KERNEL(last_norm_bf16, LastNorm, NORM_THREADS_MAX, last_norm<bf16>(p))
KERNEL(last_norm_int8, LastNorm, NORM_THREADS_MAX, last_norm<int8>(p))
KERNEL(combine_f32, Combine, 256, combine<float>(p))
KERNEL(combine_bf16, Combine, 256, combine<bf16>(p))
KERNEL(squared_positive_f32, Map, 256, squared_positive<float>(p))
KERNEL(squared_positive_bf16, Map, 256, squared_positive<bf16>(p))
KERNEL(tanh_f32, Map, 256, (map_of<float, OF_TANH>(p)))
KERNEL(tanh_bf16, Map, 256, (map_of<bf16, OF_TANH>(p)))
KERNEL(sigmoid_f32, Map, 256, (map_of<float, OF_SIGMOID>(p)))
KERNEL(sigmoid_bf16, Map, 256, (map_of<bf16, OF_SIGMOID>(p)))

// Head sizes: 64 in every published model, 8 in a test model. Types are those of what is read, of what is written, and of
// the low-rank weights.
KERNEL(wkv_step64_f32_f32_f32, WkvStep, STEP_THREADS<64>, (wkv_step<64, float, float, float>(p)))
KERNEL(wkv_step64_f32_int8_bf16, WkvStep, STEP_THREADS<64>, (wkv_step<64, float, int8, bf16>(p)))
KERNEL(wkv_step64_f32_bf16_bf16, WkvStep, STEP_THREADS<64>, (wkv_step<64, float, bf16, bf16>(p)))
KERNEL(wkv_step64_bf16_bf16_bf16, WkvStep, STEP_THREADS<64>, (wkv_step<64, bf16, bf16, bf16>(p)))
KERNEL(wkv_step8_f32_f32_f32, WkvStep, STEP_THREADS<8>, (wkv_step<8, float, float, float>(p)))
KERNEL(wkv_step8_f32_bf16_bf16, WkvStep, STEP_THREADS<8>, (wkv_step<8, float, bf16, bf16>(p)))
KERNEL(wkv_step8_bf16_bf16_bf16, WkvStep, STEP_THREADS<8>, (wkv_step<8, bf16, bf16, bf16>(p)))
// For few blocks, for many, and what runs add to the state.
#define WKV_SEQ(N, E, Type)                                                                                    \
    KERNEL(wkv_seq##N##_##E, WkvSeq, SEQ_THREADS<N>, (wkv_seq<N, Type, false, 32>(p)))                         \
    RESIDENT_KERNEL(wkv_many##N##_##E, WkvSeq, SEQ_THREADS<N>, 2, (wkv_seq<N, Type, false, 16>(p)))            \
    RESIDENT_KERNEL(wkv_sums##N##_##E, WkvSeq, SEQ_THREADS<N>, 2, (wkv_seq<N, Type, true, 16>(p)))
WKV_SEQ(64, f32, float)
WKV_SEQ(64, bf16, bf16)
WKV_SEQ(8, f32, float)
WKV_SEQ(8, bf16, bf16)
KERNEL(wkv_decays, Decays, DECAY_THREADS, decays_of(p))
KERNEL(wkv_link, WkvLink, LINK_THREADS, link_runs(p))
KERNEL(gate64_f32, Gate, GATE_THREADS, (gate_rows<64, float>(p)))
KERNEL(gate64_bf16, Gate, GATE_THREADS, (gate_rows<64, bf16>(p)))
KERNEL(gate8_f32, Gate, GATE_THREADS, (gate_rows<8, float>(p)))
KERNEL(gate8_bf16, Gate, GATE_THREADS, (gate_rows<8, bf16>(p)))

// RWKV-7, named alike.
KERNEL(ln_mix7_f32, LnMix7, NORM_THREADS_MAX, (ln_mix7<float, float>(p)))
KERNEL(ln_mix7_bf16, LnMix7, NORM_THREADS_MAX, (ln_mix7<bf16, bf16>(p)))
KERNEL(ln_mix7_int8, LnMix7, NORM_THREADS_MAX, (ln_mix7<int8, float>(p)))
RESIDENT_KERNEL(wkv7_step_f32_f32_f32, Wkv7, WKV7_THREADS, 2, (wkv7<float, float, float, 1>(p)))
RESIDENT_KERNEL(wkv7_step_f32_int8_bf16, Wkv7, WKV7_THREADS, 2, (wkv7<float, int8, bf16, 1>(p)))
RESIDENT_KERNEL(wkv7_step_f32_bf16_bf16, Wkv7, WKV7_THREADS, 2, (wkv7<float, bf16, bf16, 1>(p)))
RESIDENT_KERNEL(wkv7_step_bf16_bf16_bf16, Wkv7, WKV7_THREADS, 2, (wkv7<bf16, bf16, bf16, 1>(p)))
RESIDENT_KERNEL(wkv7_seq_f32, Wkv7, WKV7_THREADS, 2, (wkv7<float, float, float, WKV7_STAGE>(p)))
RESIDENT_KERNEL(wkv7_seq_bf16, Wkv7, WKV7_THREADS, 2, (wkv7<bf16, bf16, bf16, WKV7_STAGE>(p)))

// Named by weights, inputs and the number of inputs.
#define DENSE(W, X, B, ...) RESIDENT_KERNEL(gemv_##W##_##X##_##B, Gemv, GEMV_THREADS, RESIDENT_DENSE<B>, __VA_ARGS__)
#define QUANTISED(W, B, ...) RESIDENT_KERNEL(gemv_##W##_int8_##B, Gemv, GEMV_THREADS, RESIDENT_QUANTISED<B>, __VA_ARGS__)
#define GEMV(B)                                              \
    DENSE(f32, f32, B, (gemv_dense<float, float, B>(p)))     \
    DENSE(bf16, bf16, B, (gemv_dense<bf16, bf16, B>(p)))     \
    DENSE(bf16, f32, B, (gemv_dense<bf16, float, B>(p)))     \
    QUANTISED(int8, B, (gemv_quantised<INT8, B>(p)))         \
    QUANTISED(int4, B, (gemv_quantised<INT4, B>(p)))         \
    QUANTISED(nf4, B, (gemv_quantised<NF4, B>(p)))
GEMV(1)
GEMV(2)
GEMV(4)
GEMV(8)

KERNEL(dequantise_int8, Dequantise, 256, dequantise<INT8>(p))
KERNEL(dequantise_int4, Dequantise, 256, dequantise<INT4>(p))
KERNEL(dequantise_nf4, Dequantise, 256, dequantise<NF4>(p))

KERNEL(sample_rows, Sample, SAMPLE_THREADS, sample(p))
KERNEL(fill_f32, Fill, 256, fill_numbers<float>(p))
KERNEL(fill_bf16, Fill, 256, fill_numbers<bf16>(p))
KERNEL(fill_bytes, Fill, 256, fill_with_bytes(p))
KERNEL(fill_halves, Fill, 256, fill_with_halves(p))
