//! What a filter means, stated once more: the oracle for every store.

use rag_core::search::{CompareOp, Filter, FilterNode, Value};

use crate::random::Random;

/// What a row has beside its vector.
pub type Fields = Vec<(String, Value)>;

/// Whether a row passes: the last node is the root; none passes everything.
pub fn passes(filter: Option<&Filter>, fields: &Fields) -> bool {
    filter.is_none_or(|filter| node(filter, filter.nodes.len() - 1, fields))
}

fn node(filter: &Filter, index: usize, fields: &Fields) -> bool {
    let child = |child: &u32| node(filter, *child as usize, fields);
    let find = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    match &filter.nodes[index] {
        FilterNode::AllOf(children) => children.iter().all(child),
        FilterNode::AnyOf(children) => children.iter().any(child),
        FilterNode::NoneOf(children) => !children.iter().any(child),
        FilterNode::Compare { field, op, value } => {
            find(field).is_some_and(|found| compares(found, *op, value))
        }
        FilterNode::OneOf { field, values } => find(field).is_some_and(|found| values.contains(found)),
        FilterNode::Exists { field } => find(field).is_some(),
    }
}

fn compares(found: &Value, op: CompareOp, value: &Value) -> bool {
    let order = match (found, value) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        _ => return false,
    };
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
    }
}

/// Some of the fields `page`, `name`, `score`, `done`.
pub fn some_fields(random: &mut Random) -> Fields {
    let all = [
        ("page".to_owned(), Value::Integer(random.below(4) as i64)),
        ("name".to_owned(), Value::Text(random.pick(&["a", "b", "中文"]).to_owned())),
        ("score".to_owned(), Value::Number(random.below(3) as f64 / 2.0)),
        ("done".to_owned(), Value::Boolean(random.below(2) == 0)),
    ];
    all.into_iter().filter(|_| random.below(5) > 0).collect()
}

/// A filter over those fields, of every node type.
pub fn some_filter(random: &mut Random) -> Filter {
    let mut nodes = Vec::new();
    let leaves = 1 + random.below(4);
    for _ in 0..leaves {
        let (field, value) = match random.below(4) {
            0 => ("page", Value::Integer(random.below(4) as i64)),
            1 => ("name", Value::Text(random.pick(&["a", "b", "中文"]).to_owned())),
            2 => ("score", Value::Number(random.below(3) as f64 / 2.0)),
            _ => ("done", Value::Boolean(random.below(2) == 0)),
        };
        let field = field.to_owned();
        nodes.push(match random.below(6) {
            0 => FilterNode::Exists { field },
            1 => FilterNode::OneOf { field, values: vec![value, Value::Integer(1), Value::Text("b".into())] },
            _ => {
                let ops = [
                    CompareOp::Eq,
                    CompareOp::Ne,
                    CompareOp::Lt,
                    CompareOp::Le,
                    CompareOp::Gt,
                    CompareOp::Ge,
                ];
                FilterNode::Compare { field, op: ops[random.below(6)], value }
            }
        });
    }
    let children: Vec<u32> = (0..leaves as u32).collect();
    let group = |children: Vec<u32>, which: usize| match which {
        0 => FilterNode::AllOf(children),
        1 => FilterNode::AnyOf(children),
        _ => FilterNode::NoneOf(children),
    };
    let (left, right) = children.split_at(random.below(leaves + 1));
    let (left, right) = (left.to_vec(), right.to_vec());
    let lower = random.below(3);
    nodes.push(group(left, lower));
    let upper = random.below(3);
    let root: Vec<u32> = right.into_iter().chain([leaves as u32]).collect();
    nodes.push(group(root, upper));
    Filter { nodes }
}
