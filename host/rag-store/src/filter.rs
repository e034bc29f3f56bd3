//! A filter as a condition of an SQL statement. Values are bound, never written into the text.
//!
//! A comparison with a field that a row lacks is false, `Ne` included; ask `NoneOf` for rows that lack a value. Texts,
//! numbers and booleans never equal or order among each other: `Ne` holds between them, the other comparisons do not.

use rag_core::search::{CompareOp, Filter, FilterNode, Value};
use rag_core::{Error, limits};
use rusqlite::types::Value as Sql;

use crate::fault::Step;

/// How a field is reached in one kind of statement.
pub(crate) trait Fields {
    /// The condition that some value of `field` stands in `op` to `value`.
    fn compare(&self, field: &str, op: CompareOp, value: &Value, params: &mut Vec<Sql>) -> String;
    /// The condition that some value of `field` equals one of `values`, of which there are some.
    fn one_of(&self, field: &str, values: &[Value], params: &mut Vec<Sql>) -> String;
    /// The condition that the row has the field.
    fn exists(&self, field: &str, params: &mut Vec<Sql>) -> String;
}

/// Fields of chunks in the catalogue, as `c`, with their document, as `d`: those of the host, else the attributes
/// that the parser found and the metadata that people noted, which are texts.
pub(crate) struct ChunkFields;

/// Fields kept with the host's own vectors, as `v`.
pub(crate) struct VectorFields;

/// Values of all `OneOf` of a filter.
const VALUES_MAX: usize = 4_096;
/// Bytes of a field's name.
const FIELD_BYTES_MAX: usize = 256;

/// The condition, with its values appended to `params`, which the statement binds in order.
pub(crate) fn compile(filter: &Filter, fields: &dyn Fields, params: &mut Vec<Sql>) -> Step<String> {
    let Some(root) = filter.nodes.len().checked_sub(1) else {
        return Err(Error::invalid("a filter has at least one node").into());
    };
    let mut compiler = Compiler { filter, fields, params, nodes: 0, values: 0 };
    Ok(compiler.node(root, 1)?)
}

struct Compiler<'a> {
    filter: &'a Filter,
    fields: &'a dyn Fields,
    params: &'a mut Vec<Sql>,
    /// Nodes written so far; a node that two others share counts twice.
    nodes: usize,
    values: usize,
}

impl Compiler<'_> {
    fn node(&mut self, index: usize, depth: usize) -> Result<String, Error> {
        self.nodes += 1;
        if depth > limits::FILTER_DEPTH_MAX || self.nodes > limits::FILTER_NODES_MAX {
            return Err(Error::invalid(format!(
                "a filter has at most {} nodes, {} deep",
                limits::FILTER_NODES_MAX,
                limits::FILTER_DEPTH_MAX
            )));
        }
        let filter = self.filter;
        match &filter.nodes[index] {
            FilterNode::AllOf(children) => self.join(index, children, " AND ", "1", depth),
            FilterNode::AnyOf(children) => self.join(index, children, " OR ", "0", depth),
            FilterNode::NoneOf(children) => {
                Ok(format!("NOT {}", self.join(index, children, " OR ", "0", depth)?))
            }
            FilterNode::Compare { field, op, value } => {
                check_field(field)?;
                check_value(value)?;
                Ok(self.fields.compare(field, *op, value, self.params))
            }
            FilterNode::OneOf { field, values } => self.one_of(field, values),
            FilterNode::Exists { field } => {
                check_field(field)?;
                Ok(self.fields.exists(field, self.params))
            }
        }
    }

    fn join(
        &mut self,
        parent: usize,
        children: &[u32],
        operator: &str,
        empty: &str,
        depth: usize,
    ) -> Result<String, Error> {
        let mut conditions = Vec::with_capacity(children.len());
        for &child in children {
            let child = usize::try_from(child).unwrap_or(usize::MAX);
            if child >= parent {
                return Err(Error::invalid("a filter's node refers to a node that is not before it"));
            }
            conditions.push(self.node(child, depth + 1)?);
        }
        Ok(if conditions.is_empty() {
            format!("({empty})")
        } else {
            format!("({})", conditions.join(operator))
        })
    }

    fn one_of(&mut self, field: &str, values: &[Value]) -> Result<String, Error> {
        check_field(field)?;
        self.values += values.len();
        if self.values > VALUES_MAX {
            return Err(Error::invalid(format!("a filter lists at most {VALUES_MAX} values")));
        }
        values.iter().try_for_each(check_value)?;
        Ok(if values.is_empty() { "0".to_owned() } else { self.fields.one_of(field, values, self.params) })
    }
}

