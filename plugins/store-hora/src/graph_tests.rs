//! What is found is there, once, with its newest vector.

use super::*;

/// A cheap generator: the same points in every run.
struct Points(u64);

impl Points {
    fn next(&mut self, dim: usize) -> Vec<f32> {
        let mut value = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..dim).map(|_| value()).collect()
    }
}

/// A graph that finds every neighbour, and holds hora's caller to what hora needs.
#[derive(Default)]
struct Exact {
    rows: Vec<Vec<f32>>,
    built: usize,
}

impl Approximate for Exact {
    fn add(&mut self, vector: &[f32], number: usize) -> Result<(), &'static str> {
        assert_eq!(number, self.rows.len(), "numbers in order, none twice");
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4, "a unit vector");
        self.rows.push(vector.to_vec());
        Ok(())
    }

    fn build(&mut self) -> Result<(), &'static str> {
        self.built = self.rows.len();
        Ok(())
    }

    fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, Vec<f32>)> {
        assert_eq!(self.built, self.rows.len(), "asked before it was built");
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|a, b| dot(&self.rows[*b], query).total_cmp(&dot(&self.rows[*a], query)));
        order.into_iter().take(k).map(|row| (row, self.rows[row].clone())).collect()
    }
}

fn graph(dim: usize) -> Graph {
    Graph::new(dim, Box::new(Exact::default()))
}

fn check(graph: &Graph, rows: &BTreeMap<String, Vec<f32>>, queries: &[Vec<f32>]) {
    for query in queries {
        let query = unit(query).unwrap().unwrap();
        let mut exact: Vec<(f32, &String)> =
            rows.iter().map(|(chunk, row)| (dot(&unit(row).unwrap().unwrap(), &query), chunk)).collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let hits = graph.nearest(&query, 10).unwrap();
        let found: Vec<&String> = hits.iter().map(|hit| &hit.id).collect();
        assert_eq!(found, exact[..10].iter().map(|(_, chunk)| *chunk).collect::<Vec<_>>());
        assert!(hits.iter().zip(&exact).all(|(hit, (score, _))| (hit.score - score).abs() < 1e-4));
    }
}

#[test]
fn rows_are_found_while_hora_takes_them_in_and_after_many_were_replaced_or_deleted() {
    const DIM: usize = 12;
    let (mut points, mut graph, mut rows) = (Points(7), graph(DIM), BTreeMap::new());
    for row in 0..500 {
        let vector = points.next(DIM);
        graph.put(&format!("片{row}"), &vector).unwrap();
        rows.insert(format!("片{row}"), vector);
    }
    let queries: Vec<Vec<f32>> = (0..20).map(|_| points.next(DIM)).collect();
    check(&graph, &rows, &queries);
    graph.grow(300).unwrap();
    assert_eq!((graph.taken(), graph.len()), (300, 500));
    check(&graph, &rows, &queries);
    graph.grow(1_000).unwrap();
    assert_eq!((graph.taken(), graph.len()), (500, 500));
    check(&graph, &rows, &queries);
    for row in 0..60 {
        graph.remove(&format!("片{row}"));
        rows.remove(&format!("片{row}"));
        let (chunk, vector) = (format!("片{}", 100 + row), points.next(DIM));
        graph.put(&chunk, &vector).unwrap();
        rows.insert(chunk, vector);
    }
    assert_eq!((graph.taken(), graph.len()), (380, 440));
    assert!(!graph.is_worn() && graph.holes() == 120);
    check(&graph, &rows, &queries);
    graph.grow(1_000).unwrap();
    check(&graph, &rows, &queries);
    for row in 200..450 {
        graph.remove(&format!("片{row}"));
    }
    assert!(graph.is_worn());
}

#[test]
fn what_is_no_number_never_reaches_hora_and_a_vector_without_length_is_nobodys_neighbour() {
    let mut graph = graph(2);
    for bad in [[f32::NAN, 0.0], [f32::INFINITY, 0.0]] {
        assert!(graph.put("a", &bad).is_err() && graph.nearest(&bad, 1).is_err());
    }
    assert!(graph.put("a", &[1.0]).is_err() && graph.is_empty());
    assert_eq!(graph.nearest(&[1.0, 0.0], 3).unwrap(), []);
    graph.put("a", &[0.0, 0.0]).unwrap();
    graph.put("b", &[-2.0, 0.0]).unwrap();
    graph.put("c", &[3e-38, 0.0]).unwrap();
    graph.grow(9).unwrap();
    assert_eq!((graph.taken(), graph.len()), (2, 3));
    let hits = graph.nearest(&[5.0, 0.0], 3).unwrap();
    let found: Vec<(&str, f32)> = hits.iter().map(|hit| (hit.id.as_str(), hit.score)).collect();
    assert_eq!(found, [("c", 1.0), ("a", 0.0), ("b", -1.0)]);
    let of_nothing = graph.nearest(&[0.0, 0.0], 9).unwrap();
    assert_eq!(of_nothing.iter().map(|hit| hit.id.as_str()).collect::<String>(), "abc");
}
