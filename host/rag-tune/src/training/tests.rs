//! Trainings of the 3 M oracle model, judged through the engine.

use rag_engine::rwkv::AdapterScale;

use super::*;
use crate::merge::merge_as;
use crate::testing::{ANSWER, Tuned, answers, plan, question};

/// Runs to the end; returns the losses.
fn train(plan: &Plan) -> Vec<f64> {
    let mut losses = Vec::new();
    let mut training = Training::open(plan.clone()).unwrap();
    let ended = training
        .run(&AtomicBool::new(false), &mut |point| {
            losses.push(point.loss);
            Ok(())
        })
        .unwrap();
    assert_eq!(ended, Ended::Done);
    losses
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Questions that were not among the examples.
fn held_out() -> Vec<String> {
    (400..410).map(question).collect()
}

/// 200 updates on 200 examples: the loss falls by 30 % at least, and greedy answers become the trained one.
fn judge(method: TuneMethod, change: impl FnOnce(&mut TuneSettings)) {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), method, change);
    let losses = train(&plan);
    assert_eq!(losses.len(), 200);
    let (before, after) = (mean(&losses[..10]), mean(&losses[190..]));
    assert!(after < 0.7 * before, "{method:?}: {before} to {after}");

    let result = plan.dir.join("rwkv-1.pth");
    let start = (method == TuneMethod::Pissa).then(|| plan.dir.join(PISSA_START));
    let tuned = match method {
        TuneMethod::State => Tuned::State(&result),
        TuneMethod::Lora => Tuned::Adapter { path: &result, start, scale: AdapterScale::Alpha(16.0) },
        TuneMethod::Pissa | TuneMethod::Bone => {
            Tuned::Adapter { path: &result, start, scale: AdapterScale::One }
        }
    };
    let merged = dir.path().join("merged.pth");
    merge_as(&plan.base, &result, &merged, Type::F32).unwrap();
    let untouched = answers(&plan.base, &Tuned::Nothing, &held_out());
    let whole = answers(&merged, &Tuned::Nothing, &held_out());
    let beside = answers(&plan.base, &tuned, &held_out());
    let trained = |list: &[(String, Vec<f32>)]| list.iter().filter(|(text, _)| text == ANSWER).count();
    assert_eq!(trained(&untouched), 0);
    assert!(
        trained(&beside) >= 9,
        "{method:?}: {:?}",
        beside.iter().map(|(text, _)| text).collect::<Vec<_>>()
    );

    // Merged and unmerged are one model, but for rounding.
    for ((a, a_logits), (b, b_logits)) in beside.iter().zip(&whole) {
        let worst = a_logits.iter().zip(b_logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 5e-3, "{method:?}: {worst}");
        assert_eq!(a, b);
    }
}

#[test]
fn a_tuned_state_answers_as_trained() {
    judge(TuneMethod::State, |_| {});
}

#[test]
fn lora_answers_as_trained() {
    judge(TuneMethod::Lora, |_| {});
}

#[test]
fn pissa_answers_as_trained() {
    judge(TuneMethod::Pissa, |_| {});
}

#[test]
fn bone_answers_as_trained() {
    judge(TuneMethod::Bone, |_| {});
}

