//! What does a filter ask of a server? A tree of `and` and `or` over single tests, each as it is or turned round.
//!
//! A test that a server cannot make is widened to what it can: such a clause is not exact, and what comes back is
//! compared here ([`passes`]), so that a filter always means the same.

use std::cmp::Ordering;

use crate::fields::Kind;
use crate::{Compare, Error, Filter, Node, Result, Value};

/// Clauses of one filter once every shared node is written out.
const CLAUSES_MAX: usize = 4_096;

/// One test of one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Test<'a> {
    /// The field is one of these values, all of one kind; at least one.
    In(&'a str, Kind, Vec<&'a Value>),
    /// The field has a value of this kind.
    Is(&'a str, Kind),
    /// The field is less, at most, at least, greater than a text, an integer or a number.
    Order(&'a str, Compare, &'a Value),
}

/// How a server writes filters down.
pub trait Dialect {
    type Clause;
    /// At least two clauses.
    fn all(&mut self, clauses: Vec<Self::Clause>) -> Self::Clause;
    /// At least two clauses.
    fn any(&mut self, clauses: Vec<Self::Clause>) -> Self::Clause;
    /// The test, or its opposite, which is also true of rows without the field; none when the server cannot make it,
    /// which it may only say of `Order`.
    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<Self::Clause>;
}

/// A filter for a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked<C> {
    /// No row passes: nobody needs to be asked.
    Nothing,
    /// `clause` is none when every row is to be looked at; `exact` when it lets through no row that the filter does not.
    Rows { clause: Option<C>, exact: bool },
}

/// Translates a filter; none lets everything through.
pub fn ask<D: Dialect>(filter: Option<&Filter>, dialect: &mut D) -> Result<Asked<D::Clause>> {
    let Some(filter) = filter else { return Ok(Asked::Rows { clause: None, exact: true }) };
    let root =
        filter.0.len().checked_sub(1).ok_or_else(|| Error::invalid("a filter without nodes".to_owned()))?;
    let mut walk = Walk { nodes: &filter.0, dialect, exact: true, clauses: 0 };
    let truth = walk.node(root, false)?;
    let exact = walk.exact;
    Ok(match truth {
        Truth::Never => Asked::Nothing,
        Truth::Always => Asked::Rows { clause: None, exact },
        Truth::If(clause) => Asked::Rows { clause: Some(clause), exact },
    })
}

enum Truth<C> {
    Never,
    Always,
    If(C),
}

struct Walk<'a, D: Dialect> {
    nodes: &'a [Node],
    dialect: &'a mut D,
    exact: bool,
    clauses: usize,
}

impl<'a, D: Dialect> Walk<'a, D> {
    fn node(&mut self, at: usize, negated: bool) -> Result<Truth<D::Clause>> {
        self.clauses += 1;
        if self.clauses > CLAUSES_MAX {
            return Err(Error::invalid(format!("a filter of more than {CLAUSES_MAX} clauses")));
        }
        let nodes = self.nodes;
        match &nodes[at] {
            Node::AllOf(children) => self.group(at, children, !negated, negated),
            Node::AnyOf(children) => self.group(at, children, negated, negated),
            Node::NoneOf(children) => self.group(at, children, !negated, !negated),
            Node::Exists(field) => {
                let kinds = Kind::ALL.map(|kind| Test::Is(field, kind));
                self.tests(kinds.into_iter().collect(), negated)
            }
            Node::OneOf(field, values) => self.tests(grouped(field, values), negated),
            Node::Compare(field, op, value) => self.compare(field, *op, value, negated),
        }
    }

    /// All (or any) of the children, each turned round when `negated`.
    fn group(&mut self, at: usize, children: &[u32], all: bool, negated: bool) -> Result<Truth<D::Clause>> {
        let mut parts = Vec::with_capacity(children.len());
        for child in children {
            let child = *child as usize;
            if child >= at {
                return Err(Error::invalid("a filter's node names a later one".to_owned()));
            }
            parts.push(self.node(child, negated)?);
        }
        Ok(self.join(parts, all))
    }

