//! A filter as Chroma's `where`. It compares numbers but not texts by order, and takes `1` and `1.0` for the same, so
//! that the kind of every field stands beside it.

use guest_store::fields::Kind;
use guest_store::filter::{Dialect, Test};
use guest_store::{Compare, Value};
use serde_json::{Value as Json, json};

use crate::wire::kind_key;

/// Writes `where`. `$ne` and `$nin` are true of rows without the key, too.
pub(crate) struct Where;

impl Dialect for Where {
    type Clause = Json;

    fn all(&mut self, clauses: Vec<Json>) -> Json {
        json!({"$and": clauses})
    }

    fn any(&mut self, clauses: Vec<Json>) -> Json {
        json!({"$or": clauses})
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<Json> {
        let join = if negated { "$or" } else { "$and" };
        match test {
            Test::Is(field, kind) => Some(is(field, *kind, negated)),
            Test::In(field, kind, values) => {
                let values: Vec<Json> = values.iter().map(|value| value.json()).collect();
                let op = if negated { "$nin" } else { "$in" };
                let listed = json!({*field: {op: values}});
                match kind {
                    Kind::Integer | Kind::Number => Some(json!({join: [listed, is(field, *kind, negated)]})),
                    Kind::Text | Kind::Boolean => Some(listed),
                }
            }
            Test::Order(_, _, Value::Text(_)) => None,
            Test::Order(field, op, value) => {
                let op = match (op, negated) {
                    (Compare::Lt, false) | (Compare::Ge, true) => "$lt",
                    (Compare::Le, false) | (Compare::Gt, true) => "$lte",
                    (Compare::Gt, false) | (Compare::Le, true) => "$gt",
                    _ => "$gte",
                };
                Some(json!({join: [{*field: {op: value.json()}}, is(field, value.kind(), negated)]}))
            }
        }
    }
}

fn is(field: &str, kind: Kind, negated: bool) -> Json {
    let op = if negated { "$ne" } else { "$eq" };
    json!({kind_key(field): {op: kind.letter()}})
}
