//! What editors change: documents, chunks, jobs, question sets, large uploads and the server's folders.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{ADMIN, EDITOR, READER, World, json_request, request};

const KB: &str = "/api/v1/kbs/initial";

/// Texts that a search finds.
async fn found(world: &World, question: &str) -> Vec<String> {
    let got =
        world.post(READER, &format!("{KB}/search"), json!({"question": question, "k": 10})).await.is(200);
    let hits = got.json()["hits"].as_array().unwrap().clone();
    hits.iter().map(|hit| hit["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_disabled_document_never_answers_until_its_job_brought_it_back() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "alpha words").await;
    let path = format!("{KB}/documents/{id}");
    let changed = world.json("PATCH", EDITOR, &path, json!({"enabled": false})).await.is(200).json();
    assert_eq!((&changed["document"]["disabled"], &changed["job"]), (&json!(true), &json!(null)));
    assert!(found(&world, "alpha?").await.is_empty());
    let asked = world.post(READER, &format!("{KB}/ask"), json!({"question": "alpha?"})).await.is(200).json();
    assert_eq!(asked["refused"], true);
    let listed = world.get(READER, &format!("{KB}/documents?disabled=true")).await.is(200).json();
    assert_eq!(listed["documents"][0]["id"], id.as_str());

    let changed = world.json("PATCH", EDITOR, &path, json!({"enabled": true})).await.is(200).json();
    assert_eq!(
        (&changed["job"]["kind"], &changed["job"]["state"]),
        (&json!("enable_document"), &json!("queued"))
    );
    assert!(found(&world, "alpha?").await.is_empty(), "not before its vectors are there");
    world.run_jobs().await;
    let job = world.get(READER, &format!("/api/v1/jobs/{}", changed["job"]["id"].as_str().unwrap())).await;
    assert_eq!((&job.json()["state"], &job.json()["document"]), (&json!("done"), &json!(id)));
    assert_eq!(found(&world, "alpha?").await, ["alpha words"]);
}

#[tokio::test]
async fn a_chunk_is_edited_switched_off_and_on() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "alpha words\n\nbeta words").await;
    let chunks = world.get(READER, &format!("{KB}/documents/{id}/chunks")).await.is(200).json();
    let path = |chunk: &Value| format!("{KB}/chunks/{}", chunk["id"].as_str().unwrap());
    let first = path(&chunks["chunks"][0]);
    let off = world.json("PATCH", EDITOR, &first, json!({"enabled": false})).await.is(200).json();
    assert_eq!((&off["disabled"], &off["edited"]), (&json!(true), &json!(false)));
    assert_eq!(found(&world, "words?").await, ["beta words"]);
    let on = json!({"enabled": true, "text": "gamma 词语"});
    let on = world.json("PATCH", EDITOR, &first, on).await.is(200).json();
    assert_eq!((&on["disabled"], &on["edited"], &on["ordinal"]), (&json!(false), &json!(true), &json!(0)));
    assert_eq!(found(&world, "gamma").await, ["gamma 词语"]);
    world.get(READER, &first).await.is(404);
    assert_eq!(world.get(READER, &path(&on)).await.is(200).json()["text"], "gamma 词语");
    // The quoted place is the whole chunk, since the new words stand nowhere in the document.
    let said = world.post(READER, &format!("{KB}/ask"), json!({"question": "gamma?"})).await.is(200).json();
    let cited = &said["citations"][0];
    assert_eq!((&cited["start"], &cited["end"]), (&on["start"], &on["end"]));
    world.json("PATCH", EDITOR, &path(&on), json!({"text": "  "})).await.is(400);
    world.json("PATCH", EDITOR, &path(&on), json!({"text": "x".repeat(16_385)})).await.is(400);
}

