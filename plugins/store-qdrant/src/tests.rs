//! Requests as Qdrant describes them.

use super::*;
use guest_store::testing::Script;
use guest_store::{Compare, Node, Value};

const THERE: &str = r#"{"result": {"config": {"params": {"vectors": {"size": 2, "distance": "Euclid"}}}}}"#;

fn qdrant(script: &Script) -> Qdrant {
    Qdrant::open(r#"{"url": "http://q:6333"}"#, Box::new(script.clone())).unwrap()
}

#[test]
fn one_that_is_there_is_taken_when_it_has_the_shape() {
    let wanted = Collection { name: "c".into(), dim: 2, metric: Metric::Euclidean };
    for (collection, code) in [
        (wanted.clone(), None),
        (Collection { dim: 3, ..wanted.clone() }, Some(Code::Conflict)),
        (Collection { metric: Metric::Dot, ..wanted }, Some(Code::Conflict)),
    ] {
        let script = Script::default();
        script.answer(409, r#"{"status": {"error": "Collection `c` already exists!"}}"#);
        script.answer(200, THERE);
        assert_eq!(qdrant(&script).create(&collection).err().map(|error| error.code), code);
    }
}

#[test]
fn a_row_becomes_a_point_with_a_uuid_and_is_found_again_by_its_own_id() {
    let script = Script::default();
    script.answer(200, THERE);
    script.answer(200, "{}");
    let fields = vec![vec![("name".to_owned(), Value::Text("中文".into()))]];
    let rows = Rows::new(vec!["片".into()], 2, &[1., 0.5], vec!["文".into()], fields).unwrap();
    qdrant(&script).upsert("c", &rows).unwrap();
    let point = script.sent(1)["points"][0].clone();
    let id = point["id"].as_str().unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4));
    assert_eq!(point["payload"]["tags"], json!(["s:name", "s:name= 中文"]));
    script.answer(200, THERE);
    script.answer(200, r#"{"result": {"points": [{"id": "u", "score": 0.5, "payload": {"id": "片"}}]}}"#);
    let filter = Filter(vec![Node::Compare("name".into(), Compare::Ne, Value::Text("b".into()))]);
    let hits = qdrant(&script).query("c", 2, &[&[1.0, 0.0]], 3, Some(&filter)).unwrap();
    assert_eq!(hits, [[Hit { id: "片".into(), score: -0.5 }]]);
    let expected = json!({"must": [
        {"must": [{"key": "tags", "match": {"any": ["s:name"]}}]},
        {"must_not": [{"key": "tags", "match": {"any": ["s:name= b"]}}]},
    ]});
    assert_eq!(script.sent(3)["filter"], expected);
}