    fn join(&mut self, parts: Vec<Truth<D::Clause>>, all: bool) -> Truth<D::Clause> {
        let mut clauses = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Truth::Never if all => return Truth::Never,
                Truth::Always if !all => return Truth::Always,
                Truth::Never | Truth::Always => {}
                Truth::If(clause) => clauses.push(clause),
            }
        }
        match clauses.len() {
            0 if all => Truth::Always,
            0 => Truth::Never,
            1 => clauses.pop().map_or(Truth::Never, Truth::If),
            _ if all => Truth::If(self.dialect.all(clauses)),
            _ => Truth::If(self.dialect.any(clauses)),
        }
    }

    /// Any of the tests, or none of them.
    fn tests(&mut self, tests: Vec<Test<'a>>, negated: bool) -> Result<Truth<D::Clause>> {
        let mut parts = Vec::with_capacity(tests.len());
        for test in tests {
            parts.push(self.test(&test, negated));
        }
        Ok(self.join(parts, negated))
    }

    fn compare(
        &mut self,
        field: &'a str,
        op: Compare,
        value: &'a Value,
        negated: bool,
    ) -> Result<Truth<D::Clause>> {
        let kind = value.kind();
        match (op, value) {
            (Compare::Eq, _) => Ok(self.test(&Test::In(field, kind, vec![value]), negated)),
            (Compare::Ne, _) => {
                let has_kind = self.test(&Test::Is(field, kind), negated);
                let differs = self.test(&Test::In(field, kind, vec![value]), !negated);
                Ok(self.join(vec![has_kind, differs], !negated))
            }
            (_, Value::Boolean(flag)) => {
                let fits: Vec<&Value> = BOOLEANS
                    .iter()
                    .filter(|(held, _)| holds(held.cmp(flag), op))
                    .map(|(_, value)| value)
                    .collect();
                match fits.is_empty() {
                    true if negated => Ok(Truth::Always),
                    true => Ok(Truth::Never),
                    false => Ok(self.test(&Test::In(field, kind, fits), negated)),
                }
            }
            _ => Ok(self.test(&Test::Order(field, op, value), negated)),
        }
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Truth<D::Clause> {
        if let Some(clause) = self.dialect.test(test, negated) {
            return Truth::If(clause);
        }
        self.exact = false;
        let Test::Order(field, _, value) = test else { return Truth::Always };
        if negated {
            return Truth::Always;
        }
        self.dialect.test(&Test::Is(field, value.kind()), false).map_or(Truth::Always, Truth::If)
    }
}

const BOOLEANS: [(bool, Value); 2] = [(false, Value::Boolean(false)), (true, Value::Boolean(true))];

/// The values of a list by their kinds.
fn grouped<'a>(field: &'a str, values: &'a [Value]) -> Vec<Test<'a>> {
    let of = |kind: Kind| {
        let values: Vec<&Value> = values.iter().filter(|value| value.kind() == kind).collect();
        (!values.is_empty()).then_some(Test::In(field, kind, values))
    };
    Kind::ALL.into_iter().filter_map(of).collect()
}

fn holds(order: Ordering, op: Compare) -> bool {
    match op {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// Whether a row with these fields passes.
pub fn passes(filter: &Filter, fields: &[(String, Value)]) -> bool {
    let mut known: Vec<bool> = Vec::with_capacity(filter.0.len());
    let find = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    for node in &filter.0 {
        let child = |at: &u32| known.get(*at as usize).copied().unwrap_or(false);
        let passes = match node {
            Node::AllOf(children) => children.iter().all(child),
            Node::AnyOf(children) => children.iter().any(child),
            Node::NoneOf(children) => !children.iter().any(child),
            Node::Compare(field, op, value) => {
                find(field).and_then(|held| order(held, value)).is_some_and(|order| holds(order, *op))
            }
            Node::OneOf(field, values) => find(field).is_some_and(|held| values.contains(held)),
            Node::Exists(field) => find(field).is_some(),
        };
        known.push(passes);
    }
    known.last().copied().unwrap_or(true)
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Integer(a), Value::Integer(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
