//! Files of weights: safetensors, web-rwkv's naming, packed ones with all or some rows, and damaged ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rag_core::Error;
use rag_engine::checkpoint;
use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::simd::Simd;
use rag_engine::packed::{Plan, quantize, quantize_with};
use rag_engine::rwkv::{Logits, Model, Piece, State, Weights};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::engine;
use super::synthetic::{Synthetic, VOCABULARY};

const TOKENS: [u32; 6] = [1, 299, 42, 42, 7, 150];

/// Logits after each of `TOKENS`.
fn logits(weights: &dyn Weights, format: Format) -> Vec<f32> {
    let mut engine = engine(Model::read(weights, format).unwrap(), Simd::detect());
    let mut state = State::zero(engine.config());
    engine
        .forward(&mut [Piece { tokens: &TOKENS, state: &mut state, logits: Logits::All, adapter: None }])
        .to_vec()
}

/// How a tensor is written: name, shape, values.
type Change = fn(&str, Vec<usize>, Vec<f32>) -> (String, Vec<usize>, Vec<f32>);

fn write_safetensors(path: &Path, dtype: Dtype, change: Change) {
    let model = Synthetic::new(1);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (model.names().into_iter())
        .map(|name| {
            let (stored, shape, values) =
                change(&name, model.shape(&name).unwrap(), model.read(&name).unwrap());
            let bytes: Vec<u8> = match dtype {
                Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                _ => values.iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect(),
            };
            (stored, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

fn unchanged(name: &str, shape: Vec<usize>, values: Vec<f32>) -> (String, Vec<usize>, Vec<f32>) {
    (name.to_string(), shape, values)
}

/// A folder with the synthetic model as `model.safetensors`.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, Dtype::F32, unchanged);
    (folder, path)
}

fn refusal(path: &Path) -> String {
    match checkpoint::open(path).and_then(|weights| Model::read(&*weights, Format::F32)) {
        Err(Error::Model { message, .. }) => message,
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn safetensors_give_the_same_model() {
    let (_folder, path) = folder();
    let file = checkpoint::open(&path).unwrap();
    assert_eq!(logits(&*file, Format::F32), logits(&Synthetic::new(1), Format::F32));
    assert_eq!(file.packed_bytes(), None);
}

#[test]
fn bf16_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bf16.safetensors");
    write_safetensors(&path, Dtype::BF16, unchanged);
    let values = checkpoint::open(&path).unwrap().read("blocks.0.att.key.weight").unwrap();
    for (got, exact) in values.iter().zip(Synthetic::new(1).read("blocks.0.att.key.weight").unwrap()) {
        assert!((got - exact).abs() <= exact.abs() / 128.0 && got.abs() <= exact.abs(), "{got} {exact}");
    }
}

/// web-rwkv renames some tensors and turns the low-rank matrices.
#[test]
fn files_of_web_rwkv_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.st");
    write_safetensors(&path, Dtype::F32, |name, mut shape, values| {
        let stored = name.replace("time_faaaa", "time_first").replace("time_maa", "time_mix");
        let turned = ["maa_w1", "maa_w2", "decay_w1", "decay_w2"].iter().any(|part| name.ends_with(part));
        if !turned {
            return (stored, shape, values);
        }
        let axes = shape.len();
        let (rows, cols) = (shape[axes - 2], shape[axes - 1]);
        let turned = values
            .chunks(rows * cols)
            .flat_map(|slice| (0..rows * cols).map(move |i| slice[i % rows * cols + i / rows]))
            .collect();
        shape.swap(axes - 2, axes - 1);
        (stored, shape, turned)
    });
    let file = checkpoint::open(&path).unwrap();
    assert_eq!(logits(&*file, Format::F32), logits(&Synthetic::new(1), Format::F32));
}

#[test]
fn a_packed_file_is_the_model_quantised_at_load() {
    let (folder, path) = folder();
    let packed = folder.path().join("int8.safetensors");
    quantize(&path, &packed, Format::Int8).unwrap();
    let file = checkpoint::open(&packed).unwrap();
    assert_eq!(logits(&*file, Format::F32), logits(&Synthetic::new(1), Format::Int8));
    assert!(file.packed_bytes().is_some());

    let smaller = folder.path().join("int4.safetensors");
    quantize(&path, &smaller, Format::Int4).unwrap();
    let exact = logits(&Synthetic::new(1), Format::F32);
    let rough = logits(&*checkpoint::open(&smaller).unwrap(), Format::F32);
    let norm = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
    let error: Vec<f32> = rough.iter().zip(&exact).map(|(a, b)| a - b).collect();
    assert!(norm(&error) < 0.35 * norm(&exact), "{}", norm(&error) / norm(&exact));
    let size = |path: &Path| fs_err::metadata(path).unwrap().len();
    assert!(size(&smaller) < size(&packed) && size(&packed) < size(&path) / 2);
}

#[test]
fn left_out_rows_have_no_logit_and_a_common_embedding() {
    let (folder, path) = folder();
    let kept_ids: Vec<u32> = (0..VOCABULARY as u32).filter(|id| id % 3 != 2).collect();
    let packed = folder.path().join("kept.safetensors");
    let plan = Plan { kept_ids: Some(kept_ids.clone()), ..Plan::of(Format::Int8) };
    quantize_with(&path, &packed, &plan).unwrap();
    let file = checkpoint::open(&packed).unwrap();
    assert_eq!(file.kept_ids().unwrap(), Some(kept_ids.clone()));
    assert_eq!(file.shape("emb.weight"), Some(vec![VOCABULARY, 128]));

    let mut few = engine(Model::read(&*file, Format::F32).unwrap(), Simd::detect());
    let mut all = engine(Model::read(&Synthetic::new(1), Format::Int8).unwrap(), Simd::detect());
    let kept = [1, 42, 42, 150];
    let (mut a, mut b) = (State::zero(few.config()), State::zero(all.config()));
    let few_logits = few.read(&kept, &mut a).unwrap();
    let all_logits = all.read(&kept, &mut b).unwrap();
    for id in 0..VOCABULARY {
        let want = if id % 3 == 2 { f32::NEG_INFINITY } else { all_logits[id] };
        assert_eq!(few_logits[id], want, "{id}");
    }
    // Every id that was left out reads as the same one.
    let mut after = |id| {
        let mut state = State::zero(few.config());
        few.read(&[1, id], &mut state).unwrap().to_vec()
    };
    assert_eq!(after(2), after(299));
    assert_ne!(after(2), after(3));
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let (folder, path) = folder();
    let output = folder.path().join("out.safetensors");
    for plan in
        [Plan::of(Format::F32), Plan { kept_ids: Some(vec![VOCABULARY as u32]), ..Plan::of(Format::Int8) }]
    {
        assert!(matches!(quantize_with(&path, &output, &plan), Err(Error::InvalidInput { .. })));
    }
    quantize(&path, &output, Format::Int8).unwrap();
    let twice = quantize(&output, &folder.path().join("again.safetensors"), Format::Int8).unwrap_err();
    assert!(twice.to_string().contains("packed already"), "{twice}");
    let nowhere = quantize(&path, &folder.path().join("missing/out.safetensors"), Format::Int8).unwrap_err();
    assert!(matches!(nowhere, Error::Storage { .. }), "{nowhere}");
}

#[test]
fn damaged_files_are_refused() {
    let (folder, path) = folder();
    let packed = folder.path().join("packed.safetensors");
    quantize(&path, &packed, Format::Int8).unwrap();
    let whole = fs_err::read(&packed).unwrap();
    let damaged = folder.path().join("damaged.safetensors");
    for len in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        fs_err::write(&damaged, &whole[..len]).unwrap();
        refusal(&damaged);
    }
    // One byte more than the header announces.
    fs_err::write(&damaged, [whole.as_slice(), &[0]].concat()).unwrap();
    refusal(&damaged);

    let change = |from: &str, to: &str| {
        let from = from.as_bytes();
        let at = whole.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs_err::write(&damaged, bytes).unwrap();
        refusal(&damaged)
    };
    assert!(change("ragkit-packed-2", "ragkit-packed-9").contains("ragkit-packed-9"));
    assert!(change("head.weight.int8", "head.weight.int7").contains("levels of head.weight are missing"));
    assert!(change("blocks.1.ln1.bias", "blocks.1.ln1.bios").contains("no tensor blocks.1.ln1.bias"));

    fs_err::write(&damaged, b"no model at all, but some text").unwrap();
    assert!(refusal(&damaged).contains("neither a PyTorch checkpoint nor safetensors"));
    assert!(checkpoint::open(&folder.path().join("missing")).is_err());
}