#[tokio::test]
async fn many_documents_change_in_one_request_and_tags_find_them() {
    let world = World::new().await;
    let a = world.ingest("initial", "a.md", "alpha").await;
    let b = world.ingest("initial", "乙.md", "beta").await;
    let tags = json!({"metadata": [{"key": "tag", "value": "合同"}]});
    let changed =
        world.json("PATCH", EDITOR, &format!("{KB}/documents/{b}"), tags.clone()).await.is(200).json();
    assert_eq!(changed["document"]["metadata"], tags["metadata"]);
    let listed =
        world.get(READER, &format!("{KB}/documents?tag=tag:%E5%90%88%E5%90%8C")).await.is(200).json();
    assert_eq!(
        (listed["documents"].as_array().unwrap().len(), &listed["documents"][0]["id"]),
        (1, &json!(b))
    );

    world.ingest("initial", "copy.md", "alpha").await;
    let twins = world.get(READER, &format!("{KB}/documents?duplicates=true")).await.is(200).json();
    let names = twins["documents"].as_array().unwrap().iter().map(|found| found["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), [json!("a.md"), json!("copy.md")]);
    world
        .delete(EDITOR, &format!("{KB}/documents/{}", twins["documents"][1]["id"].as_str().unwrap()))
        .await
        .is(204);

    let batch = json!({"action": "disable", "documents": [a, "nowhere", b]});
    let result = world.post(EDITOR, &format!("{KB}/documents/batch"), batch).await.is(200).json();
    assert_eq!(result["changed"], json!([a, b]));
    assert_eq!(result["failed"][0]["document"], "nowhere");
    let batch = json!({"action": "enable", "documents": [b]});
    let result = world.post(EDITOR, &format!("{KB}/documents/batch"), batch).await.is(200).json();
    assert_eq!(result["jobs"].as_array().unwrap().len(), 1);
    let batch = json!({"action": "delete", "documents": [a, b]});
    world.post(EDITOR, &format!("{KB}/documents/batch"), batch).await.is(200);
    assert_eq!(world.get(READER, &format!("{KB}/documents")).await.json()["documents"], json!([]));
}

#[tokio::test]
async fn jobs_wait_go_first_and_say_when_they_are_tried_again() {
    let world = World::new().await;
    for name in ["one.md", "two.md"] {
        let text = json!({"name": name, "text": "words"});
        world.post(EDITOR, &format!("{KB}/texts"), text).await.is(202);
    }
    let job = |id: &str| format!("/api/v1/jobs/{id}");
    let change = |path: String, method: &'static str, body: Value| {
        let world = &world;
        async move { world.json(method, EDITOR, &path, body).await.is(200).json() }
    };
    let paused = change(job("job0000") + "/pause", "POST", json!({})).await;
    assert_eq!(paused["state"], "paused");
    let changed = change(job("job0001"), "PATCH", json!({"priority": 5})).await;
    assert_eq!(changed["priority"], 5);
    world.run_jobs().await;
    let listed = world.get(READER, "/api/v1/jobs?state=paused").await.is(200).json();
    assert_eq!((listed["jobs"].as_array().unwrap().len(), &listed["jobs"][0]["id"]), (1, &json!("job0000")));
    assert_eq!(change(job("job0000") + "/resume", "POST", json!({})).await["state"], "queued");
    world.run_jobs().await;
    assert_eq!(world.get(READER, &job("job0000")).await.json()["state"], "done");
    let ended =
        world.send(json_request("POST", EDITOR, &(job("job0000") + "/pause"), &json!({}))).await.is(409);
    assert_eq!(ended.code(), "conflict");
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_later_and_a_lasting_one_is_not() {
    let world = World::new().await;
    world
        .post(EDITOR, &format!("{KB}/texts"), json!({"name": "a.md", "text": "OFFLINE words"}))
        .await
        .is(202);
    let lasting = json!({"name": "b.pdf", "text": "words", "media_type": "application/pdf"});
    world.post(EDITOR, &format!("{KB}/texts"), lasting).await.is(202);
    assert!(rag_core::jobs::run_next(&world.rag).await.unwrap());
    let job = world.get(READER, "/api/v1/jobs/job0000").await.json();
    assert_eq!(
        (&job["state"], &job["attempts"], &job["attempts_max"]),
        (&json!("queued"), &json!(1), &json!(5))
    );
    assert!(job["error"].as_str().unwrap().contains("offline") && job["next_try_ms"].is_i64(), "{job}");
    // Whoever cannot wait runs out of tries.
    for _ in 0..5 {
        rag_core::jobs::run_next(&world.rag).await.unwrap();
    }
    let job = world.get(READER, "/api/v1/jobs/job0000").await.json();
    assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(4)));
    let lasting = world.get(READER, "/api/v1/jobs/job0001").await.json();
    assert_eq!((&lasting["state"], &lasting["attempts"]), (&json!("failed"), &json!(0)));
    assert!(lasting["error"].as_str().unwrap().contains("application/pdf"), "{lasting}");
}

