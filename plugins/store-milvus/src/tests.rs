//! Requests as Milvus describes them.

use super::*;
use guest_store::testing::Script;

const ONE: &str = r#"{"code": 200, "data": {
    "fields": [{"name": "ragkit_id", "type": "Int64"}, {"name": "vector", "type": "FloatVector(2)"}],
    "indexes": [{"fieldName": "vector", "metricType": "COSINE"}]}}"#;
const TWO: &str = r#"{"code": 0, "data": {
    "fields": [{"name": "ragkit_id", "type": "VarChar"},
        {"name": "vector", "type": "FloatVector", "params": [{"key": "dim", "value": "2"}]}],
    "indexes": [{"fieldName": "vector", "metricType": "COSINE"}]}}"#;

fn milvus(script: &Script, api: &str) -> Milvus {
    let settings = json!({"url": "http://m:1", "api": api}).to_string();
    Milvus::open(&settings, Box::new(script.clone())).unwrap()
}

fn a_row() -> Rows {
    Rows::new(vec!["片".into()], 2, &[1., 0.5], vec!["文".into()], vec![vec![]]).unwrap()
}

#[test]
fn a_code_tells_what_happened() {
    for (body, code) in [
        (r#"{"code": 100, "message": "collection not found"}"#, Code::NotFound),
        (r#"{"code": 1100, "message": "invalid parameter"}"#, Code::InvalidInput),
        (r#"{"code": 1804, "message": "insert data"}"#, Code::InvalidInput),
        (r#"{"code": 8, "message": "rate limit"}"#, Code::Unavailable),
        (r#"{"code": 65535, "message": "?"}"#, Code::Unavailable),
        (r#"{"data": []}"#, Code::Unavailable),
        ("<html>", Code::Unavailable),
    ] {
        let script = Script::default();
        script.answer(200, body);
        assert_eq!(milvus(&script, "v2").count("c").unwrap_err().code, code, "{body}");
    }
    let script = Script::default();
    script.answer(401, r#"{"code": 1800, "message": "user hasn't authenticated"}"#);
    let error = milvus(&script, "v1").list().unwrap_err();
    assert!(error.message.contains("plugins.http") && error.message.contains("authenticated"), "{error:?}");
    assert!(Milvus::open(r#"{"api": "v3"}"#, Box::new(Script::default())).is_err());
}

#[test]
fn v1_deletes_what_is_there_and_waits_until_the_new_row_is_seen() {
    let script = Script::default();
    script.answer(200, ONE);
    script.answer(200, r#"{"code": 200, "data": [{"ragkit_id": "7"}]}"#);
    script.answer(200, r#"{"code": 200, "data": {}}"#);
    script.answer(200, r#"{"code": 200, "data": {"insertIds": ["9"]}}"#);
    script.answer(200, r#"{"code": 200, "data": [{"ragkit_id": "7"}]}"#);
    script.answer(200, r#"{"code": 200, "data": [{"ragkit_id": "9"}]}"#);
    milvus(&script, "v1").upsert("c", &a_row()).unwrap();
    let urls: Vec<String> = script.requests().into_iter().map(|request| request.url).collect();
    let paths = ["collections/describe?collectionName=c", "query", "delete", "insert", "query", "query"];
    assert_eq!(urls, paths.map(|path| format!("http://m:1/v1/vector/{path}")));
    assert_eq!(script.sent(2)["filter"], "ragkit_id in [7]");
    assert_eq!(script.sent(3)["data"][0]["key"], wire::hashed("片"));
    assert_eq!(script.sent(1)["filter"], script.sent(5)["filter"]);
}

#[test]
fn v2_has_ids_of_our_own() {
    let script = Script::default();
    script.answer(200, TWO);
    script.answer(200, r#"{"code": 0, "data": {"upsertCount": 1}}"#);
    milvus(&script, "v2").upsert("c", &a_row()).unwrap();
    assert_eq!(script.requests()[1].url, "http://m:1/v2/vectordb/entities/upsert");
    assert_eq!(script.sent(1)["data"][0]["ragkit_id"], wire::hashed("片"));
    script.answer(200, TWO);
    script.answer(200, r#"{"code": 0, "data": [{"ragkit_id": "x", "chunk": "片", "distance": 0.5}]}"#);
    let hits = milvus(&script, "v2").query("c", 2, &[&[1.0, 0.0]], 3, None).unwrap();
    assert_eq!(hits, [[Hit { id: "片".into(), score: 0.5 }]]);
    assert_eq!(script.sent(3)["data"], json!([[1.0, 0.0]]));
    script.answer(200, ONE);
    assert_eq!(milvus(&script, "v2").count("c").unwrap_err().code, Code::Conflict);
}
