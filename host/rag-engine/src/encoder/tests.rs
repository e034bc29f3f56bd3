//! Against the golden values of the full model, and with files that are not what they should be.

use std::path::PathBuf;

use safetensors::SafeTensors;

use super::gemm::Isa;
use super::model::Scratch;
use super::tokenizer::{BEGIN, END};
use super::weights::{Loaded, Precision, load, parse};

fn file() -> PathBuf {
    let shipped = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    std::env::var_os("RAG_MODELS_DIR").map_or_else(shipped, PathBuf::from).join("e5-small.safetensors")
}

/// Text with prefix, XLM-RoBERTa's ids, the first dimensions of the vector: computed with the unpruned table in f32
/// by an independent program.
const GOLDEN: [(&str, &[u32], [f32; 5]); 3] = [
    (
        "query: 什么是RWKV模型？",
        &[0, 41, 1294, 12, 6, 171_815, 78_691, 64_831, 71_277, 32, 2],
        [0.09251, -0.02477, -0.09760, -0.06773, 0.08673],
    ),
    (
        "query: How much protein should a female eat per day?",
        &[0, 41, 1294, 12, 11_249, 5045, 21_308, 5608, 10, 117_776, 73_203, 117, 5155, 32, 2],
        [0.05682, -0.02609, -0.06519, -0.02178, 0.10853],
    ),
    (
        "query: 今天天气很好，我们去公园散步。",
        &[0, 41, 1294, 12, 61_168, 70_871, 29_787, 4, 1535, 1677, 77_493, 188_955, 30, 2],
        [0.04983, 0.00185, -0.00564, -0.02025, 0.08766],
    ),
];

fn ids(model: &Loaded, text: &str) -> Vec<u32> {
    [&[BEGIN], model.tokenizer.encode(text).as_slice(), &[END]].concat()
}

/// Mean vectors of unit length.
fn embed(model: &Loaded, isa: Isa, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let mut scratch = Scratch::default();
    let sequences: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    model.model.forward(isa, &sequences, &mut scratch);
    let mut rest = scratch.hidden.as_slice();
    texts
        .iter()
        .map(|ids| {
            let (tokens, after) = rest.split_at(ids.len() * model.model.width);
            rest = after;
            let mut mean = vec![0.0; model.model.width];
            tokens.chunks(mean.len()).for_each(|t| mean.iter_mut().zip(t).for_each(|(m, t)| *m += t));
            super::maths::normalise(&mut mean);
            mean
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn pieces_are_those_of_the_full_vocabulary() {
    let bytes = fs_err::read(file()).unwrap();
    let model = parse(&bytes, Precision::Int8).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let original = tensors.tensor("tokenizer.original_ids").unwrap();
    let original: Vec<u32> = original.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    for (text, expected, _) in GOLDEN {
        let found: Vec<u32> = ids(&model, text).iter().map(|row| original[*row as usize]).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn vectors_agree_with_the_golden_values() {
    let exact = load(&file(), Precision::F32).unwrap();
    let fast = load(&file(), Precision::Int8).unwrap();
    let texts: Vec<Vec<u32>> = GOLDEN.iter().map(|(text, ..)| ids(&exact, text)).collect();
    let reference = embed(&exact, Isa::detect(), &texts);
    for ((text, _, golden), vector) in GOLDEN.iter().zip(&reference) {
        for (value, golden) in vector.iter().zip(golden) {
            assert!((value - golden).abs() < 3e-5, "{text}: {:?}", &vector[..5]);
        }
    }
    for (vector, reference) in embed(&fast, Isa::detect(), &texts).iter().zip(&reference) {
        assert!(cosine(vector, reference) > 0.9992, "{}", cosine(vector, reference));
    }
}

#[test]
fn every_instruction_set_and_every_batch_gives_the_same_vector() {
    let exact = load(&file(), Precision::F32).unwrap();
    let fast = load(&file(), Precision::Int8).unwrap();
    let long = "知识库把文件切成小段，each of them gets its own vector。".repeat(4);
    let texts = [ids(&fast, "知识"), ids(&fast, &long), ids(&fast, "query: 谁写了《红楼梦》？")];
    let reference = embed(&exact, Isa::Scalar, &texts);
    for isa in Isa::available() {
        let together = embed(&fast, isa, &texts);
        for (i, text) in texts.iter().enumerate() {
            let alone = embed(&fast, isa, std::slice::from_ref(text)).remove(0);
            assert!(cosine(&alone, &together[i]) > 0.999_999, "{isa:?}: text {i} alone and in a batch");
            assert!(cosine(&alone, &reference[i]) > 0.9992, "{isa:?}: text {i} in int8 and f32");
        }
        for (vector, reference) in embed(&exact, isa, &texts).iter().zip(&reference) {
            assert!(cosine(vector, reference) > 0.999_999, "{isa:?}: f32 kernels");
        }
    }
}

/// The file with its header changed by `edit`, its data as it is.
fn with_header(bytes: &[u8], edit: impl Fn(String) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = edit(String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn a_damaged_file_is_refused_with_the_reason() {
    let bytes = fs_err::read(file()).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let error = parse(bytes, Precision::Int8).unwrap_err();
        assert!(error.contains(expected), "'{error}' lacks '{expected}'");
    };
    check(&[], "cut short");
    check(&bytes[..1000], "cut short");
    check(&bytes[..bytes.len() - 1], "cut short");
    check(&bytes[..bytes.len() / 2], "cut short");
    check(b"PK\x03\x04 this is a zip archive, not a tensor file", "not a safetensors file");
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1000;
    flipped[last] ^= 1;
    check(&flipped, "damaged");
    check(
        &with_header(&bytes, |header| header.replace("rag-e5-q4/1", "rag-e5-q4/9")),
        "format 'rag-e5-q4/9'",
    );
    check(
        &with_header(&bytes, |header| header.replace("layers.3.up.bias", "layers.3.up.bios")),
        "layers.3.up.bias",
    );
    check(&with_header(&bytes, |header| header.replace("\"heads\":\"12\"", "\"heads\":\"7\"")), "7 heads");
    check(&with_header(&bytes, |header| header.replace("prefix_query", "prefix_quern")), "prefix_query");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(&PathBuf::from("/nowhere/e5-small.safetensors"), Precision::Int8).unwrap_err();
    assert!(error.to_string().contains("/nowhere/e5-small.safetensors"), "{error}");
    assert_eq!(error.code(), rag_core::ErrorCode::Unavailable);
}