#[tokio::test]
async fn a_question_set_is_tried_in_the_background_and_exported() {
    let world = World::new().await;
    world.ingest("initial", "a.md", "alpha words").await;
    world.ingest("initial", "b.md", "beta words").await;
    let sets = format!("{KB}/question-sets");
    let jsonl = "{\"question\": \"alpha?\", \"documents\": [\"a.md\"]}\n\n{\"question\": \"beta?\", \"texts\": [\"没有\"]}\n";
    let made = world.post(EDITOR, &sets, json!({"name": "基本", "jsonl": jsonl})).await.is(201).json();
    assert_eq!(made["questions"], 2);
    let set = format!("{sets}/{}", made["id"].as_str().unwrap());
    let run = json!({"label": "dense", "k": 3, "rerank": false, "retriever": {"id": "retrieve-dense"}});
    let run = world.post(EDITOR, &format!("{set}/runs"), run).await.is(202).json();
    assert_eq!(run["scores"], json!(null));
    world.run_jobs().await;
    let detail =
        world.get(READER, &format!("{set}/runs/{}", run["id"].as_str().unwrap())).await.is(200).json();
    let scores = &detail["run"]["scores"];
    assert_eq!(
        (&scores["questions"], &scores["mrr"], &scores["ndcg"]),
        (&json!(2), &json!(0.5), &json!(0.5))
    );
    assert_eq!(scores["hit_at"], json!([{"k": 1, "share": 0.5}, {"k": 3, "share": 0.5}]));
    assert_eq!((&detail["outcomes"][0]["rank"], &detail["outcomes"][1]["rank"]), (&json!(1), &json!(null)));
    let exported = world.get(READER, &format!("{set}/export")).await.is(200);
    assert!(exported.header("content-disposition").starts_with("attachment"));
    let lines: Vec<Value> = exported.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({"question": "alpha?", "documents": ["a.md"]}),
            json!({"question": "beta?", "texts": ["没有"]})
        ]
    );
    world.get(READER, &set.replace("initial", "other")).await.is(404);
    let bad = world.post(EDITOR, &sets, json!({"name": "x", "jsonl": "{\"question\": 1}"})).await.is(400);
    assert!(bad.text().contains("line 1"));
    world
        .post(EDITOR, &format!("{set}/runs"), json!({"retriever": {"id": "retrieve-missing"}}))
        .await
        .is(404);
    world.delete(EDITOR, &set).await.is(204);
    world.get(READER, &set).await.is(404);
}

#[tokio::test]
async fn a_large_upload_goes_on_where_it_broke_off() {
    let world = World::new().await;
    let begin = json!({"name": "大.md", "size": 10});
    let upload = world.post(EDITOR, &format!("{KB}/uploads"), begin).await.is(201).json();
    let path = format!("{KB}/uploads/{}", upload["id"].as_str().unwrap());
    let send = |offset: u64, bytes: &'static str| {
        let request = request("PATCH", EDITOR, &format!("{path}?offset={offset}")).body(Body::from(bytes));
        world.send(request.unwrap())
    };
    assert_eq!(send(0, "alpha").await.is(200).json()["offset"], 5);
    send(0, "alpha").await.is(409);
    world.get(ADMIN, &path).await.is(404);
    assert_eq!(world.get(EDITOR, &path).await.is(200).json()["offset"], 5);
    send(5, "too many bytes").await.is(400);
    let done = send(5, " word").await.is(200).json();
    assert_eq!((&done["offset"], &done["job"]["name"]), (&json!(10), &json!("大.md")));
    world.run_jobs().await;
    assert_eq!(found(&world, "alpha").await, ["alpha word"]);
    world.get(EDITOR, &path).await.is(404);

    let begin = json!({"name": "b.md", "size": 10});
    let upload = world.post(EDITOR, &format!("{KB}/uploads"), begin).await.is(201).json();
    assert_eq!(world.fake.writers.load(std::sync::atomic::Ordering::SeqCst), 1);
    world.delete(EDITOR, &format!("{KB}/uploads/{}", upload["id"].as_str().unwrap())).await.is(204);
    assert_eq!(world.fake.writers.load(std::sync::atomic::Ordering::SeqCst), 0);
    world.post(EDITOR, &format!("{KB}/uploads"), json!({"name": "c.md", "size": u64::MAX})).await.is(413);
}

