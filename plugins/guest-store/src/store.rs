//! What does an adapter offer? The contract's operations and types without its bindings.

use std::collections::HashMap;

use crate::{Error, Result};

/// Rows of one upsert and ids of one delete.
pub const ROWS_MAX: usize = 512;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Cosine,
    Dot,
    Euclidean,
}

impl Metric {
    pub const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

    /// As messages and our own tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::Euclidean => "euclidean",
        }
    }
}

/// A named set of vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    pub name: String,
    pub dim: u32,
    pub metric: Metric,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One node of a filter; children are indices of earlier nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    AllOf(Vec<u32>),
    AnyOf(Vec<u32>),
    NoneOf(Vec<u32>),
    Compare(String, Compare, Value),
    OneOf(String, Vec<Value>),
    Exists(String),
}

/// The last node is the root.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(pub Vec<Node>);

/// One vector with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: String,
    pub vector: Vec<f32>,
    pub text: String,
    pub fields: Vec<(String, Value)>,
}

/// A batch: every vector has `dim` components, no id comes twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub dim: u32,
    pub rows: Vec<Row>,
}

impl Rows {
    /// Checks the columns of a batch; of rows with the same id the last one stays.
    pub fn new(
        ids: Vec<String>,
        dim: u32,
        data: &[f32],
        texts: Vec<String>,
        fields: Vec<Vec<(String, Value)>>,
    ) -> Result<Self> {
        let rows = ids.len();
        if rows > ROWS_MAX {
            return Err(Error::invalid(format!("a batch has at most {ROWS_MAX} rows; this one has {rows}")));
        }
        if texts.len() != rows || fields.len() != rows {
            let (texts, fields) = (texts.len(), fields.len());
            return Err(Error::invalid(format!(
                "{rows} ids come with {texts} texts and the fields of {fields}"
            )));
        }
        if rows > 0 && (dim == 0 || rows.checked_mul(dim as usize) != Some(data.len())) {
            let floats = data.len();
            return Err(Error::invalid(format!(
                "{rows} ids come with {floats} numbers, which is not {dim} each"
            )));
        }
        let mut last: HashMap<String, usize> = HashMap::with_capacity(rows);
        let mut kept: Vec<Row> = Vec::with_capacity(rows);
        let vectors = data.chunks_exact((dim as usize).max(1));
        for (((id, vector), text), fields) in ids.into_iter().zip(vectors).zip(texts).zip(fields) {
            let row = Row { id, vector: vector.to_vec(), text, fields };
            match last.get(&row.id) {
                Some(&at) => kept[at] = row,
                None => {
                    last.insert(row.id.clone(), kept.len());
                    kept.push(row);
                }
            }
        }
        Ok(Rows { dim, rows: kept })
    }
}

/// One result of a search; higher scores are nearer, for every metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub id: String,
    pub score: f32,
}

/// An adapter, opened for one call. What each does is said in `wit/plugin.wit`, interface `vector-store`.
pub trait Store {
    fn create(&self, collection: &Collection) -> Result<()>;
    fn drop(&self, name: &str) -> Result<()>;
    fn list(&self) -> Result<Vec<Collection>>;
    fn count(&self, name: &str) -> Result<u64>;
    fn upsert(&self, name: &str, rows: &Rows) -> Result<()>;
    fn delete(&self, name: &str, ids: &[String]) -> Result<()>;
    /// `queries` all have `dim` components.
    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>>;
    fn ping(&self) -> Result<String>;
}

/// `conflict` when a collection that is there already has another shape than wanted.
pub fn check_shape(there: &Collection, wanted: &Collection) -> Result<()> {
    if there.dim == wanted.dim && there.metric == wanted.metric {
        return Ok(());
    }
    Err(Error {
        code: crate::Code::Conflict,
        message: format!(
            "collection '{}' holds vectors of {} components compared by {}, not of {} by {}: choose another name, or \
             drop it",
            wanted.name,
            there.dim,
            there.metric.name(),
            wanted.dim,
            wanted.metric.name()
        ),
        retryable: false,
    })
}

impl Collection {
    /// Refuses vectors of another dimension.
    pub fn check_dim(&self, dim: u32) -> Result<()> {
        if self.dim == dim {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "collection '{}' holds vectors of {} components, not {dim}: was the embedding model changed?",
            self.name, self.dim
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_must_agree_and_the_last_of_equal_ids_stays() {
        let make = |ids: &[&str], data: &[f32]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let texts = ids.clone();
            let fields = vec![Vec::new(); ids.len()];
            Rows::new(ids, 2, data, texts, fields)
        };
        let rows = make(&["a", "b", "a"], &[1., 2., 3., 4., 5., 6.]).unwrap();
        let kept: Vec<(&str, &[f32])> =
            rows.rows.iter().map(|row| (row.id.as_str(), row.vector.as_slice())).collect();
        assert_eq!(kept, [("a", &[5., 6.][..]), ("b", &[3., 4.][..])]);
        assert_eq!(make(&[], &[]).unwrap().rows, []);
        assert!(make(&["a"], &[1.]).unwrap_err().message.contains("1 numbers"));
        let many = vec!["x"; 513];
        assert!(make(&many, &vec![0.; 1_026]).unwrap_err().message.contains("at most 512"));
        let uneven = Rows::new(vec!["a".into()], 1, &[1.], vec![], vec![vec![]]);
        assert!(uneven.unwrap_err().message.contains("0 texts"));
    }

    #[test]
    fn another_shape_is_a_conflict_that_says_both() {
        let one = Collection { name: "c".into(), dim: 3, metric: Metric::Dot };
        check_shape(&one, &one).unwrap();
        let other = Collection { dim: 4, ..one.clone() };
        let error = check_shape(&one, &other).unwrap_err();
        assert_eq!(error.code, crate::Code::Conflict);
        assert!(error.message.contains("of 3 components") && error.message.contains("of 4"), "{error:?}");
        assert!(one.check_dim(4).unwrap_err().message.contains("not 4"));
    }
}
