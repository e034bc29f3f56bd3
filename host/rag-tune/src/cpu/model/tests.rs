//! Forwards against the engine, backwards against difference quotients, and ways of computing against each other.

use rag_engine::cpu::matrix::Format;
use rag_engine::cpu::pool::Pool;
use rag_engine::cpu::product::Cpu;
use rag_engine::cpu::simd::Simd;
use rag_engine::rwkv::{Engine, RandomModel, Version};

use super::*;
use crate::cpu::frozen::Precision;
use crate::cpu::load;

fn config() -> Config {
    Config {
        vocabulary: 40,
        width: 32,
        layers: 3,
        heads: 4,
        head_size: 8,
        hidden: 96,
        version: Version::V6 { mix_rank: 4, decay_rank: 6 },
    }
}

fn model(precision: Precision) -> Model {
    load::model(&RandomModel::new(&config(), 5), precision).unwrap()
}

fn train_all(model: &mut Model) {
    model.tensors.list_mut().iter_mut().for_each(|tensor| tensor.trained = true);
}

const PASS: Pass = Pass {
    checkpointing: true,
    chunk_tokens: None,
    l2wrap: 0.0,
    weight: 1.0,
    dropout: Dropout { share: 0.0, seed: 0 },
};

fn batch(sequences: usize, tokens: usize) -> Batch {
    let count = sequences * tokens;
    Batch {
        sequences,
        tokens: (0..count).map(|i| (i * 7 % 40) as u32).collect(),
        labels: (0..count).map(|i| (i % 3 != 1).then_some((i * 11 % 40) as u32)).collect(),
    }
}

/// The engine's logits, turned into losses, are the trainer's losses.
#[test]
fn the_loss_is_that_of_the_engine_s_logits() {
    let weights = RandomModel::new(&config(), 5);
    let engine_model = rag_engine::rwkv::Model::read(&weights, Format::F32).unwrap();
    let mut engine = Engine::new(engine_model, Cpu { pool: Pool::new(1).unwrap(), simd: Simd::detect() });
    let batch = batch(2, 21);
    let mut expected = 0.0;
    for sequence in 0..2 {
        let mut state = engine.initial_state();
        for t in sequence * 21..(sequence + 1) * 21 {
            let logits = engine.read(&[batch.tokens[t]], &mut state).unwrap();
            let Some(label) = batch.labels[t] else { continue };
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            expected += sum.ln() - f64::from(logits[label as usize]);
        }
    }
    let model = model(Precision::F32);
    let loss = model.accumulate(&batch, &PASS, &mut Gradients::new(&model.tensors));
    assert!((loss - expected).abs() < 1e-3 * expected.abs(), "{loss} for {expected}");
}

/// Along a random direction in each tensor, the loss changes as its gradient says.
#[test]
fn every_gradient_is_a_difference_quotient() {
    let mut model = model(Precision::F32);
    train_all(&mut model);
    // A state that is not zero, so that decays have something to act on from the first token.
    for tensor in model.tensors.list_mut().iter_mut().filter(|tensor| tensor.name.ends_with("time_state")) {
        tensor.values.iter_mut().enumerate().for_each(|(i, value)| *value = (i as f32 * 0.7).sin() * 0.5);
    }
    let batch = batch(2, 19);
    let mut gradients = Gradients::new(&model.tensors);
    model.accumulate(&batch, &PASS, &mut gradients);
    for id in 0..model.tensors.list().len() {
        let gradient = gradients.list()[id].clone();
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let name = model.tensors.list()[id].name.clone();
        assert!(norm > 0.0, "{name} has no gradient");
        // Half along the gradient, half anywhere: a wrong direction shows, and the change is well above rounding.
        let direction: Vec<f32> = gradient
            .iter()
            .enumerate()
            .map(|(i, g)| g / norm + 0.3 * (i as f32 * 1.7).sin() / (gradient.len() as f32).sqrt())
            .collect();
        let along: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
        let step = 2e-3 / norm.max(1.0).sqrt();
        let mut at = |step: f32| {
            let values = &mut model.tensors.get_mut(id).values;
            let before = values.clone();
            values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
            let loss = model.accumulate(&batch, &PASS, &mut Gradients::new(&model.tensors));
            model.tensors.get_mut(id).values = before;
            loss
        };
        let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
        assert!((difference - along).abs() < 0.02 * along.abs() + 2e-3, "{name}: {along} for {difference}");
    }
}

