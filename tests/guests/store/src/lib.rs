//! A vector store over the host's own that does what its settings name: `{"do": "nan"}`.

wit_bindgen::generate!({ path: "../../../wit", world: "vector-store-plugin", generate_all });

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::vector_store::{self, Batch, Collection};
use ragkit::host::{config, http, kv, sql, vector_index};
use ragkit::types::types::{Error, ErrorCode, Filter, FilterNode, Hit, Metric, Vectors};

/// Calls of this instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

fn behaviour() -> String {
    config::settings().split('"').nth(3).unwrap_or("good").to_owned()
}

fn error(code: ErrorCode, message: &str) -> Error {
    Error { code, message: message.to_owned(), retryable: false }
}

impl vector_store::Guest for Hostile {
    fn create(collection: Collection) -> Result<(), Error> {
        vector_index::create(&collection.name, collection.dim, collection.metric)
    }

    fn drop(name: String) -> Result<(), Error> {
        vector_index::drop(&name)
    }

    fn list() -> Result<Vec<Collection>, Error> {
        match behaviour().as_str() {
            "nameless-collection" => {
                Ok(vec![Collection { name: String::new(), dim: 0, metric: Metric::Cosine }])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn count(name: String) -> Result<u64, Error> {
        vector_index::count(&name)
    }

    fn upsert(name: String, batch: Batch) -> Result<(), Error> {
        let mut data = batch.vectors.data;
        match behaviour().as_str() {
            "nan" => data[0] = f32::NAN,
            "ragged" => drop(data.pop()),
            "hang" => loop {
                black_box(&data);
            },
            _ => {}
        }
        let vectors = Vectors { dim: batch.vectors.dim, data };
        vector_index::upsert(&name, &vector_index::Rows { ids: batch.ids, vectors }, &batch.fields)
    }

    fn delete(name: String, ids: Vec<String>) -> Result<(), Error> {
        vector_index::delete(&name, &ids)
    }

    fn query(name: String, queries: Vectors, k: u32, filter: Option<Filter>) -> Result<Vec<Vec<Hit>>, Error> {
        let hit = |id: &str, score| Hit { chunk: id.to_owned(), score };
        match behaviour().as_str() {
            "nan-score" => Ok(vec![vec![hit("a", f32::NAN)]]),
            "more-than-k" => Ok(vec![vec![hit("a", 0.0); k as usize + 1]]),
            "worst-first" => Ok(vec![vec![hit("a", 0.1), hit("b", 0.9)]]),
            "twice" => Ok(vec![vec![hit("a", 0.9), hit("a", 0.9)]]),
            "list-too-many" => Ok(vec![Vec::new(); 2]),
            "long-id" => Ok(vec![vec![hit(&"x".repeat(10_000), 0.9)]]),
            "cyclic-filter" => {
                let filter = Filter { nodes: vec![FilterNode::AllOf(vec![0])] };
                vector_index::query(&name, &queries, k, Some(&filter))
            }
            "k-of-a-million" => vector_index::query(&name, &queries, 1_000_000, None),
            _ => vector_index::query(&name, &queries, k, filter.as_ref()),
        }
    }

    /// Says how often this instance was called.
    fn ping() -> Result<String, Error> {
        let calls = CALLS.fetch_add(1, Relaxed);
        match behaviour().as_str() {
            "trap-at-second-ping" if calls == 1 => core::arch::wasm32::unreachable(),
            "http" => {
                let url = "http://127.0.0.1/".to_owned();
                let request =
                    http::Request { method: http::Method::Get, url, headers: Vec::new(), body: None };
                http::fetch(&request).map(|_| "fetched".to_owned())
            }
            "sql" => sql::execute("main", "drop table users", &[]).map(|rows| rows.to_string()),
            "large-state" => kv::set("key", &vec![0; 1 << 20]).map(|()| "kept".to_owned()),
            "state" => {
                kv::set("key", b"value")?;
                let value = kv::get("key")?.ok_or_else(|| error(ErrorCode::Internal, "forgotten"))?;
                Ok(String::from_utf8_lossy(&value).into_owned())
            }
            "control-characters" => Ok("\u{1b}[31mred".to_owned()),
            _ => Ok(format!("call {calls}")),
        }
    }
}
