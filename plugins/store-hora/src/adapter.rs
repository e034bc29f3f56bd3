//! The operations of a store: rows are the host's, and a graph over them is grown a little by every call.

use std::cell::RefCell;
use std::collections::HashMap;

use guest_store::index::{Index, SCAN_MAX, shape_of};
use guest_store::{Collection, Error, Filter, Hit, Metric, Result, Rows, Settings, Store};

use crate::{Approximate, Graph};

/// Rows from which on hora is asked; fewer are compared faster than it looks them up.
const ROWS_MIN: u64 = 2_000;
/// Rows and numbers beyond which the host searches: hora would take too long to grow, or more memory than a component has.
const ROWS_MAX: u64 = 20_000;
const NUMBERS_MAX: u64 = 16_000_000;
/// Numbers of the rows that hora takes in during a write and during a question; each row costs it the look at some 3 000.
const GROWTH_OF_WRITE: usize = 40_000;
const GROWTH_OF_QUESTION: usize = 6_000;
/// Rows of one growth, however small.
const GROWTH_ROWS: usize = 256;

thread_local! {
    /// Graphs of this component's life, by collection: a cache that can be made again at any time.
    static GRAPHS: RefCell<HashMap<String, Graph>> = RefCell::default();
}

/// The host's rows with graphs over them.
pub struct Hora {
    index: Box<dyn Index>,
    empty: fn(usize) -> Box<dyn Approximate>,
}

impl std::fmt::Debug for Hora {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hora")
    }
}

fn growth(numbers: usize, dim: usize) -> usize {
    (numbers / dim.max(1)).clamp(1, GROWTH_ROWS)
}

impl Hora {
    /// There are no settings. `empty` makes a graph for vectors of a dimension.
    pub fn open(
        settings: &str,
        index: Box<dyn Index>,
        empty: fn(usize) -> Box<dyn Approximate>,
    ) -> Result<Self> {
        Settings::parse(settings, &[]).map_err(Error::invalid)?;
        Ok(Hora { index, empty })
    }

    /// Reads every row of a collection.
    fn read(&self, name: &str, dim: u32) -> Result<Graph> {
        let mut graph = Graph::new(dim as usize, (self.empty)(dim as usize));
        let mut after: Option<String> = None;
        loop {
            let (_, rows) = self.index.scan(name, after.as_deref(), SCAN_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(graph) };
            after = Some(last.clone());
            for (chunk, vector) in &rows {
                graph.put(chunk, vector)?;
            }
        }
    }

    /// Changes a graph that is there, as its rows were changed; one that cannot be changed is forgotten.
    fn follow(&self, name: &str, change: impl FnOnce(&mut Graph) -> Result<()>) {
        GRAPHS.with_borrow_mut(|graphs| {
            let Some(graph) = graphs.get_mut(name) else { return };
            if change(graph).is_err() {
                graphs.remove(name);
            }
        });
    }

    /// Answers by the graph when it is for hora, else none.
    fn by_graph(&self, name: &str, dim: u32, queries: &[&[f32]], k: u32) -> Result<Option<Vec<Vec<Hit>>>> {
        let rows = self.index.count(name)?;
        let fits = (ROWS_MIN..=ROWS_MAX).contains(&rows) && rows * u64::from(dim) <= NUMBERS_MAX;
        let graph = GRAPHS.with_borrow_mut(|graphs| graphs.remove(name));
        if !fits {
            return Ok(None);
        }
        let graph = match graph {
            // Another count means that somebody else changed the rows.
            Some(graph) if graph.len() as u64 == rows && !graph.is_worn() => graph,
            _ => match shape_of(self.index.as_ref(), name)? {
                Some(shape) if shape.metric == Metric::Cosine => self.read(name, shape.dim)?,
                _ => return Ok(None),
            },
        };
        if graph.dim() != dim as usize {
            // The host says what is wrong.
            return Ok(None);
        }
        let mut graph = graph;
        graph.grow(growth(GROWTH_OF_QUESTION, graph.dim()))?;
        let found = queries.iter().map(|query| graph.nearest(query, k as usize)).collect::<Result<_>>();
        GRAPHS.with_borrow_mut(|graphs| graphs.insert(name.to_owned(), graph));
        found.map(Some)
    }
}

impl Store for Hora {
    fn create(&self, collection: &Collection) -> Result<()> {
        self.index.create(collection)
    }

    fn drop(&self, name: &str) -> Result<()> {
        GRAPHS.with_borrow_mut(|graphs| graphs.remove(name));
        Index::drop(self.index.as_ref(), name)
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let names = self.index.names()?;
        names.iter().filter_map(|name| shape_of(self.index.as_ref(), name).transpose()).collect()
    }

    fn count(&self, name: &str) -> Result<u64> {
        self.index.count(name)
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let written = self.index.upsert(name, rows);
        self.follow(name, |graph| {
            // Whether a part of what failed was written, nobody knows.
            written.as_ref().map_err(Clone::clone)?;
            for row in &rows.rows {
                graph.put(&row.id, &row.vector)?;
            }
            graph.grow(growth(GROWTH_OF_WRITE, graph.dim()))
        });
        written
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        let deleted = self.index.delete(name, ids);
        self.follow(name, |graph| {
            deleted.as_ref().map_err(Clone::clone)?;
            ids.iter().for_each(|id| graph.remove(id));
            Ok(())
        });
        deleted
    }

    /// With a filter the host searches, exactly: hora has none, and of the nearest few might pass.
    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        if filter.is_none()
            && let Some(found) = self.by_graph(name, dim, queries, k)?
        {
            return Ok(found);
        }
        self.index.query(name, dim, queries, k, filter)
    }

    fn ping(&self) -> Result<String> {
        let collections = self.index.names()?.len();
        let (taken, rows) = GRAPHS.with_borrow(|graphs| {
            graphs.values().fold((0, 0), |(taken, rows), graph| (taken + graph.taken(), rows + graph.len()))
        });
        Ok(format!(
            "hora 0.1.1 over the host's own vectors, {collections} collections, {taken} of {rows} rows in graphs"
        ))
    }
}
