//! Search and ask, whole and streamed, and who hears what.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::world::{ADMIN, EDITOR, READER, World, json_request, piece};

const ASK: &str = "/api/v1/kbs/initial/ask";

async fn world() -> World {
    let world = World::new().await;
    world
        .ingest("initial", "geo.md", "# Capitals\n\nThe capital of France is Paris. It lies on the Seine.")
        .await;
    world
}

fn stream_request(key: &str, body: &Value) -> Request<Body> {
    let mut request = json_request("POST", key, ASK, body);
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    request
}

/// Ids and times differ from run to run of other code, so a transcript names them.
fn tidy(transcript: &str, world: &World) -> String {
    let kept = world.fake.kept();
    let (document, chunk) = kept.chunks.first().map(|(document, chunk)| (&document.0, &chunk.id.0)).unwrap();
    let text = transcript.replace(document, "DOCUMENT").replace(chunk, "CHUNK");
    let mut tidy = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\"millis\":") {
        tidy.push_str(before);
        tidy.push_str("\"millis\":0");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    tidy + rest
}

#[tokio::test]
async fn a_search_shows_each_arms_opinion() {
    let world = world().await;
    let body = json!({"question": "capital of France?", "k": 3});
    let found = world.post(READER, "/api/v1/kbs/initial/search", body).await.is(200).json();
    let hit = &found["hits"][0];
    assert_eq!((hit["document"].as_str(), hit["heading"].as_str()), (Some("geo.md"), Some("Capitals")));
    assert_eq!(hit["rank"], 1);
    assert_eq!(hit["arms"]["dense"], json!({"rank": 1, "score": 0.9}));
    assert!(hit["arms"]["rerank"]["score"].as_f64().unwrap() > 1.0);
    assert_eq!(found["trace"]["steps"][0]["name"], "words");
    for bad in [
        json!({"question": " "}),
        json!({"question": "x", "k": 0}),
        json!({"question": "x", "k": 1001}),
        json!({"question": "x", "filter": {"sql": "1=1"}}),
        json!({"question": "x".repeat(9_000)}),
        json!({}),
    ] {
        world.post(READER, "/api/v1/kbs/initial/search", bad).await.is(400);
    }
    world.post(READER, "/api/v1/kbs/unknown/search", json!({"question": "x"})).await.is(404);
}

#[tokio::test]
async fn an_answer_cites_what_is_verbatim_in_the_document() {
    let world = world().await;
    let body = json!({"question": "capital of France?", "recall": true});
    let answer = world.post(READER, ASK, body).await.is(200).json();
    assert_eq!(answer["answer"], "Paris is the answer.");
    assert_eq!((answer["refused"].as_bool(), answer["demonstration"].as_bool()), (Some(false), Some(true)));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 7, "output_tokens": 5}));
    let citation = &answer["citations"][0];
    let range = format!("start={}&end={}", citation["start"], citation["end"]);
    let document = citation["document_id"].as_str().unwrap();
    let text =
        world.get(READER, &format!("/api/v1/kbs/initial/documents/{document}/text?{range}")).await.json();
    assert_eq!(text["text"], citation["quote"]);
    assert_eq!(answer["recall"][0]["chunk"], citation["chunk"]);
}

#[tokio::test]
async fn what_an_answer_did_with_each_passage_is_told() {
    let world = World::new().await;
    world
        .ingest("initial", "geo.md", "The capital of France is Paris.\n\nThe capital of Chad is N'Djamena.")
        .await;
    let body = json!({"question": "capital of France?"});
    let found = world.post(READER, "/api/v1/kbs/initial/search", body).await.is(200).json();
    let fates: Vec<_> = found["hits"].as_array().unwrap().iter().map(|hit| hit["fate"].clone()).collect();
    assert_eq!(fates, ["read", "surplus"], "the small model reads one");
    let change = json!({"answer": {"relevance_min": 1000.0}});
    world.json("PATCH", ADMIN, "/api/v1/kbs/initial", change).await.is(200);
    let body = json!({"question": "capital of France?", "recall": true});
    let asked = world.post(READER, ASK, body).await.is(200).json();
    assert_eq!((&asked["refused"], &asked["recall"][0]["fate"]), (&json!(true), &json!("irrelevant")));
    let other = json!({"question": "capital of France?", "retriever": "missing-one"});
    world.post(READER, "/api/v1/kbs/initial/search", other.clone()).await.is(404);
    world.post(READER, ASK, other).await.is(404);
}

