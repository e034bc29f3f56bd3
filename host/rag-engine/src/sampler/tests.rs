//! The sampler against upstream's steps written down literally in f64.

use proptest::prelude::*;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "tests build the settings in the call")]
fn sampler(sampling: Sampling) -> Sampler {
    Sampler::new(&Sampling { seed: Some(1), ..sampling }).unwrap()
}

/// Upstream's steps 1 to 5, literally, in f64; the result is sorted by id and normalised.
fn reference(sampling: &Sampling, logits: &[f32], counts: &[(u32, f32)]) -> Vec<(u32, f64)> {
    let mut logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    for &(id, count) in counts {
        logits[id as usize] -= f64::from(sampling.presence_penalty + count * sampling.frequency_penalty);
    }
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|l| (l - top).exp()).collect();
    let total: f64 = powers.iter().sum();
    let mut p: Vec<f64> = powers.iter().map(|power| power / total).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
    let mut sum = 0.0;
    let cutoff = order.iter().map(|&id| p[id]).find(|p| {
        sum += p;
        sum >= f64::from(sampling.top_p)
    });
    p.iter_mut().for_each(|p| {
        if *p < cutoff.unwrap_or(0.0) {
            *p = 0.0;
        }
    });
    if sampling.top_k > 0 {
        order.iter().skip(sampling.top_k as usize).for_each(|&id| p[id] = 0.0);
    }
    p.iter_mut().for_each(|p| *p = p.powf(1.0 / f64::from(sampling.temperature)));
    normalised(p.iter().enumerate().map(|(id, &p)| (id as u32, p)).collect())
}

fn normalised(mut weights: Vec<(u32, f64)>) -> Vec<(u32, f64)> {
    weights.retain(|(_, p)| *p > 0.0);
    weights.sort_by_key(|(id, _)| *id);
    let total: f64 = weights.iter().map(|(_, p)| p).sum();
    weights.iter_mut().for_each(|(_, p)| *p /= total);
    weights
}

proptest! {
    #[test]
    fn the_distribution_is_the_plain_ones(
        logits in prop::collection::vec(-12f32..12.0, 1..300),
        (temperature, top_p, top_k) in (0.2f32..3.0, 0f32..0.999, 0u32..20),
        (presence, frequency) in (0f32..1.0, 0f32..1.0),
        seen in prop::collection::vec(0usize..300, 0..20),
    ) {
        let sampling = Sampling {
            temperature, top_p, top_k, seed: Some(1),
            presence_penalty: presence, frequency_penalty: frequency, penalty_decay: 0.9,
        };
        let mut sampler = sampler(sampling.clone());
        let mut counts: Vec<(u32, f32)> = Vec::new();
        for id in seen {
            let id = (id % logits.len()) as u32;
            sampler.accept(id, true);
            counts.iter_mut().for_each(|(_, count)| *count *= 0.9);
            match counts.iter_mut().find(|(seen, _)| *seen == id) {
                Some((_, count)) => *count += 1.0,
                None => counts.push((id, 1.0)),
            }
        }
        sampler.penalise(&logits, &[]);
        let got = normalised(sampler.candidates());
        let want = reference(&sampling, &logits, &counts);
        prop_assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            prop_assert_eq!(got.0, want.0);
            prop_assert!((got.1 - want.1).abs() < 1e-4 * want.1 + 1e-9, "{} {}", got.1, want.1);
        }
    }

    #[test]
    fn draws_stay_within_the_candidates(logits in prop::collection::vec(-5f32..5.0, 1..50), seed: u64) {
        let sampling = Sampling { top_p: 0.8, top_k: 5, temperature: 1.3, ..Sampling::default() };
        let mut sampler = Sampler::new(&Sampling { seed: Some(seed), ..sampling.clone() }).unwrap();
        let allowed = reference(&sampling, &logits, &[]);
        for _ in 0..10 {
            let id = sampler.choose(&logits, &[]);
            prop_assert!(allowed.iter().any(|(allowed, _)| *allowed == id));
        }
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [2.0f32.ln(), 5.0f32.ln(), 3.0f32.ln()];
    let mut sampler = sampler(Sampling { top_p: 1.0, ..Sampling::default() });
    let mut counts = [0; 3];
    for _ in 0..20_000 {
        counts[sampler.choose(&logits, &[]) as usize] += 1;
    }
    for (count, want) in counts.iter().zip([4000, 10_000, 6000]) {
        assert!(i32::abs(count - want) < 300, "{counts:?}");
    }
}

