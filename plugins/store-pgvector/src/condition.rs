//! A filter as a condition of SQL over `fields`, JSON by kind. Every test is exact; values are parameters.

use guest_store::fields::Kind;
use guest_store::filter::{Dialect, Test};
use guest_store::{Compare, SqlValue, Value};
use serde_json::Value as Json;

/// Stands where a parameter's number will be; no name or value is ever part of a statement.
const PLACE: char = '?';

/// A condition with its parameters, in the order of their places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    text: String,
    params: Vec<SqlValue>,
}

impl Condition {
    fn joined(clauses: Vec<Condition>, word: &str) -> Self {
        let texts: Vec<String> = clauses.iter().map(|clause| clause.text.clone()).collect();
        let params = clauses.into_iter().flat_map(|clause| clause.params).collect();
        Condition { text: format!("({})", texts.join(word)), params }
    }

    /// The text with its places numbered after the parameters that are there, which these then follow.
    pub(crate) fn number(self, params: &mut Vec<SqlValue>) -> String {
        let mut text = String::with_capacity(self.text.len() + 32);
        let mut next = params.len();
        for letter in self.text.chars() {
            if letter == PLACE {
                next += 1;
                text.push_str(&format!("${next}"));
            } else {
                text.push(letter);
            }
        }
        params.extend(self.params);
        text
    }
}

/// Writes conditions.
pub(crate) struct Conditions;

/// The field's value as JSON by the arrow `->`, as text by `->>`.
fn held(kind: Kind, arrow: &str) -> String {
    format!("(fields -> '{}' {arrow} {PLACE}::text)", kind.letter())
}

impl Dialect for Conditions {
    type Clause = Condition;

    fn all(&mut self, clauses: Vec<Condition>) -> Condition {
        Condition::joined(clauses, " AND ")
    }

    fn any(&mut self, clauses: Vec<Condition>) -> Condition {
        Condition::joined(clauses, " OR ")
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<Condition> {
        let name = |field: &str| SqlValue::Text(field.to_owned());
        let (text, params) = match test {
            Test::Is(field, kind) => (format!("{} IS NOT NULL", held(*kind, "->")), vec![name(field)]),
            Test::In(field, kind, values) => {
                let values = Json::Array(values.iter().map(|value| value.json()).collect());
                // An array contains a single value that is one of its elements.
                let text = format!("{PLACE}::jsonb @> {}", held(*kind, "->"));
                (text, vec![SqlValue::Text(values.to_string()), name(field)])
            }
            Test::Order(field, op, value) => {
                let (cast, param) = match value {
                    Value::Text(text) => ("text COLLATE \"C\"", SqlValue::Text(text.clone())),
                    Value::Integer(number) => ("int8", SqlValue::Integer(*number)),
                    Value::Number(number) => ("float8", SqlValue::Number(*number)),
                    Value::Boolean(_) => return None,
                };
                let sign = match op {
                    Compare::Lt => "<",
                    Compare::Le => "<=",
                    Compare::Gt => ">",
                    _ => ">=",
                };
                let text = format!("{}::{cast} {sign} {PLACE}::{cast}", held(value.kind(), "->>"));
                (text, vec![name(field), param])
            }
        };
        // What a row does not have compares as unknown.
        let not = if negated { "NOT " } else { "" };
        Some(Condition { text: format!("{not}COALESCE({text}, false)"), params })
    }
}
