//! Requests as Typesense describes them.

use super::*;
use guest_store::Metric;
use guest_store::testing::Script;

fn described(script: &Script, metric: Metric) {
    let collection = Collection { name: "c".into(), dim: 2, metric };
    script.answer(200, &wire::schema("c", &collection).to_string());
}

fn two() -> Rows {
    Rows::new(vec!["a".into(), "b".into()], 2, &[0.; 4], vec![String::new(); 2], vec![vec![]; 2]).unwrap()
}

fn typesense(script: &Script) -> Typesense {
    Typesense::open("", Box::new(script.clone())).unwrap()
}

#[test]
fn a_line_that_is_refused_fails_the_import() {
    for (lines, code, words) in [
        ("{\"success\":true}\n{\"success\":false,\"code\":400,\"error\":\"bad\"}", Code::InvalidInput, "bad"),
        ("{\"success\":true}", Code::Unavailable, "every document"),
    ] {
        let script = Script::default();
        described(&script, Metric::Dot);
        script.answer(200, lines);
        let error = typesense(&script).upsert("c", &two()).unwrap_err();
        assert!(error.code == code && error.message.contains(words), "{error:?}");
    }
}

#[test]
fn a_row_that_is_there_is_deleted_before_it_is_written_again() {
    let script = Script::default();
    described(&script, Metric::Cosine);
    let there = "{\"success\":true}\n{\"success\":false,\"code\":409,\"error\":\"already exists\"}";
    script.answer(200, there);
    script.answer(200, r#"{"num_deleted": 1}"#);
    script.answer(200, "{\"success\":true}");
    typesense(&script).upsert("c", &two()).unwrap();
    let requests = script.requests();
    let asked: Vec<(Method, &str)> =
        requests.iter().map(|r| (r.method, r.url.split("/c/").last().unwrap_or_default())).collect();
    let erased = format!("documents?filter_by=id:=%5B{}%5D", wire::hashed("b"));
    assert_eq!(asked[1], (Method::Post, "documents/import?action=create"));
    assert_eq!(asked[2], (Method::Delete, erased.as_str()));
    assert_eq!(asked[3], asked[1]);
    assert_eq!(script.sent(3)["chunk"], "b");
    assert_eq!(requests.len(), 4);
}

#[test]
fn an_error_of_a_search_is_told_and_other_collections_are_left_alone() {
    let script = Script::default();
    described(&script, Metric::Dot);
    script.answer(200, r#"{"results": [{"code": 404, "error": "Not found."}]}"#);
    let store = typesense(&script);
    assert_eq!(store.query("c", 2, &[&[1., 0.]], 1, None).unwrap_err().code, Code::NotFound);
    assert_eq!(script.sent(1)["searches"][0]["vector_query"], "vector:([1.0,0.0], k:400)");
    script.answer(200, r#"{"name": "c", "fields": []}"#);
    assert_eq!(store.count("c").unwrap_err().code, Code::Conflict);
}
