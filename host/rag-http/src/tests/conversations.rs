//! Conversations as their owner keeps them, and the marks that others learn from.

use serde_json::json;

use super::world::{ADMIN, EDITOR, READER, World, json_request, piece};

const PATH: &str = "/api/v1/kbs/initial/conversations/c-1";

async fn ask(world: &World, key: &str, conversation: &str, question: &str) -> serde_json::Value {
    let body = json!({"question": question, "conversation": conversation});
    world.post(key, "/api/v1/kbs/initial/ask", body).await.is(200).json()
}

#[tokio::test]
async fn a_conversation_is_kept_with_its_citations_until_it_is_deleted() {
    let world = World::new().await;
    world.ingest("initial", "城市.md", "Paris is the capital 首都.").await;
    let said = ask(&world, READER, "c-1", "capital 首都?").await;
    let kept = world.get(READER, PATH).await.is(200).json();
    assert_eq!(kept["conversation"]["title"], "capital 首都?");
    let round = &kept["rounds"][0];
    assert_eq!(round["id"], said["round"]);
    for field in ["answer", "citations", "usage", "refused", "model", "demonstration", "finish_reason"] {
        assert_eq!(round[field], said[field], "{field}");
    }
    assert_eq!(round["citations"][0]["document"], "城市.md");

    ask(&world, READER, "c-2", "capital of what?").await;
    ask(&world, EDITOR, "c-1", "capital? secret").await;
    let list = |query: &'static str| world.get(READER, query);
    let all = list("/api/v1/conversations").await.is(200).json();
    let ids: Vec<_> =
        all["conversations"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["c-2", "c-1"]);
    let found = list("/api/v1/conversations?q=%E9%A6%96%E9%83%BD%3F").await.is(200).json();
    assert_eq!(found["conversations"].as_array().unwrap().len(), 1);
    assert_eq!(found["conversations"][0]["id"], "c-1");
    let none = list("/api/v1/conversations?kb=other").await.is(200).json();
    assert_eq!(none["conversations"], json!([]));

    let renamed = world.json("PATCH", READER, PATH, json!({"title": "首都"})).await.is(200).json();
    assert_eq!((renamed["title"].as_str(), renamed["rounds"].as_u64()), (Some("首都"), Some(1)));
    world.delete(READER, PATH).await.is(204);
    let gone = world.get(READER, PATH).await.is(200).json();
    assert_eq!((&gone["conversation"], &gone["rounds"]), (&json!(null), &json!([])));
    assert_eq!(
        world.get(EDITOR, PATH).await.json()["rounds"].as_array().unwrap().len(),
        1,
        "another's stays"
    );
}

#[tokio::test]
async fn a_refusal_is_shown_again_but_no_later_round_builds_on_it() {
    let world = World::new().await;
    world.ingest("initial", "a.md", "alpha words").await;
    assert_eq!(ask(&world, READER, "c-1", "nothing fits zzz").await["refused"], true);
    let kept = world.get(READER, PATH).await.is(200).json();
    assert_eq!((kept["rounds"].as_array().unwrap().len(), &kept["rounds"][0]["refused"]), (1, &json!(true)));
    ask(&world, READER, "c-1", "alpha?").await;
    let prompts = world.fake.prompts.lock().unwrap();
    assert!(prompts.iter().all(|prompt| !prompt.prompt.contains("zzz")));
    assert!(prompts.iter().all(|prompt| prompt.tenant == "k2"), "states are kept apart by who asks");
}

#[tokio::test]
async fn answers_are_marked_by_who_asked_and_read_by_editors() {
    let world = World::new().await;
    world.ingest("initial", "a.md", "alpha words").await;
    let round = ask(&world, READER, "c-1", "alpha?").await["round"].as_u64().unwrap();
    let path = format!("{PATH}/rounds/{round}/mark");
    let mark = json!({"mark": "bad", "note": "年份不对"});
    world.json("PUT", EDITOR, &path, mark.clone()).await.is(404);
    let marked = world.json("PUT", READER, &path, mark).await.is(200).json();
    assert_eq!((&marked["mark"], &marked["note"]), (&json!("bad"), &json!("年份不对")));
    world.get(READER, "/api/v1/kbs/initial/marks").await.is(403);
    let listed = world.get(EDITOR, "/api/v1/kbs/initial/marks").await.is(200).json();
    assert_eq!(listed["rounds"][0]["question"], "alpha?");
    world.json("PUT", READER, &path, json!({"mark": null})).await.is(200);
    let listed = world.get(ADMIN, "/api/v1/kbs/initial/marks").await.is(200).json();
    assert_eq!(listed["rounds"], json!([]));
    world.json("PUT", READER, &format!("{PATH}/rounds/x/mark"), json!({"mark": "good"})).await.is(404);
    world.json("PUT", READER, &path, json!({"mark": "fine"})).await.is(400);
}

#[tokio::test]
async fn a_stopped_answer_stays_as_far_as_it_was_written() {
    let world = World::new().await;
    world.ingest("initial", "a.md", "alpha words").await;
    let body = json!({"question": "alpha SILENT?", "conversation": "c-1"});
    let mut request = json_request("POST", READER, "/api/v1/kbs/initial/ask", &body);
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut stream = world.open(request).await.into_body().into_data_stream();
    while !piece(&mut stream).await.unwrap().contains("token") {}
    assert_eq!(world.get(READER, PATH).await.json()["rounds"], json!([]));
    drop(stream);
    let mut kept = json!([]);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        kept = world.get(READER, PATH).await.json()["rounds"].clone();
    }
    assert_eq!((&kept[0]["answer"], &kept[0]["finish_reason"]), (&json!("word"), &json!("stopped")));
    assert_eq!(kept.as_array().unwrap().len(), 1);
}
