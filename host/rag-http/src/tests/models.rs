//! The registry through the API: what an administrator sends reaches it, and what it says comes back.

use serde_json::json;

use super::world::{ADMIN, READER, World};

#[tokio::test]
async fn a_model_is_added_changed_chosen_and_forgotten() {
    let world = World::new().await;
    let entries = "/api/v1/models/entries";
    let listed = world.get(ADMIN, entries).await.is(200).json();
    assert_eq!(listed["models"][0]["name"], "fake-rwkv");
    assert_eq!((&listed["models"][0]["in_use"], &listed["switching"]), (&json!(true), &json!(null)));

    let hash = "ab".repeat(32);
    let new = json!({"name": "状态-1", "path": "a/b.pth", "sha256": hash, "licence": "Apache-2.0", "quantize": "nf4"});
    let added = world.post(ADMIN, entries, new).await.is(201).json();
    let told = (&added["online"], &added["sha256"], &added["quantize"], &added["licence"]);
    assert_eq!(told, (&json!(false), &json!(hash), &json!("nf4"), &json!("Apache-2.0")));
    world.post(ADMIN, entries, json!({"name": "x", "path": "missing"})).await.is(404);
    world.post(ADMIN, entries, json!({"name": "x", "path": "y", "kind": "other"})).await.is(400);

    let choice = "/api/v1/models/choices/language";
    let wanted = json!({"name": "状态-1"});
    let refused = world.json("PUT", ADMIN, choice, wanted.clone()).await.is(409);
    assert_eq!(refused.code(), "conflict");
    let path = "/api/v1/models/entries/%E7%8A%B6%E6%80%81-1";
    let change = json!({"online": true, "quantize": null, "source": "hub"});
    let changed = world.json("PATCH", ADMIN, path, change).await.is(200).json();
    let told = (&changed["online"], &changed["quantize"], &changed["source"], &changed["licence"]);
    assert_eq!(told, (&json!(true), &json!(null), &json!("hub"), &json!("Apache-2.0")));

    let later = json!({"name": "状态-1", "when": "next_start"});
    let later = world.json("PUT", ADMIN, choice, later).await.is(200).json();
    assert_eq!(later["models"][0]["in_use"], true);
    let now = world.json("PUT", ADMIN, choice, wanted).await.is(200).json();
    assert_eq!((&now["models"][0]["in_use"], &now["models"][1]["in_use"]), (&json!(false), &json!(true)));
    world.json("PUT", ADMIN, "/api/v1/models/choices/none", json!({"name": "a"})).await.is(404);
    world.json("PUT", ADMIN, choice, json!({"name": null})).await.is(400);
    world.post(ADMIN, "/api/v1/models/restart", json!({})).await.is(200);

    world.delete(ADMIN, path).await.is(204);
    world.delete(ADMIN, path).await.is(404);
    world.json("PATCH", ADMIN, path, json!({})).await.is(404);
    world.get(READER, entries).await.is(403);
}

#[tokio::test]
async fn a_model_is_fetched_followed_and_stopped() {
    let world = World::new().await;
    let pulls = "/api/v1/models/pulls";
    assert_eq!(world.get(ADMIN, pulls).await.is(200).json()["hub"], "https://hub.example");
    let wanted = json!({"repository": "owner/模型", "file": "a.pth", "name": "甲"});
    let begun = world.post(ADMIN, pulls, wanted).await.is(202).json();
    let told = (&begun["state"], &begun["revision"], &begun["name"], &begun["files"][0]["path"]);
    assert_eq!(told, (&json!("fetching"), &json!("main"), &json!("甲"), &json!("a.pth")));
    let counted = (&begun["bytes"], &begun["done_bytes"], &begun["percent"], &begun["eta_s"]);
    assert_eq!(counted, (&json!(1_000), &json!(250), &json!(25), &json!(15)));
    let path = format!("{pulls}/{}", begun["id"].as_str().unwrap());
    assert_eq!(world.get(ADMIN, &path).await.is(200).json()["message"], "it broke off");
    let stopped = world.delete(ADMIN, &path).await.is(200).json();
    assert_eq!((&stopped["state"], &stopped["eta_s"]), (&json!("stopped"), &json!(null)));
    world.delete(ADMIN, &path).await.is(409);
    world.get(ADMIN, "/api/v1/models/pulls/none").await.is(404);
    world.post(ADMIN, pulls, json!({"repository": "owner/missing"})).await.is(404);
    // Whom the host asks is no request's business.
    world.post(ADMIN, pulls, json!({"repository": "owner/model", "hub": "http://127.0.0.1:1"})).await.is(400);
    world.post(READER, pulls, json!({"repository": "owner/model"})).await.is(403);
}