/// What a sync of `papers` tells, with every job that it queued done.
async fn synced(world: &World, flags: Value) -> Value {
    let mut body = json!({"path": "papers/"});
    body.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
    let mut told = world.post(EDITOR, &format!("{KB}/paths"), body).await.is(202).json();
    let jobs = told["jobs"].as_array().unwrap().iter().map(|job| job["name"].clone()).collect();
    told["jobs"] = Value::Array(jobs);
    world.run_jobs().await;
    told
}

async fn names(world: &World) -> Vec<String> {
    let listed = world.get(EDITOR, &format!("{KB}/documents")).await.is(200).json();
    let documents = listed["documents"].as_array().unwrap().iter();
    documents.map(|document| document["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn folders_of_the_server_are_kept_in_step_under_their_roots_only() {
    let world = World::new().await;
    let put = |name: &str, text: &str| {
        world.fake.kept().files.insert(format!("papers/{name}"), text.to_owned());
    };
    world.post(EDITOR, &format!("{KB}/paths"), json!({"path": "papers"})).await.is(400);
    put("一.md", "灯塔每十二秒闪一次。");
    put("two.md", "A knot that never slips.");
    let roots = world.get(EDITOR, "/api/v1/folders").await.is(200).json();
    assert_eq!(roots["entries"], json!([{"path": "papers", "folder": true, "size": 0}]));
    world.post(EDITOR, &format!("{KB}/paths"), json!({"path": "/etc/passwd"})).await.is(403);

    let both = json!(["papers/two.md", "papers/一.md"]);
    let told = synced(&world, json!({"dry_run": true})).await;
    assert_eq!((&told["added"], &told["jobs"]), (&both, &json!([])), "{told}");
    assert_eq!((names(&world).await.len(), world.fake.kept().blobs.len()), (0, 0), "a dry run keeps nothing");
    let told = synced(&world, json!({})).await;
    assert_eq!((&told["added"], &told["jobs"]), (&both, &both), "{told}");
    let embedded = world.fake.kept().embedded;
    assert!(embedded > 0);

    // The same folder twice: no job, no embedding.
    let told = synced(&world, json!({"delete_missing": true})).await;
    assert_eq!(
        (&told["unchanged"], &told["jobs"], &told["vanished"]),
        (&json!(2), &json!([]), &json!([])),
        "{told}"
    );
    assert_eq!(world.fake.kept().embedded, embedded);

    // Changed, new and gone; what somebody uploaded under such a name stays.
    world.ingest("initial", "papers/mine.md", "uploaded by hand").await;
    world.ingest("initial", "papers2/一.md", "another folder").await;
    put("一.md", "灯塔每十五秒闪一次。");
    put("三.md", "新的文件。");
    world.fake.kept().files.remove("papers/two.md");
    let told = synced(&world, json!({"delete_missing": true, "dry_run": true})).await;
    let said = |told: &Value| [&told["added"], &told["changed"], &told["vanished"]].map(Value::to_string);
    let expected = [r#"["papers/三.md"]"#, r#"["papers/一.md"]"#, r#"["papers/two.md"]"#];
    assert_eq!((said(&told), &told["deleted"]), (expected.map(str::to_owned), &json!(false)));
    assert_eq!(names(&world).await.len(), 4, "a dry run deletes nothing");
    let told = synced(&world, json!({})).await;
    assert_eq!((said(&told), &told["deleted"]), (expected.map(str::to_owned), &json!(false)));
    assert_eq!(names(&world).await.len(), 5, "nothing goes unless that was asked for");
    let told = synced(&world, json!({"delete_missing": true})).await;
    assert_eq!((&told["vanished"], &told["deleted"]), (&json!(["papers/two.md"]), &json!(true)), "{told}");
    assert_eq!(names(&world).await, ["papers/mine.md", "papers/一.md", "papers/三.md", "papers2/一.md"]);
    assert_eq!(found(&world, "十五").await, ["灯塔每十五秒闪一次。"]);
}

#[tokio::test]
async fn what_lay_in_an_archive_stays_as_long_as_the_archive() {
    let world = World::new().await;
    world.fake.kept().files.insert("papers/a.md".to_owned(), "alpha".to_owned());
    world.fake.kept().files.insert("papers/b.zip".to_owned(), "not one, but called so".to_owned());
    let inner = format!("{KB}/documents?name=papers%2Fb.zip%2Finner.md&folder=server%3Apapers");
    world.send(request("POST", EDITOR, &inner).body(Body::from("inner")).unwrap()).await.is(202);
    world.run_jobs().await;
    let told = synced(&world, json!({"delete_missing": true})).await;
    assert_eq!((&told["archives"], &told["vanished"]), (&json!(["papers/b.zip"]), &json!([])), "{told}");
    world.fake.kept().files.remove("papers/b.zip");
    let told = synced(&world, json!({"delete_missing": true})).await;
    assert!(told["vanished"].as_array().unwrap().contains(&json!("papers/b.zip/inner.md")), "{told}");
}

#[tokio::test]
async fn the_floor_of_relevance_goes_back_to_the_default() {
    let world = World::new().await;
    let change = async |answer: Value| {
        let got = world.json("PATCH", ADMIN, KB, json!({"answer": answer})).await.is(200).json();
        got["settings"]["answer"]["relevance_min"].clone()
    };
    assert_eq!(change(json!({"relevance_min": 0.5})).await, json!(0.5));
    assert_eq!(change(json!({"passages": 2})).await, json!(0.5));
    assert_eq!(change(json!({"relevance_min": null})).await, json!(null));
}

#[tokio::test]
async fn encoder_and_reranker_are_named_changed_and_given_up() {
    let world = World::new().await;
    let models = |kb: &Value| (kb["settings"]["encoder"].clone(), kb["settings"]["reranker"].clone());
    let settings = json!({"encoder": "bge-m3", "reranker": "重排"});
    let new = json!({"name": "little", "settings": settings});
    let created = world.post(ADMIN, "/api/v1/kbs", new).await.is(201).json();
    assert_eq!(models(&created), (json!("bge-m3"), json!("重排")));
    for wrong in [json!({"encoder": "missing"}), json!({"reranker": "missing"})] {
        let refused = world.json("PATCH", ADMIN, KB, wrong.clone()).await.is(404).json();
        assert!(refused["error"]["message"].as_str().unwrap().contains("missing"), "{refused}");
        let new = json!({"name": "other_one", "settings": wrong});
        world.post(ADMIN, "/api/v1/kbs", new).await.is(404);
    }

    let swap = format!("{KB}/plugins/swap");
    let live = world.post(ADMIN, &swap, json!({"encoder": "bge-m3", "publish": true})).await.is(202).json();
    assert_eq!((&live["state"], &live["encoder"]), (&json!("live"), &json!("bge-m3")), "{live}");
    let bound = world.get(READER, &format!("{KB}/plugins")).await.is(200).json();
    assert_eq!(bound["encoder"], "bge-m3");
    world.post(ADMIN, &swap, json!({"encoder": "bge-m3"})).await.is(409);
    let changed = world.json("PATCH", ADMIN, KB, json!({"reranker": "重排"})).await.is(200).json();
    assert_eq!(models(&changed), (json!("bge-m3"), json!("重排")), "what is left out stays");
    world.json("PATCH", ADMIN, KB, json!({"encoder": null, "reranker": null})).await.is(200);
    let last = world.get(READER, KB).await.is(200).json();
    assert_eq!(models(&last), (json!(null), json!(null)));
}

#[tokio::test]
async fn an_original_is_served_so_that_nothing_of_it_runs() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "<script>alert(1)</script>").await;
    let got = world.get(READER, &format!("{KB}/documents/{id}/original")).await.is(200);
    assert_eq!(got.header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert!(got.header("content-disposition").starts_with("attachment"));
}

#[tokio::test]
async fn a_cancelled_enabling_leaves_the_document_disabled() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "alpha words").await;
    let path = format!("{KB}/documents/{id}");
    world.json("PATCH", EDITOR, &path, json!({"enabled": false})).await.is(200);
    let job =
        world.json("PATCH", EDITOR, &path, json!({"enabled": true})).await.is(200).json()["job"].clone();
    assert_eq!(job["priority"], 10, "somebody waits for it");
    let cancel = format!("/api/v1/jobs/{}/cancel", job["id"].as_str().unwrap());
    world.post(EDITOR, &cancel, json!({})).await.is(200);
    world.run_jobs().await;
    assert_eq!(world.get(READER, &path).await.json()["disabled"], true);
    assert!(found(&world, "alpha?").await.is_empty());
}
