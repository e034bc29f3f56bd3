//! Against the golden values of the full model, and with files that are not what they should be.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::gemm::Isa;
use super::loaded::{Loaded, Precision, load};
use super::model::{Scratch, Sequence};
use super::tokenizer::unigram::{BEGIN, END};
use super::weights::parse;

pub(super) fn file() -> PathBuf {
    let shipped = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    std::env::var_os("RAG_MODELS_DIR").map_or_else(shipped, PathBuf::from).join("e5-small.safetensors")
}

/// The shipped model, as the product runs it.
pub(super) static FAST: LazyLock<Loaded> = LazyLock::new(|| load(&file(), Precision::Int8).unwrap());
static EXACT: LazyLock<Loaded> = LazyLock::new(|| load(&file(), Precision::F32).unwrap());

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
    let sequences: Vec<_> = texts.iter().map(|ids| Sequence { ids, second: ids.len() }).collect();
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
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let original = tensors.tensor("tokenizer.original_ids").unwrap();
    let original: Vec<u32> = original.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    for (text, expected, _) in GOLDEN {
        let found: Vec<u32> = ids(&FAST, text).iter().map(|row| original[*row as usize]).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn vectors_agree_with_the_golden_values() {
    let texts: Vec<Vec<u32>> = GOLDEN.iter().map(|(text, ..)| ids(&EXACT, text)).collect();
    let reference = embed(&EXACT, Isa::detect(), &texts);
    for ((text, _, golden), vector) in GOLDEN.iter().zip(&reference) {
        for (value, golden) in vector.iter().zip(golden) {
            assert!((value - golden).abs() < 3e-5, "{text}: {:?}", &vector[..5]);
        }
    }
    for (vector, reference) in embed(&FAST, Isa::detect(), &texts).iter().zip(&reference) {
        assert!(cosine(vector, reference) > 0.9992, "{}", cosine(vector, reference));
    }
}

#[test]
fn every_instruction_set_and_every_batch_gives_the_same_vector() {
    let long = "知识库把文件切成小段，each of them gets its own vector。".repeat(2);
    let texts = [ids(&FAST, "知识"), ids(&FAST, &long), ids(&FAST, "query: 谁写了《红楼梦》？")];
    let reference = embed(&EXACT, Isa::Scalar, &texts);
    for isa in Isa::available() {
        let together = embed(&FAST, isa, &texts);
        for (i, text) in texts.iter().enumerate() {
            let alone = embed(&FAST, isa, std::slice::from_ref(text)).remove(0);
            assert!(cosine(&alone, &together[i]) > 0.999_999, "{isa:?}: text {i} alone and in a batch");
            assert!(cosine(&alone, &reference[i]) > 0.9992, "{isa:?}: text {i} in int8 and f32");
        }
        for (vector, reference) in embed(&EXACT, isa, &texts).iter().zip(&reference) {
            assert!(cosine(vector, reference) > 0.999_999, "{isa:?}: f32 kernels");
        }
    }
}

/// A model of one layer, 64 dimensions and six pieces, as a file; `edit` may change its metadata and tensors.
fn tiny(edit: impl Fn(&mut HashMap<String, String>, &mut HashMap<String, Tensor>)) -> Vec<u8> {
    let floats = |count: usize| (Dtype::F32, vec![count], vec![0; count * 4]);
    let mut tensors = HashMap::from([
        ("tokenizer.pieces".to_owned(), (Dtype::U8, vec![23], b"<s><pad></s><unk>\xe7\x9f\xa5abc".to_vec())),
        ("tokenizer.piece_bytes".to_owned(), (Dtype::U8, vec![6], vec![3, 5, 4, 5, 3, 3])),
        ("tokenizer.scores".to_owned(), floats(6)),
        (
            "tokenizer.normalise".to_owned(),
            (Dtype::U32, vec![3], [10u32, 1, 32].map(u32::to_le_bytes).concat()),
        ),
        ("position".to_owned(), floats(8 * 64)),
        ("type".to_owned(), floats(64)),
    ]);
    for (name, rows) in
        [("word", 6)].into_iter().chain(["q", "k", "v", "attention_out", "up", "down"].map(|name| (name, 64)))
    {
        let name = if name == "word" { name.to_owned() } else { format!("layers.0.{name}") };
        tensors.insert(format!("{name}.nibbles"), (Dtype::U8, vec![rows, 32], vec![0x9a; rows * 32]));
        tensors.insert(format!("{name}.scales"), (Dtype::F16, vec![rows, 2], vec![0x3c; rows * 4]));
        tensors.insert(format!("{name}.bias"), floats(rows));
    }
    for name in ["embedding_norm", "layers.0.attention_norm", "layers.0.output_norm"] {
        tensors.insert(format!("{name}.weight"), floats(64));
        tensors.insert(format!("{name}.bias"), floats(64));
    }
    let about = [("format", "rag-e5-q4/1"), ("model", "tiny"), ("heads", "2"), ("norm_eps", "1e-12")];
    let prefixes = [("prefix_query", "query: "), ("prefix_passage", "passage: ")];
    let mut about: HashMap<String, String> =
        about.into_iter().chain(prefixes).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    edit(&mut about, &mut tensors);
    let views = |about: &HashMap<String, String>| {
        let list = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        safetensors::serialize(list, Some(about.clone())).unwrap()
    };
    let bytes = views(&about);
    let data = &bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..];
    let hash: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    about.entry("data_sha256".to_owned()).or_insert(hash);
    views(&about)
}