fn check_field(field: &str) -> Result<(), Error> {
    if field.is_empty() || field.len() > FIELD_BYTES_MAX {
        return Err(Error::invalid(format!("a field's name has 1 to {FIELD_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Numbers that SQLite cannot compare are refused.
pub(crate) fn check_value(value: &Value) -> Result<(), Error> {
    match value {
        Value::Number(number) if !number.is_finite() => Err(Error::invalid("a field's number is not finite")),
        _ => Ok(()),
    }
}

/// Kinds as `vector_fields.kind` has them.
pub(crate) fn kind(value: &Value) -> i64 {
    match value {
        Value::Text(_) => 0,
        Value::Integer(_) | Value::Number(_) => 1,
        Value::Boolean(_) => 2,
    }
}

pub(crate) fn sql(value: &Value) -> Sql {
    match value {
        Value::Text(text) => Sql::Text(text.clone()),
        Value::Integer(integer) => Sql::Integer(*integer),
        Value::Number(number) => Sql::Real(*number),
        Value::Boolean(boolean) => Sql::Integer(i64::from(*boolean)),
    }
}

fn operator(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "=",
        CompareOp::Ne => "<>",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
    }
}

/// The placeholder of a value.
fn bind(params: &mut Vec<Sql>, value: Sql) -> String {
    params.push(value);
    format!("?{}", params.len())
}

/// The placeholders of those values that are of one kind, separated by commas.
fn bind_kind(params: &mut Vec<Sql>, values: &[Value], wanted: i64) -> String {
    let matching = values.iter().filter(|value| kind(value) == wanted);
    let bound: Vec<String> = matching.map(|value| bind(params, sql(value))).collect();
    bound.join(", ")
}

/// The condition that the document's attributes or metadata hold a pair whose key, and what follows, is so.
fn noted(key: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM json_each(d.attributes) a WHERE a.value ->> 0 {key}
         UNION ALL SELECT 1 FROM json_each(d.metadata) a WHERE a.value ->> 0 {key})"
    )
}

impl ChunkFields {
    /// Whether the host fills this field for every chunk, in the catalogue and in vector stores alike.
    pub(crate) fn is_own(field: &str) -> bool {
        Self::column(field).is_some()
    }

    /// Column and kind of a field that the host fills.
    fn column(field: &str) -> Option<(&'static str, i64)> {
        match field {
            "document" => Some(("d.id", 0)),
            "name" => Some(("d.name", 0)),
            "page" => Some(("c.page", 1)),
            "ordinal" => Some(("c.ordinal", 1)),
            _ => None,
        }
    }
}

impl Fields for ChunkFields {
    fn compare(&self, field: &str, op: CompareOp, value: &Value, params: &mut Vec<Sql>) -> String {
        match Self::column(field) {
            Some((column, kind_of_column)) if kind(value) == kind_of_column => {
                format!("coalesce({column} {} {}, 0)", operator(op), bind(params, sql(value)))
            }
            None if kind(value) == 0 => {
                let field = bind(params, Sql::Text(field.to_owned()));
                noted(&format!("= {field} AND a.value ->> 1 {} {}", operator(op), bind(params, sql(value))))
            }
            _ if op == CompareOp::Ne => self.exists(field, params),
            _ => "0".to_owned(),
        }
    }

    fn one_of(&self, field: &str, values: &[Value], params: &mut Vec<Sql>) -> String {
        match Self::column(field) {
            Some((column, kind)) => format!("coalesce({column} IN ({}), 0)", bind_kind(params, values, kind)),
            None => {
                let field = bind(params, Sql::Text(field.to_owned()));
                noted(&format!("= {field} AND a.value ->> 1 IN ({})", bind_kind(params, values, 0)))
            }
        }
    }

    fn exists(&self, field: &str, params: &mut Vec<Sql>) -> String {
        match Self::column(field) {
            Some((column, _)) => format!("({column} IS NOT NULL)"),
            None => noted(&format!("= {}", bind(params, Sql::Text(field.to_owned())))),
        }
    }
}

impl Fields for VectorFields {
    fn compare(&self, field: &str, op: CompareOp, value: &Value, params: &mut Vec<Sql>) -> String {
        let field = bind(params, Sql::Text(field.to_owned()));
        let value_kind = kind(value);
        let value = bind(params, sql(value));
        let condition = match op {
            CompareOp::Ne => format!("(f.kind <> {value_kind} OR f.value <> {value})"),
            _ => format!("f.kind = {value_kind} AND f.value {} {value}", operator(op)),
        };
        format!(
            "v.row IN (SELECT f.row FROM vector_fields f WHERE f.collection = ?1 AND f.field = {field} AND {condition})"
        )
    }

    fn one_of(&self, field: &str, values: &[Value], params: &mut Vec<Sql>) -> String {
        let field = bind(params, Sql::Text(field.to_owned()));
        let of_kind =
            |kind: i64| format!("f.kind = {kind} AND f.value IN ({})", bind_kind(params, values, kind));
        let kinds: Vec<String> = (0..=2).map(of_kind).collect();
        let any = kinds.join(" OR ");
        format!(
            "v.row IN (SELECT f.row FROM vector_fields f WHERE f.collection = ?1 AND f.field = {field} AND ({any}))"
        )
    }

    fn exists(&self, field: &str, params: &mut Vec<Sql>) -> String {
        let field = bind(params, Sql::Text(field.to_owned()));
        format!("v.row IN (SELECT f.row FROM vector_fields f WHERE f.collection = ?1 AND f.field = {field})")
    }
}

#[cfg(test)]
mod tests;
