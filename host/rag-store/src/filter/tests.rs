//! What a filter lets through, over chunks and over vectors, and that both agree with a plain reading of it.

use proptest::prelude::*;
use rag_core::document::{ChunkId, Vectors};
use rag_core::ports::{Catalog, StoredVectors, VectorCollection};
use rag_core::search::Metric;

use super::*;
use crate::testing::{Sample, TestStore, kb};

fn compare(field: &str, op: CompareOp, value: impl Into<Given>) -> FilterNode {
    FilterNode::Compare { field: field.to_owned(), op, value: value.into().0 }
}

struct Given(Value);
impl From<&str> for Given {
    fn from(text: &str) -> Self {
        Given(Value::Text(text.to_owned()))
    }
}
impl From<i64> for Given {
    fn from(integer: i64) -> Self {
        Given(Value::Integer(integer))
    }
}
impl From<f64> for Given {
    fn from(number: f64) -> Self {
        Given(Value::Number(number))
    }
}
impl From<bool> for Given {
    fn from(boolean: bool) -> Self {
        Given(Value::Boolean(boolean))
    }
}

/// Texts of the chunks that a search for 词 finds through a filter.
async fn through(store: &TestStore, nodes: Vec<FilterNode>) -> Vec<String> {
    let hits = store.lexical(&kb(), "initial-g1", "词", 100, Some(&Filter { nodes })).await.unwrap();
    let ids: Vec<ChunkId> = hits.into_iter().map(|hit| hit.chunk).collect();
    let mut texts: Vec<String> =
        store.passages(&kb(), &ids).await.unwrap().into_iter().map(|passage| passage.text).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn chunks_are_filtered_by_place_and_by_what_the_parser_found() {
    use CompareOp::{Eq, Ge, Gt, Le, Lt, Ne};
    let store = TestStore::with_kb().await;
    // Pages: every second chunk has one, from 1.
    let first = Sample::ingested(&store, "a.txt", &["词0\n词1\n词2\n"]).await;
    Sample::ingested(&store, "b.txt", &["词3\n"]).await;
    let all = ["词0", "词1", "词2", "词3"];
    let cases: Vec<(FilterNode, &[&str])> = vec![
        (compare("document", Eq, first.id().0.as_str()), &all[..3]),
        (compare("name", Eq, "b.txt"), &all[3..]),
        (compare("name", Ge, "b"), &all[3..]),
        (compare("page", Eq, 2), &["词2"]),
        (compare("page", Eq, 2.0), &["词2"]),
        (compare("page", Le, 1.5), &["词0", "词3"]),
        (compare("page", Ne, 1), &["词2"]),
        (compare("page", Eq, "2"), &[]),
        (compare("page", Ne, "2"), &["词0", "词2", "词3"]),
        (compare("page", Lt, true), &[]),
        (compare("ordinal", Gt, 0), &["词1", "词2"]),
        (compare("author", Eq, "李白"), &all),
        (compare("author", Eq, "Du Fu"), &all),
        (compare("author", Eq, "杜甫"), &[]),
        (compare("author", Eq, 1), &[]),
        (compare("author", Ne, 1), &all),
        (compare("no such", Ne, "x"), &[]),
        (FilterNode::Exists { field: "page".into() }, &["词0", "词2", "词3"]),
        (FilterNode::Exists { field: "author".into() }, &all),
        (FilterNode::Exists { field: "no such".into() }, &[]),
        (
            FilterNode::OneOf {
                field: "page".into(),
                values: vec![Value::Integer(2), Value::Text("1".into())],
            },
            &["词2"],
        ),
        (FilterNode::OneOf { field: "author".into(), values: vec![Value::Text("李白".into())] }, &all),
        (FilterNode::OneOf { field: "name".into(), values: Vec::new() }, &[]),
        (FilterNode::AllOf(Vec::new()), &all),
        (FilterNode::AnyOf(Vec::new()), &[]),
        (FilterNode::NoneOf(Vec::new()), &all),
    ];
    for (node, expected) in cases {
        let shown = format!("{node:?}");
        assert_eq!(through(&store, vec![node.clone()]).await, expected, "{shown}");
        let mut complement: Vec<&str> = all.into_iter().filter(|text| !expected.contains(text)).collect();
        complement.sort_unstable();
        assert_eq!(through(&store, vec![node, FilterNode::NoneOf(vec![0])]).await, complement, "not {shown}");
    }
}

#[tokio::test]
async fn a_malformed_filter_is_refused() {
    let store = TestStore::with_kb().await;
    let page = || compare("page", CompareOp::Eq, 1);
    let mut deep = vec![page()];
    deep.extend((0..16).map(|child| FilterNode::NoneOf(vec![child])));
    let mut shared = vec![page()];
    shared.extend((0..9).map(|child| FilterNode::AllOf(vec![child, child])));
    let many = vec![Value::Integer(0); VALUES_MAX + 1];
    for nodes in [
        Vec::new(),
        vec![FilterNode::AllOf(vec![0])],
        vec![FilterNode::AllOf(vec![1]), page()].into_iter().chain([FilterNode::AllOf(vec![0])]).collect(),
        vec![FilterNode::AllOf(vec![u32::MAX])],
        deep,
        shared,
        vec![FilterNode::OneOf { field: "page".into(), values: many }],
        vec![compare("page", CompareOp::Eq, f64::NAN)],
        vec![compare("", CompareOp::Eq, 1)],
        vec![FilterNode::Exists { field: "x".repeat(257) }],
    ] {
        let shown = format!("{:?}", nodes.last());
        let refused = store.lexical(&kb(), "initial-g1", "词", 1, Some(&Filter { nodes })).await;
        assert!(matches!(refused, Err(Error::InvalidInput { .. })), "{shown}: {refused:?}");
    }
}

#[tokio::test]
async fn a_filter_of_the_largest_size_runs() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.txt", &["词\n"]).await;
    let mut nodes: Vec<FilterNode> = (0..limits::FILTER_NODES_MAX - 1)
        .map(|at| FilterNode::OneOf {
            field: "author".into(),
            values: vec![Value::Text("李白".into()); 1 + at % 16],
        })
        .collect();
    nodes.push(FilterNode::AllOf((0..nodes.len() as u32).collect()));
    assert_eq!(through(&store, nodes).await, ["词"]);
}