/// Type, shape, bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

#[test]
fn a_damaged_file_is_refused_with_the_reason() {
    let check = |bytes: &[u8], expected: &str| {
        let error = parse(bytes, Precision::Int8).unwrap_err();
        assert!(error.contains(expected), "'{error}' lacks '{expected}'");
    };
    let whole = tiny(|_, _| ());
    assert_eq!(parse(&whole, Precision::Int8).unwrap().name, "tiny");
    check(&[], "cut short");
    check(&whole[..1000], "cut short");
    check(&whole[..whole.len() - 1], "cut short");
    check(b"PK\x03\x04 this is a zip archive, not a tensor file", "not a safetensors file");
    let mut flipped = whole.clone();
    let last = flipped.len() - 9;
    flipped[last] ^= 1;
    check(&flipped, "damaged");

    let about =
        |key: &str, value: &str| tiny(|about, _| drop(about.insert(key.to_owned(), value.to_owned())));
    check(&about("format", "rag-e5-q4/9"), "format 'rag-e5-q4/9'");
    check(&about("heads", "7"), "7 heads");
    check(&about("norm_eps", "small"), "'norm_eps' of its header is no number");
    check(&tiny(|about, _| drop(about.remove("prefix_query"))), "lacks 'prefix_query'");

    let tensor =
        |name: &str, tensor: Tensor| tiny(|_, tensors| drop(tensors.insert(name.to_owned(), tensor.clone())));
    check(&tiny(|_, tensors| drop(tensors.remove("layers.0.up.bias"))), "'layers.0.up.bias' is missing");
    check(&tiny(|_, tensors| drop(tensors.remove("layers.0.q.nibbles"))), "no layers");
    check(&tensor("type", (Dtype::F32, vec![2], vec![0; 8])), "'type' has 2 values, not 64");
    check(&tensor("type", (Dtype::F32, vec![64], [0xff; 256].to_vec())), "not a number");
    check(&tensor("type", (Dtype::U8, vec![64], vec![0; 64])), "'type' is of type U8");
    check(&tensor("position", (Dtype::F32, vec![65], vec![0; 260])), "65 values");
    check(
        &tensor("word.scales", (Dtype::F16, vec![2], vec![0; 4])),
        "the word table has 192 bytes and 2 scales",
    );
    check(
        &tensor("layers.0.down.scales", (Dtype::F16, vec![2], vec![0; 4])),
        "'layers.0.down' is [64, 32] with 2",
    );
    check(&tensor("tokenizer.piece_bytes", (Dtype::U8, vec![6], vec![9; 6])), "lengths do not fit");
    check(&tensor("tokenizer.piece_bytes", (Dtype::U8, vec![2], vec![3, 5])), "6 word vectors for 2 pieces");
    check(&tensor("tokenizer.pieces", (Dtype::U8, vec![23], vec![0xff; 23])), "not UTF-8");
    check(&tensor("tokenizer.normalise", (Dtype::U32, vec![2], vec![9; 8])), "normalisation map");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(&PathBuf::from("/nowhere/e5-small.safetensors"), Precision::Int8).unwrap_err();
    assert!(error.to_string().contains("/nowhere/e5-small.safetensors"), "{error}");
    assert_eq!(error.code(), rag_core::ErrorCode::Unavailable);
}