/// Stopped twice and gone on each time: the same curve and the same file, bit for bit.
#[test]
fn resumed_is_uninterrupted() {
    for method in [TuneMethod::State, TuneMethod::Pissa] {
        let change = |s: &mut TuneSettings| {
            s.epoch_steps = 12;
            s.micro_batch = 2;
            s.accumulate = 2;
            s.checkpoint_steps = 5;
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let whole = plan(one.path(), method, change);
        let curve = train(&whole);
        let parts = plan(two.path(), method, change);
        let mut resumed = Vec::new();
        for until in [4, 9, 12] {
            let stop = AtomicBool::new(false);
            let mut training = Training::open(parts.clone()).unwrap();
            assert_eq!(training.step(), resumed.len() as u64);
            training
                .run(&stop, &mut |point| {
                    resumed.push(point.loss);
                    stop.store(point.step == until, Ordering::Relaxed);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(curve, resumed, "{method:?}");
        let file = |plan: &Plan| fs_err::read(plan.dir.join("rwkv-1.pth")).unwrap();
        assert!(file(&whole) == file(&parts), "{method:?}: the files differ");
    }
}

/// Killed while it wrote a checkpoint, or with the newest one torn: it goes on from one that is whole.
#[test]
fn a_torn_checkpoint_costs_a_few_updates() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), TuneMethod::State, |s| {
        s.epoch_steps = 9;
        s.checkpoint_steps = 3;
    });
    let curve = train(&plan);
    assert_eq!(saved::steps(&plan.dir), [6, 9]);
    let newest = plan.dir.join("checkpoint-00000009.safetensors");
    let bytes = fs_err::read(&newest).unwrap();
    fs_err::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    fs_err::write(plan.dir.join("checkpoint-00000012.safetensors.part"), &bytes[..100]).unwrap();
    let mut training = Training::open(plan.clone()).unwrap();
    assert_eq!(training.step(), 6);
    let mut losses = Vec::new();
    let mut keep = |point: &TunePoint| {
        losses.push(point.loss);
        Ok(())
    };
    training.run(&AtomicBool::new(false), &mut keep).unwrap();
    assert_eq!(losses, curve[6..]);
}

/// Four samples at once, or one after the other: the same update.
#[test]
fn accumulation_is_a_larger_batch() {
    let run = |micro: u32, accumulate: u32| {
        let dir = tempfile::tempdir().unwrap();
        train(&plan(dir.path(), TuneMethod::State, |s| {
            s.epoch_steps = 5;
            s.micro_batch = micro;
            s.accumulate = accumulate;
        }))
    };
    for (a, b) in run(4, 1).iter().zip(run(1, 4)) {
        assert!((a - b).abs() < 1e-3 * a, "{a} and {b}");
    }
}

#[test]
fn a_training_that_diverges_or_does_not_fit_its_base_stops_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let good = plan(dir.path(), TuneMethod::State, |s| s.epoch_steps = 4);
    let diverging =
        Plan { settings: TuneSettings { lr: 100.0, clip: 0.0, ..good.settings.clone() }, ..good.clone() };
    let mut training = Training::open(diverging).unwrap();
    // Whatever the device holds, a loss that is no number ends the run.
    let spoiled: Vec<Named> = training
        .device
        .save()
        .unwrap()
        .into_iter()
        .map(|named| Named { values: vec![f32::NAN; named.values.len()], ..named })
        .collect();
    saved::write(dir.path(), 1, &spoiled, &[("step", "1".to_owned())]).unwrap();
    training.device.restore(&*checkpoint::open(&saved::newest(dir.path()).unwrap().0).unwrap()).unwrap();
    let error = training.run(&AtomicBool::new(false), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(&error, Error::InvalidInput { message } if message.contains("diverged")), "{error}");

    // Tokens beyond the model's vocabulary.
    let vocabulary = fs_err::read_to_string(&good.vocabulary).unwrap();
    fs_err::write(&good.vocabulary, vocabulary + "300 'ok' 2\n").unwrap();
    let error = Training::open(good.clone()).err().unwrap();
    assert!(matches!(&error, Error::InvalidInput { message } if message.contains("vocabularies")), "{error}");
}

#[test]
fn another_base_or_other_data_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), TuneMethod::State, |s| s.epoch_steps = 3);
    train(&plan);
    let data = fs_err::read_to_string(&plan.data).unwrap();
    fs_err::write(&plan.data, data.replace(" ok", " no")).unwrap();
    assert!(matches!(Training::open(plan.clone()).err().unwrap(), Error::Conflict { .. }));
    let mut base = fs_err::read(&plan.base).unwrap();
    let last = base.len() / 2;
    base[last] ^= 1;
    fs_err::write(&plan.base, base).unwrap();
    let merged = crate::merge::merge(&plan.base, &plan.dir.join("rwkv-1.pth"), &dir.path().join("m.pth"));
    assert!(matches!(merged, Err(Error::Conflict { .. })));
}

/// A full disk, as far as the program sees it: the folder cannot be written.
#[test]
fn a_checkpoint_that_cannot_be_written_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), TuneMethod::State, |s| s.epoch_steps = 3);
    let mut training = Training::open(plan.clone()).unwrap();
    fs_err::remove_dir_all(&plan.dir).unwrap();
    let error = training.run(&AtomicBool::new(false), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error}");
}

/// Chunks of a long sample, dropout and an int8 base work together with everything else.
#[test]
fn chunks_dropout_and_few_bits_train_too() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), TuneMethod::Lora, |s| {
        s.chunk_tokens = 16;
        s.dropout = 0.1;
        s.precision = "int8".to_owned();
        s.checkpointing = true;
        s.epoch_steps = 60;
    });
    let losses = train(&plan);
    assert!(mean(&losses[50..]) < 0.7 * mean(&losses[..5]), "{losses:?}");
}
