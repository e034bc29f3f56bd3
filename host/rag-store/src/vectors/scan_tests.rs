//! Does a scan over codes ever lose a row that is among the nearest? Against exact scores, on data of many kinds.

use std::collections::BTreeMap;

use rag_core::search::Metric;

use super::scan::{Candidates, exact_score};
use super::snapshot::Snapshot;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// A fixed sequence, about normally distributed.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| (0..6).map(|_| self.uniform()).sum::<f32>() - 3.0).collect()
    }
}

type Rows = BTreeMap<i64, Vec<f32>>;

fn snapshot(dim: usize, metric: Metric, rows: &Rows) -> Snapshot {
    let some: Vec<Vec<f32>> = rows.values().step_by(7).cloned().collect();
    let mut snapshot = Snapshot::coarse(dim, metric, &some);
    rows.iter().for_each(|(row, vector)| snapshot.upsert(*row, vector));
    snapshot
}

/// Every one of the `k` nearest of the rows allowed is a candidate, and no other row is.
fn check(what: &str, snapshot: &Snapshot, rows: &Rows, query: &[f32], allowed: Option<&[i64]>) {
    let passes = |row: &i64| allowed.is_none_or(|allowed| allowed.binary_search(row).is_ok());
    let scored = rows.iter().filter(|(row, _)| passes(row));
    let mut plain: Vec<(f32, i64)> =
        scored.map(|(row, vector)| (exact_score(snapshot.metric, query, vector), *row)).collect();
    plain.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for k in [1, 10, 40] {
        let found = Candidates::find(snapshot, query, k, allowed);
        for (_, row) in plain.iter().take(k) {
            assert!(found.contains(row), "{what}, {:?}, k {k}: row {row} is lost", snapshot.metric);
        }
        assert!(found.iter().all(|row| plain.iter().any(|(_, other)| other == row)), "{what}");
    }
}

#[test]
fn no_near_row_is_lost_at_any_size_of_vectors() {
    for (dim, count) in [(1, 300), (2, 300), (16, 4_500), (100, 2_500), (384, 700), (768, 400), (1024, 300)] {
        let mut noise = Noise(dim as u64);
        let rows: Rows = (0..count).map(|row| (row * 3, noise.vector(dim))).collect();
        for metric in METRICS {
            let snapshot = snapshot(dim, metric, &rows);
            for _ in 0..3 {
                check(&format!("{dim} components"), &snapshot, &rows, &noise.vector(dim), None);
            }
        }
    }
}

#[test]
fn no_near_row_is_lost_whatever_the_rows_are_like() {
    const DIM: usize = 60;
    let mut noise = Noise(5);
    let common = noise.vector(DIM);
    let add = |to: Vec<f32>, share: f32| -> Vec<f32> {
        to.iter().zip(&common).map(|(a, b)| a * share + b).collect()
    };
    let mut of = |make: &dyn Fn(i64, &mut Noise) -> Vec<f32>| -> Rows {
        (0..2_500).map(|row| (row, make(row, &mut noise))).collect()
    };
    for (what, rows) in [
        ("all equal", of(&|_, _| vec![0.25; DIM])),
        ("all zero", of(&|_, _| vec![0.0; DIM])),
        ("some zero", of(&|row, noise| if row % 5 == 0 { vec![0.0; DIM] } else { noise.vector(DIM) })),
        ("each three times", of(&|row, _| Noise(row as u64 / 3).vector(DIM))),
        ("close together", of(&|_, noise| add(noise.vector(DIM), 1e-4))),
        ("much in common", of(&|_, noise| add(noise.vector(DIM), 0.3))),
        ("one component", of(&|row, _| (0..DIM as i64).map(|at| f32::from(at == row % 60)).collect())),
        ("whole numbers", of(&|_, noise| noise.vector(DIM).into_iter().map(f32::round).collect())),
        (
            "lengths far apart",
            of(&|row, noise| {
                let scale = 10_f32.powi((row % 9) as i32 - 4);
                noise.vector(DIM).into_iter().map(|value| value * scale).collect()
            }),
        ),
        (
            "beyond what f32 can multiply",
            of(&|row, noise| {
                let scale = if row % 9 == 0 { 1e37 } else { 1e-38 };
                noise.vector(DIM).into_iter().map(|value| value * scale).collect()
            }),
        ),
    ] {
        for metric in METRICS {
            // Such lengths have an order by direction only.
            if what.starts_with("beyond") && metric != Metric::Cosine {
                continue;
            }
            let snapshot = snapshot(DIM, metric, &rows);
            for query in [Noise(77).vector(DIM), rows[&7].clone(), vec![0.0; DIM]] {
                check(what, &snapshot, &rows, &query, None);
            }
        }
    }
}

#[test]
fn filters_changes_and_deletions_lose_nothing() {
    const DIM: usize = 48;
    for metric in METRICS {
        let mut noise = Noise(9);
        let mut rows: Rows = (0..5_000).map(|row| (row, noise.vector(DIM))).collect();
        let mut snapshot = snapshot(DIM, metric, &rows);
        let query = noise.vector(DIM);
        // Rows change, to some that lie further off their signs than any before; half of a segment goes, one whole, and
        // single rows elsewhere; new ones come.
        for row in (0..5_000).step_by(11) {
            let changed: Vec<f32> =
                noise.vector(DIM).into_iter().map(|value| value * value * value).collect();
            snapshot.upsert(row, &changed);
            rows.insert(row, changed);
        }
        let gone: Vec<i64> = (1_024..4_096).chain((0..1_000).step_by(3)).collect();
        snapshot.delete(&gone);
        gone.iter().for_each(|row| {
            rows.remove(row);
        });
        for row in 5_000..5_100 {
            let new = noise.vector(DIM);
            snapshot.upsert(row, &new);
            rows.insert(row, new);
        }
        check("changed", &snapshot, &rows, &query, None);
        for step in [2, 7, 40, 300] {
            // Some of them were deleted.
            let allowed: Vec<i64> = (0..5_100).step_by(step).filter(|row| rows.contains_key(row)).collect();
            check(&format!("one in {step}"), &snapshot, &rows, &query, Some(&allowed));
        }
        let one_segment: Vec<i64> = (4_100..4_400).collect();
        check("one segment", &snapshot, &rows, &query, Some(&one_segment));
    }
}

#[test]
fn becoming_coarse_while_in_memory_is_the_same_as_being_read_so() {
    const DIM: usize = 16;
    let mut noise = Noise(3);
    let rows: Rows =
        (0..super::snapshot::COARSE_ROWS as i64 + 50).map(|row| (row, noise.vector(DIM))).collect();
    let mut grown = Snapshot::new(DIM, Metric::Euclidean);
    for (row, vector) in &rows {
        grown.upsert(*row, vector);
    }
    assert!(grown.frame.is_some());
    let query = noise.vector(DIM);
    check("grown", &grown, &rows, &query, None);
    check("read", &snapshot(DIM, Metric::Euclidean, &rows), &rows, &query, None);
}