#[test]
fn temperature_zero_takes_the_first_of_the_largest() {
    let mut greedy = sampler(Sampling { temperature: 0.0, top_p: 1.0, ..Sampling::default() });
    assert_eq!(greedy.choose(&[0.0, 3.0, 3.0, 1.0], &[]), 1);
    assert_eq!(greedy.choose(&[0.0, 3.0, 3.0, 1.0], &[1]), 2);
    assert_eq!(greedy.choose(&[f32::NAN, 1.0], &[]), 1);
}

/// Scaling logits first would keep only the first id here; upstream's order keeps two.
#[test]
fn top_p_comes_before_temperature() {
    let sampling = Sampling { temperature: 0.1, top_p: 0.7, ..Sampling::default() };
    let mut sampler = sampler(sampling);
    sampler.penalise(&[0.6f32.ln(), 0.4f32.ln()], &[]);
    assert_eq!(sampler.candidates().len(), 2);
}

#[test]
fn ties_with_the_cutoff_stay() {
    let mut sampler = sampler(Sampling { top_p: 0.3, ..Sampling::default() });
    sampler.penalise(&[1.0, 1.0, 1.0, 0.0], &[]);
    assert_eq!(sampler.candidates().iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn everything_is_kept_when_rounding_keeps_the_sum_below_one() {
    let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.77).sin()).collect();
    let mut sampler = sampler(Sampling { top_p: 1.0, ..Sampling::default() });
    sampler.penalise(&logits, &[]);
    assert!(sampler.candidates().len() > 990);
}

#[test]
fn the_same_seed_draws_the_same() {
    let logits: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
    let draw = |seed| {
        let sampling = Sampling { seed, top_p: 1.0, frequency_penalty: 0.4, ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling).unwrap();
        (0..20)
            .map(|_| {
                let id = sampler.choose(&logits, &[]);
                sampler.accept(id, true);
                id
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(Some(5)), draw(Some(5)));
    assert_ne!(draw(Some(5)), draw(Some(6)));
    assert_ne!(draw(None), draw(None));
}

#[test]
fn blanks_and_digits_are_not_counted_but_are_present() {
    let mut sampler =
        sampler(Sampling { presence_penalty: 0.5, frequency_penalty: 1.0, ..Sampling::default() });
    sampler.accept(0, false);
    sampler.accept(1, true);
    sampler.penalise(&[0.0; 3], &[]);
    assert_eq!(sampler.values, [-0.5, -1.5, 0.0]);
}

#[test]
fn settings_outside_their_range_are_refused() {
    let fine = Sampling::default();
    for (bad, name) in [
        (Sampling { temperature: -0.1, ..fine.clone() }, "temperature"),
        (Sampling { temperature: f32::NAN, ..fine.clone() }, "temperature"),
        (Sampling { top_p: 1.1, ..fine.clone() }, "top_p"),
        (Sampling { penalty_decay: 2.0, ..fine.clone() }, "penalty_decay"),
        (Sampling { presence_penalty: f32::INFINITY, ..fine.clone() }, "presence_penalty"),
        (Sampling { frequency_penalty: -11.0, ..fine }, "frequency_penalty"),
    ] {
        let error = Sampler::new(&bad).unwrap_err();
        assert!(matches!(&error, Error::InvalidInput { message } if message.starts_with(name)), "{error}");
    }
}
