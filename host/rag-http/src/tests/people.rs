//! Users log in with a password, work under their rights, and what they change is written down.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{ADMIN, Got, READER, World, request};

const PASSWORD: &str = "correct horse battery";

async fn create(world: &World, name: &str, role: &str) -> String {
    let body = json!({"name": name, "password": PASSWORD, "role": role});
    world.post(ADMIN, "/api/v1/users", body).await.is(201).json()["id"].as_str().unwrap().to_owned()
}

async fn login(world: &World, name: &str, password: &str) -> Got {
    world.post("", "/api/v1/session", json!({"name": name, "password": password})).await
}

struct Page {
    cookie: String,
    csrf: String,
}

impl Page {
    fn of(got: &Got) -> Self {
        let cookie = got.header("set-cookie").split(';').next().unwrap().to_owned();
        Page { cookie, csrf: got.json()["csrf"].as_str().unwrap().to_owned() }
    }

    async fn send(&self, world: &World, method: &str, path: &str, body: Value) -> Got {
        let request = request(method, "", path).header("cookie", &self.cookie);
        let request = request.header("x-csrf-token", &self.csrf).header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/json");
        world.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

#[tokio::test]
async fn a_user_works_until_locked_out() {
    let world = World::new().await;
    let id = create(&world, "小李", "editor").await;
    login(&world, "小李", "wrong password").await.is(401);
    login(&world, "nobody", PASSWORD).await.is(401);
    let got = login(&world, "小李", PASSWORD).await.is(200);
    assert_eq!((&got.json()["user"], &got.json()["role"]), (&json!(true), &json!("editor")));
    let page = Page::of(&got);
    let text = json!({"name": "a.md", "text": "words"});
    page.send(&world, "POST", "/api/v1/kbs/initial/texts", text.clone()).await.is(202);
    page.send(&world, "DELETE", "/api/v1/kbs/initial", json!({})).await.is(403);

    let rights =
        json!({"role": "reader", "kbs": ["other"], "kb_roles": [{"kb": "initial", "role": "editor"}]});
    let user = format!("/api/v1/users/{id}");
    let changed = world.json("PATCH", ADMIN, &user, rights).await.is(200).json();
    assert_eq!((&changed["kbs"], &changed["disabled"]), (&json!(["other"]), &json!(false)));
    page.send(&world, "POST", "/api/v1/kbs/initial/texts", text.clone()).await.is(202);
    page.send(&world, "POST", "/api/v1/kbs/other/texts", text.clone()).await.is(403);
    page.send(&world, "GET", "/api/v1/kbs/other", json!({})).await.is(200);

    world.json("PATCH", ADMIN, &user, json!({"disabled": true})).await.is(200);
    page.send(&world, "GET", "/api/v1/kbs", json!({})).await.is(401);
    login(&world, "小李", PASSWORD).await.is(401);
    world.delete(ADMIN, &user).await.is(204);
    world.delete(ADMIN, &user).await.is(404);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = World::new().await;
    create(&world, "ann", "reader").await;
    let here = Page::of(&login(&world, "ann", PASSWORD).await.is(200));
    let there = Page::of(&login(&world, "ann", PASSWORD).await.is(200));
    let path = "/api/v1/session/password";
    let change = |old: &str| json!({"old": old, "new": "another long password"});
    here.send(&world, "PUT", path, change("wrong")).await.is(400);
    here.send(&world, "PUT", path, change(PASSWORD)).await.is(204);
    here.send(&world, "GET", "/api/v1/kbs", json!({})).await.is(200);
    there.send(&world, "GET", "/api/v1/kbs", json!({})).await.is(401);
    login(&world, "ann", PASSWORD).await.is(401);
    login(&world, "ann", "another long password").await.is(200);
    world.json("PUT", READER, path, change(PASSWORD)).await.is(400);
}

#[tokio::test]
async fn guessing_a_password_is_braked() {
    let world = World::new().await;
    create(&world, "ann", "reader").await;
    for _ in 0..10 {
        login(&world, "ann", "guess").await.is(401);
    }
    assert_eq!(login(&world, "ann", PASSWORD).await.is(429).code(), "too_many");
    world.post("", "/api/v1/session", json!({"name": "ann"})).await.is(429);
}

#[tokio::test]
async fn a_login_is_a_key_or_a_name_with_a_password() {
    let world = World::new().await;
    for body in [json!({}), json!({"name": "a"}), json!({"key": "k", "name": "a", "password": "b"})] {
        world.post("", "/api/v1/session", body).await.is(400);
    }
}

#[tokio::test]
async fn what_is_changed_or_tried_is_written_down_and_nothing_else() {
    let world = World::new().await;
    world.get(READER, "/api/v1/kbs").await.is(200);
    world.post(READER, "/api/v1/kbs/initial/search", json!({"question": "?"})).await;
    world.post(READER, "/api/v1/kbs/initial/texts", json!({"name": "a", "text": "b"})).await.is(403);
    world.post("", "/api/v1/session", json!({"key": "guess"})).await.is(401);
    world.delete(ADMIN, "/api/v1/kbs/other").await.is(204);
    let log = world.get(ADMIN, "/api/v1/audit").await.is(200).json();
    let told: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            (text("actor_name"), text("action"), text("target"), entry["status"].as_u64().unwrap())
        })
        .collect();
    let entry = |who: &str, action: &str, target: &str, status: u64| {
        (who.to_owned(), action.to_owned(), target.to_owned(), status)
    };
    assert_eq!(
        told,
        [
            entry("admin", "DELETE /api/v1/kbs/{kb}", "/api/v1/kbs/other", 204),
            entry("", "POST /api/v1/session", "/api/v1/session", 401),
            entry("reader", "POST /api/v1/kbs/{kb}/texts", "/api/v1/kbs/initial/texts", 403),
        ]
    );
    let first = log["entries"][0]["id"].as_u64().unwrap();
    let older = world.get(ADMIN, &format!("/api/v1/audit?limit=1&before={first}")).await.is(200).json();
    assert_eq!((older["entries"].as_array().unwrap().len(), &older["before"]), (1, &json!(first - 1)));
}
