//! A filter as JSON: a tree for people, turned into the arena that plugins get.

use rag_core::limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX};
use rag_core::search::{CompareOp, Filter, FilterNode, Value};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// One node: `{"all": [..]}`, `{"any": [..]}`, `{"none": [..]}`, `{"field": "page", "op": "ge", "value": 3}`,
/// `{"field": "name", "in": ["a.md", "b.md"]}` or `{"exists": "page"}`. Fields of every chunk: `document` (id),
/// `name` (the document's name), `page`, `ordinal`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FilterTree {
    All(AllOf),
    Any(AnyOf),
    None(NoneOf),
    Compare(Compare),
    In(OneOf),
    Exists(Exists),
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllOf {
    #[schema(no_recursion)]
    all: Vec<FilterTree>,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnyOf {
    #[schema(no_recursion)]
    any: Vec<FilterTree>,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoneOf {
    #[schema(no_recursion)]
    none: Vec<FilterTree>,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compare {
    field: String,
    op: Op,
    value: Scalar,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneOf {
    field: String,
    r#in: Vec<Scalar>,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exists {
    exists: String,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl FilterTree {
    /// The arena, children before parents.
    pub(crate) fn into_filter(self) -> ApiResult<Filter> {
        let mut nodes = Vec::new();
        self.push(&mut nodes, 1)?;
        Ok(Filter { nodes })
    }

    fn push(self, nodes: &mut Vec<FilterNode>, depth: usize) -> ApiResult<u32> {
        if depth > FILTER_DEPTH_MAX {
            return Err(ApiError::invalid(format!("the filter is nested deeper than {FILTER_DEPTH_MAX}")));
        }
        let node = match self {
            FilterTree::All(node) => FilterNode::AllOf(push_all(node.all, nodes, depth)?),
            FilterTree::Any(node) => FilterNode::AnyOf(push_all(node.any, nodes, depth)?),
            FilterTree::None(node) => FilterNode::NoneOf(push_all(node.none, nodes, depth)?),
            FilterTree::Compare(node) => {
                FilterNode::Compare { field: node.field, op: node.op.into(), value: node.value.into() }
            }
            FilterTree::In(node) => FilterNode::OneOf {
                field: node.field,
                values: node.r#in.into_iter().map(Value::from).collect(),
            },
            FilterTree::Exists(node) => FilterNode::Exists { field: node.exists },
        };
        if nodes.len() >= FILTER_NODES_MAX {
            return Err(ApiError::invalid(format!("the filter has more than {FILTER_NODES_MAX} nodes")));
        }
        nodes.push(node);
        Ok((nodes.len() - 1) as u32)
    }
}

fn push_all(children: Vec<FilterTree>, nodes: &mut Vec<FilterNode>, depth: usize) -> ApiResult<Vec<u32>> {
    children.into_iter().map(|child| child.push(nodes, depth + 1)).collect()
}

impl From<Op> for CompareOp {
    fn from(op: Op) -> Self {
        match op {
            Op::Eq => CompareOp::Eq,
            Op::Ne => CompareOp::Ne,
            Op::Lt => CompareOp::Lt,
            Op::Le => CompareOp::Le,
            Op::Gt => CompareOp::Gt,
            Op::Ge => CompareOp::Ge,
        }
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Boolean(value) => Value::Boolean(value),
            Scalar::Integer(value) => Value::Integer(value),
            Scalar::Number(value) => Value::Number(value),
            Scalar::Text(value) => Value::Text(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> ApiResult<Filter> {
        serde_json::from_str::<FilterTree>(json).map_err(|e| ApiError::invalid(e.to_string()))?.into_filter()
    }

    #[test]
    fn a_tree_becomes_an_arena_with_its_root_last() {
        let filter = parse(
            r#"{"all": [{"field": "page", "op": "ge", "value": 3}, {"none": [{"field": "name", "in": ["甲.md", 1.5, true]}]}, {"exists": "page"}]}"#,
        )
        .unwrap();
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(
            filter.nodes,
            [
                FilterNode::Compare { field: "page".into(), op: CompareOp::Ge, value: Value::Integer(3) },
                FilterNode::OneOf {
                    field: "name".into(),
                    values: vec![text("甲.md"), Value::Number(1.5), Value::Boolean(true)],
                },
                FilterNode::NoneOf(vec![1]),
                FilterNode::Exists { field: "page".into() },
                FilterNode::AllOf(vec![0, 2, 3]),
            ]
        );
    }

    #[test]
    fn deep_wide_and_unknown_filters_are_refused() {
        let deep = format!("{}{{\"exists\":\"a\"}}{}", "{\"all\":[".repeat(20), "]}".repeat(20));
        let wide = format!("{{\"any\":[{}]}}", vec!["{\"exists\":\"a\"}"; 300].join(","));
        let endless = "{\"all\":[".repeat(100_000);
        for bad in [
            &deep,
            &wide,
            &endless,
            r#"{"all": [], "any": []}"#,
            r#"{"field": "a", "op": "like", "value": 1}"#,
        ] {
            assert!(parse(bad).is_err());
        }
    }
}
