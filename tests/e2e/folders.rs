//! Folders kept in step with a knowledge base, by the command line and on the server.

use serde_json::json;

use crate::commands::told;
use crate::host::{Data, Host};

async fn names(host: &Host) -> Vec<String> {
    let listed = host.get("/api/v1/kbs/initial/documents?limit=1000").await;
    let documents = listed["documents"].as_array().unwrap().iter();
    documents.map(|document| document["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_kept_in_step_and_costs_nothing_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    fs_err::create_dir(folder.path().join("子")).unwrap();
    put("灯塔.md", "# 灯塔\n\n灯塔每十二秒闪一次。\n");
    put("子/knots.txt", "The bowline makes a loop that never slips.\n");
    put("tides.txt", "Spring tides follow the full moon.\n");
    let mut data = Data::new().set("DATA", "INGEST_ROOTS", json!([folder.path()]));
    let host = data.start();
    let path = folder.path().to_str().unwrap();
    let sync = ["ingest", "--sync", path];
    let plan = ["ingest", "--sync", "--dry-run", path];
    let first = told(&host, &plan);
    assert_eq!(first["folders"][0]["added"], json!(["tides.txt", "子/knots.txt", "灯塔.md"]), "{first}");
    assert_eq!(names(&host).await.len(), 0, "a dry run keeps nothing");
    told(&host, &sync);
    assert_eq!(names(&host).await, ["tides.txt", "子/knots.txt", "灯塔.md"]);

    // The same folder twice: no job, so no embedding; and nothing new when every file is sent again.
    let jobs = host.get("/api/v1/jobs?limit=1000").await["jobs"].as_array().unwrap().len();
    let again = told(&host, &sync);
    let row = &again["folders"][0];
    assert_eq!((&row["unchanged"], &row["jobs"]), (&json!(3), &json!([])), "{again}");
    assert_eq!(host.get("/api/v1/jobs?limit=1000").await["jobs"].as_array().unwrap().len(), jobs);
    let again = told(&host, &["ingest", path]);
    assert!(again["jobs"].as_array().unwrap().iter().all(|job| job["unchanged"] == true), "{again}");

    host.ingest("initial", "mine.txt", "Uploaded by hand, from nowhere.").await;
    put("灯塔.md", "# 灯塔\n\n灯塔每十五秒闪一次。\n");
    put("new.txt", "The harbour is twelve metres deep.\n");
    fs_err::remove_file(folder.path().join("子/knots.txt")).unwrap();
    let planned = told(&host, &plan);
    let row = &planned["folders"][0];
    assert_eq!(
        (&row["added"], &row["changed"], &row["vanished"]),
        (&json!(["new.txt"]), &json!(["灯塔.md"]), &json!(["子/knots.txt"])),
        "{planned}"
    );
    assert!(names(&host).await.contains(&"子/knots.txt".to_owned()), "a dry run deletes nothing");
    told(&host, &sync);
    assert_eq!(names(&host).await, ["mine.txt", "new.txt", "tides.txt", "灯塔.md"]);
    let found = host.post("/api/v1/kbs/initial/search", &json!({"question": "灯塔多久闪一次？"})).await;
    assert!(found.to_string().contains("十五秒") && !found.to_string().contains("十二秒"), "{found}");

    // The server's own folder, by its path there.
    let root = folder.path().file_name().unwrap().to_str().unwrap();
    let order = |delete: bool| json!({"path": root, "delete_missing": delete});
    let paths = "/api/v1/kbs/initial/paths";
    for job in host.post(paths, &order(false)).await["jobs"].as_array().unwrap() {
        host.follow(job).await;
    }
    assert_eq!(names(&host).await.len(), 7);
    fs_err::remove_file(folder.path().join("new.txt")).unwrap();
    let report = host.post(paths, &order(true)).await;
    assert_eq!((&report["unchanged"], &report["jobs"]), (&json!(2), &json!([])), "{report}");
    assert_eq!(
        (&report["vanished"], &report["deleted"]),
        (&json!([format!("{root}/new.txt")]), &json!(true))
    );
    assert!(names(&host).await.contains(&"new.txt".to_owned()), "that one came another way");
}
