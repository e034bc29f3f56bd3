//! How many rows must a server give, so that `k` of them pass the filter?

use crate::filter::passes;
use crate::{Code, Error, Filter, Hit, Result, Value};

/// Rows that a server is asked for at first when its filter is wider than ours.
const FIRST: u32 = 64;
/// Rows asked for at most; servers refuse more.
const FETCH_MAX: u32 = 10_000;

/// A row as the server found it; `fields` where they were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub id: String,
    pub score: f32,
    pub fields: Vec<(String, Value)>,
}

/// The `k` best, best first, equal scores in the order of ids. `ask` gives the nearest rows, at most as many as it is
/// told; when the server's filter is not `exact` it gives their fields, which are compared here.
pub fn nearest(
    k: u32,
    filter: Option<&Filter>,
    exact: bool,
    mut ask: impl FnMut(u32) -> Result<Vec<Found>>,
) -> Result<Vec<Hit>> {
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut limit = if exact { k } else { k.saturating_mul(4).clamp(FIRST, FETCH_MAX) };
    loop {
        let found = ask(limit)?;
        let all = found.len() < limit as usize;
        let passing = found.into_iter().filter(|row| exact || filter.is_none_or(|f| passes(f, &row.fields)));
        let mut hits: Vec<Hit> = passing.map(|row| Hit { id: row.id, score: finite(row.score) }).collect();
        if exact || all || hits.len() >= k as usize {
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            hits.truncate(k as usize);
            return Ok(hits);
        }
        if limit == FETCH_MAX {
            return Err(Error {
                code: Code::Unsupported,
                message: format!(
                    "this server cannot order the values that the filter compares, and of the {FETCH_MAX} nearest rows too \
                     few pass: add a condition of equality, such as the document"
                ),
                retryable: false,
            });
        }
        limit = limit.saturating_mul(4).min(FETCH_MAX);
    }
}

/// A vector without length has no direction: some servers then answer with what is no number.
fn finite(score: f32) -> f32 {
    if score.is_nan() { 0.0 } else { score.clamp(f32::MIN, f32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compare, Node};

    fn row(at: usize) -> Found {
        let fields = vec![("at".to_owned(), Value::Integer(at as i64))];
        Found { id: format!("{at:05}"), score: -(at as f32), fields }
    }

    #[test]
    fn more_rows_are_asked_for_until_enough_pass() {
        let filter = Filter(vec![Node::Compare("at".into(), Compare::Ge, Value::Integer(300))]);
        let mut asked = Vec::new();
        let hits = nearest(3, Some(&filter), false, |limit| {
            asked.push(limit);
            Ok((0..limit as usize).map(row).collect())
        });
        let ids: Vec<String> = hits.unwrap().into_iter().map(|hit| hit.id).collect();
        assert_eq!(ids, ["00300", "00301", "00302"]);
        assert_eq!(asked, [64, 256, 1_024]);
        let few = nearest(3, Some(&filter), false, |_| Ok((0..10).map(row).collect())).unwrap();
        assert_eq!(few, []);
        let none = Filter(vec![Node::Compare("at".into(), Compare::Lt, Value::Integer(0))]);
        let error = nearest(3, Some(&none), false, |limit| Ok((0..limit as usize).map(row).collect()));
        assert_eq!(error.unwrap_err().code, Code::Unsupported);
    }

    #[test]
    fn an_exact_filter_is_asked_once_and_ties_come_by_id() {
        let tie = |id: &str, score: f32| Found { id: id.to_owned(), score, fields: vec![] };
        let hits = nearest(2, None, true, |limit| {
            assert_eq!(limit, 2);
            Ok(vec![tie("b", 1.0), tie("a", 1.0), tie("c", f32::NAN)])
        });
        let hits = hits.unwrap();
        assert_eq!((hits[0].id.as_str(), hits[1].id.as_str(), hits.len()), ("a", "b", 2));
        assert!(nearest(0, None, true, |_| Err(Error::internal("asked".into()))).unwrap().is_empty());
    }
}
