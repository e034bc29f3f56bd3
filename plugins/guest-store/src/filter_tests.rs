//! Filters as a server with tags sees them, against their meaning.

use super::*;
use crate::fields::{kind_tag, tags, value_tag};

/// Evaluates right away over the tags of one row; cannot order.
struct Tags(Vec<String>);

impl Dialect for Tags {
    type Clause = bool;
    fn all(&mut self, clauses: Vec<bool>) -> bool {
        assert!(clauses.len() > 1);
        clauses.into_iter().all(|held| held)
    }
    fn any(&mut self, clauses: Vec<bool>) -> bool {
        assert!(clauses.len() > 1);
        clauses.into_iter().any(|held| held)
    }
    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<bool> {
        let has = |tag: String| self.0.contains(&tag);
        let held = match test {
            Test::In(field, _, values) => values.iter().any(|value| has(value_tag(field, value))),
            Test::Is(field, kind) => has(kind_tag(field, *kind)),
            Test::Order(..) => return None,
        };
        Some(held != negated)
    }
}

fn nodes() -> Vec<Node> {
    let ops = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];
    let values = [Value::Integer(1), Value::Number(1.0), Value::Text("b".into()), Value::Boolean(true)];
    let mut all = vec![
        Node::Exists("f".into()),
        Node::OneOf("f".into(), values.to_vec()),
        Node::OneOf("f".into(), vec![]),
    ];
    for op in ops {
        all.extend(values.iter().map(|value| Node::Compare("f".into(), op, value.clone())));
    }
    all
}

#[test]
fn what_a_server_is_asked_is_no_less_than_the_filter_and_no_more_when_exact() {
    let held = [
        vec![],
        vec![("f".to_owned(), Value::Integer(0))],
        vec![("f".to_owned(), Value::Integer(1))],
        vec![("f".to_owned(), Value::Number(1.0))],
        vec![("f".to_owned(), Value::Text("a".into()))],
        vec![("f".to_owned(), Value::Text("b".into()))],
        vec![("f".to_owned(), Value::Boolean(false))],
        vec![("f".to_owned(), Value::Boolean(true)), ("g".to_owned(), Value::Integer(1))],
    ];
    let singles = nodes();
    let mut filters: Vec<Filter> = singles.iter().map(|node| Filter(vec![node.clone()])).collect();
    for a in &singles {
        for b in &singles {
            let pair = |group: Node| Filter(vec![a.clone(), b.clone(), group, Node::NoneOf(vec![2, 0])]);
            filters.push(pair(Node::AllOf(vec![0, 1])));
            filters.push(pair(Node::AnyOf(vec![0, 1])));
            filters.push(pair(Node::NoneOf(vec![0, 1])));
        }
    }
    let mut exact_seen = 0;
    for filter in &filters {
        for fields in &held {
            let (asked, exact) = match ask(Some(filter), &mut Tags(tags(fields))).unwrap() {
                Asked::Nothing => (false, true),
                Asked::Rows { clause, exact } => (clause.unwrap_or(true), exact),
            };
            let meant = passes(filter, fields);
            assert!(asked || !meant, "{filter:?} misses {fields:?}");
            assert!(!exact || asked == meant, "{filter:?} of {fields:?}");
            exact_seen += usize::from(exact);
        }
    }
    assert!(exact_seen > 1_000);
}

#[test]
fn what_is_no_filter_is_refused() {
    let mut tags = Tags(vec![]);
    assert!(ask(Some(&Filter(vec![])), &mut tags).is_err());
    assert!(ask(Some(&Filter(vec![Node::AllOf(vec![0])])), &mut tags).is_err());
    // Shared nodes double at every level.
    let mut deep = vec![Node::Exists("f".into())];
    deep.extend((0..15).map(|at| Node::AllOf(vec![at, at])));
    assert!(ask(Some(&Filter(deep)), &mut tags).unwrap_err().message.contains("clauses"));
    assert_eq!(ask(None, &mut tags).unwrap(), Asked::Rows { clause: None, exact: true });
    let never = Filter(vec![Node::AnyOf(vec![])]);
    assert_eq!(ask(Some(&never), &mut tags).unwrap(), Asked::Nothing);
}
