//! What does hora need around it to be safe? Unit vectors, and all that it lacks: replacing, deleting, and rows that it has
//! not taken in yet, which are compared one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use guest_store::{Error, Hit, Result};

/// Rows without a chunk that hora may hold beyond a quarter of those with one, before it is begun anew.
const HOLES_MIN: usize = 256;
/// Holes that a question looks behind.
const HOLES_ASKED_MAX: usize = 512;

/// A graph over unit vectors, known by numbers, that finds most of the nearest and forgets nothing.
pub trait Approximate {
    /// Keeps a vector until [`Approximate::build`].
    fn add(&mut self, vector: &[f32], number: usize) -> Result<(), &'static str>;
    /// Takes in what was added.
    fn build(&mut self) -> Result<(), &'static str>;
    /// Numbers and vectors, at most `k`, by Euclidean distance.
    fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, Vec<f32>)>;
}

/// Rows of one collection, each of the same dimension, compared by cosine.
pub struct Graph {
    dim: usize,
    hora: Box<dyn Approximate>,
    /// Chunks by hora's numbers; none once replaced or deleted.
    chunks: Vec<Option<String>>,
    numbers: HashMap<String, usize>,
    /// Unit vectors that hora has not got yet; of no length those that it never gets.
    waiting: BTreeMap<String, Vec<f32>>,
    still: BTreeSet<String>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows of {} components, {} in hora", self.len(), self.dim, self.taken())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A vector of length one; none for one of no length. Anything that is no number is refused.
fn unit(vector: &[f32]) -> Result<Option<Vec<f32>>> {
    let squared: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if !squared.is_finite() {
        return Err(Error::invalid("a vector with a component that is no number".to_owned()));
    }
    let length = squared.sqrt();
    if length < f64::from(f32::MIN_POSITIVE) {
        return Ok(None);
    }
    Ok(Some(vector.iter().map(|value| (f64::from(*value) / length) as f32).collect()))
}

impl Graph {
    pub fn new(dim: usize, hora: Box<dyn Approximate>) -> Self {
        Graph {
            dim,
            hora,
            chunks: Vec::new(),
            numbers: HashMap::new(),
            waiting: BTreeMap::new(),
            still: BTreeSet::new(),
        }
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows that can be found.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.waiting.len() + self.still.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that hora has taken in.
    pub fn taken(&self) -> usize {
        self.numbers.len()
    }

    /// Rows in hora that are nobody's any more.
    fn holes(&self) -> usize {
        self.chunks.len() - self.numbers.len()
    }

    /// Whether so much was taken out that reading the rows anew is the better way.
    pub fn is_worn(&self) -> bool {
        self.holes() > self.numbers.len() / 4 + HOLES_MIN
    }

    /// Adds a row or replaces it.
    pub fn put(&mut self, chunk: &str, vector: &[f32]) -> Result<()> {
        if vector.len() != self.dim {
            let (dim, own) = (vector.len(), self.dim);
            return Err(Error::invalid(format!("a vector of {dim} components among those of {own}")));
        }
        let vector = unit(vector)?;
        self.remove(chunk);
        match vector {
            Some(vector) => drop(self.waiting.insert(chunk.to_owned(), vector)),
            None => drop(self.still.insert(chunk.to_owned())),
        }
        Ok(())
    }

    pub fn remove(&mut self, chunk: &str) {
        self.waiting.remove(chunk);
        self.still.remove(chunk);
        if let Some(number) = self.numbers.remove(chunk) {
            self.chunks[number] = None;
        }
    }

    /// Lets hora take in up to `rows` of those that wait.
    pub fn grow(&mut self, rows: usize) -> Result<()> {
        let mut grown = false;
        for _ in 0..rows {
            let Some((chunk, vector)) = self.waiting.pop_first() else { break };
            let number = self.chunks.len();
            self.hora.add(&vector, number).map_err(|said| Error::internal(format!("hora: {said}")))?;
            self.chunks.push(Some(chunk.clone()));
            self.numbers.insert(chunk, number);
            grown = true;
        }
        if grown {
            let built = self.hora.build();
            return built.map_err(|said| Error::internal(format!("hora: {said}")));
        }
        Ok(())
    }

    /// The `k` nearest, best first, equal ones in the order of chunks; hora may miss some.
    pub fn nearest(&self, query: &[f32], k: usize) -> Result<Vec<Hit>> {
        let query = unit(query)?;
        // To a query of no length every row is as far.
        let score = |vector: &[f32]| query.as_ref().map_or(0.0, |query| dot(query, vector));
        let mut hits: Vec<Hit> = self
            .waiting
            .iter()
            .map(|(chunk, vector)| Hit { id: chunk.clone(), score: score(vector) })
            .collect();
        hits.extend(self.still.iter().map(|chunk| Hit { id: chunk.clone(), score: 0.0 }));
        match &query {
            Some(query) if !self.numbers.is_empty() => {
                // The holes may be the nearest of all, so as many more are asked for, up to a bound.
                let asked = k.saturating_add(self.holes().min(HOLES_ASKED_MAX)).min(self.chunks.len());
                for (number, vector) in self.hora.nearest(query, asked) {
                    let chunk = self.chunks.get(number).and_then(Option::as_ref);
                    hits.extend(chunk.map(|chunk| Hit { id: chunk.clone(), score: dot(query, &vector) }));
                }
            }
            Some(_) => {}
            None => hits.extend(self.numbers.keys().map(|chunk| Hit { id: chunk.clone(), score: 0.0 })),
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(k);
        Ok(hits)
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