#[test]
fn checkpointing_and_batching_change_nothing() {
    let mut model = model(Precision::F32);
    train_all(&mut model);
    let whole = batch(3, 18);
    let run = |batch: &Batch, pass: &Pass| {
        let mut gradients = Gradients::new(&model.tensors);
        let loss = model.accumulate(batch, pass, &mut gradients);
        (loss, gradients)
    };
    let (loss, gradients) = run(&whole, &PASS);
    let (other, kept) = run(&whole, &Pass { checkpointing: false, ..PASS });
    assert_eq!(loss, other);
    assert_eq!(gradients.list(), kept.list());

    let mut summed = Gradients::new(&model.tensors);
    let mut total = 0.0;
    for sequence in 0..3 {
        let part = sequence * 18..(sequence + 1) * 18;
        let single = Batch {
            sequences: 1,
            tokens: whole.tokens[part.clone()].to_vec(),
            labels: whole.labels[part].to_vec(),
        };
        total += model.accumulate(&single, &PASS, &mut summed);
    }
    assert!((total - loss).abs() < 1e-6 * loss);
    for (a, b) in gradients.list().iter().zip(summed.list()) {
        let norm = a.iter().map(|x| x * x).sum::<f32>().sqrt();
        let error = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        assert!(error <= 1e-4 * norm + 1e-6, "{error} of {norm}");
    }
}

/// Chunks carry what was read: the loss is the whole sequence's. Gradients are cut at their edges only.
#[test]
fn chunks_give_the_loss_of_the_whole() {
    let mut model = model(Precision::F32);
    train_all(&mut model);
    let whole = batch(2, 20);
    let run = |pass: &Pass| {
        let mut gradients = Gradients::new(&model.tensors);
        (model.accumulate(&whole, pass, &mut gradients), gradients)
    };
    let (loss, gradients) = run(&PASS);
    let (chunked, cut) = run(&Pass { chunk_tokens: Some(7), ..PASS });
    assert!((loss - chunked).abs() < 1e-5 * loss, "{chunked} for {loss}");
    let state = model.blocks[1].time_mix.state;
    assert_ne!(gradients.list()[state], cut.list()[state]);
    let (one, same) = run(&Pass { chunk_tokens: Some(20), ..PASS });
    assert_eq!((one, same.list()), (loss, gradients.list()));
}

/// A chunk's gradients are those of a sequence that starts where the chunk before ended.
#[test]
fn only_the_first_chunk_reaches_the_initial_state() {
    let mut model = model(Precision::F32);
    train_all(&mut model);
    let mut first_only = batch(1, 14);
    first_only.labels[7..].fill(None);
    let short = Batch {
        sequences: 1,
        tokens: first_only.tokens[..7].to_vec(),
        labels: first_only.labels[..7].to_vec(),
    };
    let full = batch(1, 14);
    let run = |batch: &Batch| {
        let mut gradients = Gradients::new(&model.tensors);
        model.accumulate(batch, &Pass { chunk_tokens: Some(7), ..PASS }, &mut gradients);
        gradients
    };
    let (a, b, c) = (run(&first_only), run(&short), run(&full));
    for block in &model.blocks {
        let state = block.time_mix.state;
        assert_eq!(a.list()[state], b.list()[state]);
        assert_eq!(a.list()[state], c.list()[state]);
    }
}

/// A base in few bits computes with what those bits stand for.
#[test]
fn a_quantised_base_is_its_dequantised_self() {
    for precision in [Precision::Bf16, Precision::Int8, Precision::Nf4] {
        let mut few = model(precision);
        let mut dense = model(Precision::F32);
        dense.embedding = few.embedding.clone();
        dense.head = few.head.clone();
        for ((name, few), (_, dense)) in few.linears().into_iter().zip(dense.linears()) {
            assert_ne!(few.frozen.dense(), dense.frozen.dense(), "{name}");
            dense.frozen.replace(&few.frozen.dense());
        }
        train_all(&mut few);
        train_all(&mut dense);
        let batch = batch(2, 17);
        let run = |model: &Model| {
            let mut gradients = Gradients::new(&model.tensors);
            (model.accumulate(&batch, &PASS, &mut gradients), gradients)
        };
        let ((a, by_a), (b, by_b)) = (run(&few), run(&dense));
        assert_eq!(a, b, "{precision:?}");
        assert_eq!(by_a.list(), by_b.list(), "{precision:?}");
    }
}