#[tokio::test]
async fn nothing_in_a_filter_reaches_the_statement() {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.txt", &["词\n"]).await;
    for evil in ["' OR 1=1 --", "\"; DROP TABLE kbs; --", "$.author", "?1", "a\0b", "%"] {
        assert!(through(&store, vec![compare("name", CompareOp::Eq, evil)]).await.is_empty(), "{evil}");
        assert!(through(&store, vec![compare(evil, CompareOp::Eq, "x")]).await.is_empty(), "{evil}");
        assert!(through(&store, vec![FilterNode::Exists { field: evil.into() }]).await.is_empty(), "{evil}");
    }
    assert_eq!(through(&store, vec![FilterNode::AllOf(Vec::new())]).await, ["词"]);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "1"]).prop_map(|text| Value::Text(text.to_owned())),
        (0..3_i64).prop_map(Value::Integer),
        (0..5_i32).prop_map(|half| Value::Number(f64::from(half) / 2.0)),
        any::<bool>().prop_map(Value::Boolean),
    ]
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "y"]).prop_map(str::to_owned)
}

fn node(at: usize) -> impl Strategy<Value = FilterNode> {
    use CompareOp::{Eq, Ge, Gt, Le, Lt, Ne};
    let op = prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge]);
    let children = move || prop::collection::vec(0..at.max(1) as u32, if at == 0 { 0..1 } else { 0..3 });
    prop_oneof![
        3 => (field(), op, value()).prop_map(|(field, op, value)| FilterNode::Compare { field, op, value }),
        1 => (field(), prop::collection::vec(value(), 0..4)).prop_map(|(field, values)| FilterNode::OneOf { field, values }),
        1 => field().prop_map(|field| FilterNode::Exists { field }),
        1 => children().prop_map(FilterNode::AllOf),
        1 => children().prop_map(FilterNode::AnyOf),
        1 => children().prop_map(FilterNode::NoneOf),
    ]
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Number(number) => Some(*number),
        Value::Text(_) | Value::Boolean(_) => None,
    }
}

/// The order of two values of one kind.
fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Boolean(a), Value::Boolean(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

fn holds(filter: &Filter, index: usize, row: &[(String, Value)]) -> bool {
    let all = |children: &[u32]| children.iter().all(|child| holds(filter, *child as usize, row));
    let any = |children: &[u32]| children.iter().any(|child| holds(filter, *child as usize, row));
    let values = |field: &str| {
        row.iter().filter(move |(name, _)| name == field).map(|(_, value)| value).collect::<Vec<_>>()
    };
    match &filter.nodes[index] {
        FilterNode::AllOf(children) => all(children),
        FilterNode::AnyOf(children) => any(children),
        FilterNode::NoneOf(children) => !any(children),
        FilterNode::Exists { field } => !values(field).is_empty(),
        FilterNode::OneOf { field, values: wanted } => values(field)
            .iter()
            .any(|held| wanted.iter().any(|value| order(held, value).is_some_and(|order| order.is_eq()))),
        FilterNode::Compare { field, op, value } => {
            values(field).iter().any(|held| match (op, order(held, value)) {
                (CompareOp::Ne, order) => order.is_none_or(|order| order.is_ne()),
                (_, None) => false,
                (CompareOp::Eq, Some(order)) => order.is_eq(),
                (CompareOp::Lt, Some(order)) => order.is_lt(),
                (CompareOp::Le, Some(order)) => order.is_le(),
                (CompareOp::Gt, Some(order)) => order.is_gt(),
                (CompareOp::Ge, Some(order)) => order.is_ge(),
            })
        }
    }
}

/// Each node refers only to those before it.
fn filter() -> impl Strategy<Value = Filter> {
    (node(0), node(1), node(2), node(3)).prop_map(|(a, b, c, d)| Filter { nodes: vec![a, b, c, d] })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn vectors_are_filtered_as_a_plain_reading_says(
        rows in prop::collection::vec(prop::collection::vec((field(), value()), 0..4), 1..12),
        filters in prop::collection::vec(filter(), 8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = TestStore::with_kb().await;
            let index = store.vector_index(&kb());
            index.create(&VectorCollection { name: "c".into(), dim: 1, metric: Metric::Dot }).await.unwrap();
            let ids = (0..rows.len()).map(|at| ChunkId(format!("{at:02}"))).collect();
            let vectors = Vectors { dim: 1, data: vec![1.0; rows.len()] };
            index.upsert("c", StoredVectors { ids, vectors }, rows.clone()).await.unwrap();
            for filter in filters {
                let query = Vectors { dim: 1, data: vec![1.0] };
                let hits = index.query("c", &query, 100, Some(&filter)).await.unwrap().remove(0);
                let found: Vec<String> = hits.into_iter().map(|hit| hit.chunk.0).collect();
                let root = filter.nodes.len() - 1;
                let expected: Vec<String> = (0..rows.len())
                    .filter(|at| holds(&filter, root, &rows[*at])).map(|at| format!("{at:02}")).collect();
                assert_eq!(found, expected, "{filter:?}");
            }
        });
    }
}