#[tokio::test]
async fn editors_name_a_state_for_one_answer_and_administrators_for_a_knowledge_base() {
    let world = world().await;
    let of = async |key, more: Value| {
        let mut body = json!({"question": "capital of France?"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.post(key, ASK, body).await
    };
    assert_eq!(of(EDITOR, json!({"state": "qa"})).await.is(200).json()["model"], "fake-rwkv + qa");
    of(READER, json!({"state": "qa"})).await.is(403);
    of(READER, json!({"adapter": null})).await.is(403);

    let bind = json!({"answer": {"state": "qa"}});
    let path = "/api/v1/kbs/initial";
    world.json("PATCH", ADMIN, path, bind.clone()).await.is(400);
    let entries = "/api/v1/models/entries";
    world.post(ADMIN, entries, json!({"name": "qa", "path": "qa.pth", "kind": "state"})).await.is(201);
    world.json("PATCH", ADMIN, path, bind.clone()).await.is(400);
    world.json("PATCH", ADMIN, &format!("{entries}/qa"), json!({"online": true})).await.is(200);
    world.json("PATCH", EDITOR, path, bind.clone()).await.is(403);
    let bound = world.json("PATCH", ADMIN, path, bind).await.is(200).json();
    assert_eq!(bound["settings"]["answer"]["state"], "qa");
    assert_eq!(of(READER, json!({})).await.is(200).json()["model"], "fake-rwkv + qa");
    assert_eq!(of(EDITOR, json!({"state": null})).await.is(200).json()["model"], "fake-rwkv");
    let freed = json!({"answer": {"state": null}});
    let freed = world.json("PATCH", ADMIN, path, freed).await.is(200).json();
    assert_eq!(freed["settings"]["answer"]["state"], json!(null));
}

#[tokio::test]
async fn the_transcript_of_a_streamed_answer() {
    let world = world().await;
    let got = world.send(stream_request(READER, &json!({"question": "capital of France?"}))).await.is(200);
    assert!(got.header("content-type").starts_with("text/event-stream"));
    insta::assert_snapshot!(tidy(got.text(), &world), @r#"
    event: citations
    data: {"refused":false,"citations":[{"document":"geo.md","document_id":"DOCUMENT","chunk":"CHUNK","heading":"Capitals","start":10,"end":41,"quote":"The capital of France is Paris.","score":17.0,"passage":"The capital of France is Paris. It lies on the Seine."}],"model":"fake-rwkv","demonstration":true}

    event: token
    data: {"text":"Paris is"}

    event: token
    data: {"text":" the answer."}

    event: done
    data: {"answer":"Paris is the answer.","refused":false,"citations":[{"document":"geo.md","document_id":"DOCUMENT","chunk":"CHUNK","heading":"Capitals","start":10,"end":41,"quote":"The capital of France is Paris.","score":17.0,"passage":"The capital of France is Paris. It lies on the Seine."}],"trace":{"steps":[{"name":"words","detail":"capital France","millis":0},{"name":"retrieve","detail":"1 candidates by retrieve-hybrid","millis":0},{"name":"load","detail":"1 passages","millis":0},{"name":"rerank","detail":"1 passages by fake-reranker","millis":0}],"rewritten":null},"usage":{"prompt_tokens":7,"output_tokens":5},"finish_reason":"stop","model":"fake-rwkv","demonstration":true}
    "#);
}

#[tokio::test]
async fn without_a_match_the_answer_says_so_and_no_model_is_asked() {
    let world = world().await;
    let answer = world.post(READER, ASK, json!({"question": "怎样煮饭？"})).await.is(200).json();
    assert_eq!((answer["refused"].as_bool(), &answer["citations"]), (Some(true), &json!([])));
    assert!(world.fake.prompts.lock().unwrap().is_empty());
    let got = world.send(stream_request(READER, &json!({"question": "怎样煮饭？"}))).await.is(200);
    assert!(got.text().contains("event: done\n"), "{}", got.text());
}

#[tokio::test]
async fn an_error_within_a_stream_is_its_last_event() {
    let world = world().await;
    let got = world.send(stream_request(READER, &json!({"question": "capital BREAKS?"}))).await.is(200);
    let last = got.text().trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\n") && last.contains("\"internal\""), "{last}");
    assert!(last.contains(got.header("x-request-id")), "{last}");
    assert!(!got.text().contains("secret"));
    let whole = world.post(READER, ASK, json!({"question": "capital BREAKS?"})).await.is(500);
    assert!(!whole.text().contains("secret"));
    let busy = world.post(READER, ASK, json!({"question": "capital BUSY?"})).await.is(429);
    assert_eq!(busy.header("retry-after"), "1");
}

#[tokio::test]
async fn who_hangs_up_frees_the_model() {
    let world = world().await;
    for question in ["capital ENDLESS?", "capital SILENT?"] {
        let mut body = world
            .open(stream_request(READER, &json!({"question": question})))
            .await
            .into_body()
            .into_data_stream();
        assert!(piece(&mut body).await.unwrap().starts_with("event: citations"));
        assert!(piece(&mut body).await.unwrap().starts_with("event: token"));
        assert_eq!(world.fake.generations.load(Ordering::SeqCst), 1);
        drop(body);
        assert_eq!(world.fake.generations.load(Ordering::SeqCst), 0, "{question}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_open_answer() {
    let world = world().await;
    let mut body = world
        .open(stream_request(READER, &json!({"question": "capital SILENT?"})))
        .await
        .into_body()
        .into_data_stream();
    piece(&mut body).await.unwrap();
    piece(&mut body).await.unwrap();
    world.delete(ADMIN, "/api/v1/keys/k2").await.is(204);
    let last = piece(&mut body).await.unwrap();
    assert!(last.starts_with("event: error\n") && last.contains("revoked"), "{last}");
    assert_eq!(world.fake.generations.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_conversation_is_kept_for_its_key_alone() {
    let world = world().await;
    let first = json!({"question": "capital of France?", "conversation": "c1"});
    world.post(READER, ASK, first).await.is(200);
    let path = "/api/v1/kbs/initial/conversations/c1";
    let kept = world.get(READER, path).await.is(200).json();
    let round = &kept["rounds"][0];
    assert_eq!(
        (&round["question"], &round["answer"]),
        (&json!("capital of France?"), &json!("Paris is the answer."))
    );
    let nothing = json!({"conversation": null, "rounds": [], "before": null});
    assert_eq!(world.get(EDITOR, path).await.is(200).json(), nothing);
    assert_eq!(world.get(READER, "/api/v1/kbs/other/conversations/c1").await.json(), nothing);

    world.post(READER, ASK, json!({"question": "capital again?", "conversation": "c1"})).await.is(200);
    world.post(EDITOR, ASK, json!({"question": "capital mine?", "conversation": "c1"})).await.is(200);
    {
        let prompts = world.fake.prompts.lock().unwrap();
        assert!(prompts[1].prompt.contains("Paris is the answer."), "earlier rounds reach the prompt");
        assert!(!prompts[2].prompt.contains("Paris is the answer."), "those of another key do not");
    }
    for bad in ["", "a b", "../c1", &"x".repeat(65)] {
        world.post(READER, ASK, json!({"question": "capital", "conversation": bad})).await.is(400);
    }
}

#[tokio::test]
async fn limits_of_a_question_hold() {
    let world = world().await;
    for bad in [
        json!({"question": ""}),
        json!({"question": "x", "temperature": 6}),
        json!({"question": "x", "top_p": -0.1}),
        json!({"question": "x", "passages": 0}),
        json!({"question": "x", "answer_tokens_max": 0}),
        json!({"question": "x", "answer_tokens_max": 1_000_000}),
        json!({"question": "x", "unknown": 1}),
        json!({"question": {"$ne": null}}),
    ] {
        world.post(READER, ASK, bad).await.is(400);
    }
    let sampling =
        json!({"question": "capital", "temperature": 0, "top_p": 0.5, "seed": 7, "answer_tokens_max": 9});
    world.post(READER, ASK, sampling).await.is(200);
    let prompts = world.fake.prompts.lock().unwrap();
    let asked = prompts.last().unwrap();
    assert_eq!((asked.sampling.temperature, asked.sampling.seed, asked.tokens_max), (0.0, Some(7), 9));
}
