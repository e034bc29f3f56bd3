// Every kernel of the encoders by name. `encoder/gpu/kernels.rs` looks them up; build.rs compiles this file.
#include "attention.cuh"
#include "encoder.cuh"

// Named by the word table's type, then by the widest row.
KERNEL(embed_f32_1024, EmbedRows, ROW_THREADS, (embed_rows<float, 8>(p)))
KERNEL(embed_f32_4096, EmbedRows, ROW_THREADS, (embed_rows<float, 32>(p)))
KERNEL(embed_f16_1024, EmbedRows, ROW_THREADS, (embed_rows<half16, 8>(p)))
KERNEL(embed_f16_4096, EmbedRows, ROW_THREADS, (embed_rows<half16, 32>(p)))
KERNEL(add_norm_1024, AddNorm, ROW_THREADS, add_norm<8>(p))
KERNEL(add_norm_4096, AddNorm, ROW_THREADS, add_norm<32>(p))
KERNEL(gelu_f32, Gelu, MAP_THREADS, gelu<float>(p))
KERNEL(gelu_f16, Gelu, MAP_THREADS, gelu<half16>(p))

KERNEL(attention_f32, Attention, ATTENTION_THREADS, attention_exact(p))
// Named by a head's columns, then by the queries of a block.
KERNEL(attention16_64_f16, Attention, ATTENTION_THREADS, (attention_halves<16, 1>(p)))
KERNEL(attention16_128_f16, Attention, ATTENTION_THREADS, (attention_halves<16, 2>(p)))
KERNEL(attention32_64_f16, Attention, ATTENTION_THREADS, (attention_halves<32, 1>(p)))
KERNEL(attention32_128_f16, Attention, ATTENTION_THREADS, (attention_halves<32, 2>(p)))
KERNEL(attention64_64_f16, Attention, ATTENTION_THREADS, (attention_halves<64, 1>(p)))
RESIDENT_KERNEL(attention64_128_f16, Attention, ATTENTION_THREADS, 2, (attention_halves<64, 2>(p)))

KERNEL(pool, Pool, ROW_THREADS, pool_of(p))
KERNEL(gather_f32, Gather, ROW_THREADS, gather<float>(p))
KERNEL(gather_f16, Gather, ROW_THREADS, gather<half16>(p))
KERNEL(directions, Directions, ROW_THREADS, directions_of(p))
KERNEL(weigh_tokens, WeighTokens, ROW_THREADS, weigh_tokens_of(p))
KERNEL(score, Score, ROW_THREADS, score_of(p))
KERNEL(narrow, Narrow, MAP_THREADS, narrow_of(p))
