//! The exports of the component: each operation is one of the host's `vector-index`.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "vector-store-plugin", generate_all });

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::vector_store::{Batch, Collection, Guest};
use guest_settings::Settings;
use ragkit::host::{config, vector_index};
use ragkit::types::types::{Error, ErrorCode, Filter, Hit, Metric, Vectors};

use crate::batch::{self, Shape};

struct StoreLocal;
export!(StoreLocal);

impl info::Guest for StoreLocal {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for StoreLocal {
    fn create(collection: Collection) -> Result<(), Error> {
        Settings::parse(&config::settings(), &[]).map_err(invalid)?;
        vector_index::create(&collection.name, collection.dim, collection.metric)
    }

    fn drop(name: String) -> Result<(), Error> {
        vector_index::drop(&name)
    }

    fn list() -> Result<Vec<Collection>, Error> {
        let names = vector_index::names()?;
        names.into_iter().filter_map(|name| shape_of(name).transpose()).collect()
    }

    fn count(name: String) -> Result<u64, Error> {
        vector_index::count(&name)
    }

    fn upsert(name: String, batch: Batch) -> Result<(), Error> {
        batch::check(Shape {
            ids: batch.ids.len(),
            texts: batch.texts.len(),
            fields: batch.fields.len(),
            dim: batch.vectors.dim as usize,
            floats: batch.vectors.data.len(),
        })
        .map_err(invalid)?;
        // The host keeps the texts in its catalogue.
        let rows = vector_index::Rows { ids: batch.ids, vectors: batch.vectors };
        vector_index::upsert(&name, &rows, &batch.fields)
    }

    fn delete(name: String, ids: Vec<String>) -> Result<(), Error> {
        if ids.len() > batch::ROWS_MAX {
            return Err(invalid(format!(
                "at most {} ids are deleted at once, not {}",
                batch::ROWS_MAX,
                ids.len()
            )));
        }
        vector_index::delete(&name, &ids)
    }

    fn query(name: String, queries: Vectors, k: u32, filter: Option<Filter>) -> Result<Vec<Vec<Hit>>, Error> {
        vector_index::query(&name, &queries, k, filter.as_ref())
    }

    fn ping() -> Result<String, Error> {
        Settings::parse(&config::settings(), &[]).map_err(invalid)?;
        let collections = vector_index::names()?.len();
        Ok(format!(
            "the host's own vectors, {collections} collections, adapter {}",
            env!("CARGO_PKG_VERSION")
        ))
    }
}

/// Dimension and metric of a collection; none when it is dropped meanwhile. The host names its collections without
/// their shape, but `create` does nothing for the shape that a collection has and is a conflict for any other.
fn shape_of(name: String) -> Result<Option<Collection>, Error> {
    let dim = match vector_index::scan(&name, None, 1) {
        Ok(rows) => rows.vectors.dim,
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        match vector_index::create(&name, dim, metric) {
            Ok(()) => return Ok(Some(Collection { name, dim, metric })),
            Err(error) if error.code == ErrorCode::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error {
        code: ErrorCode::Internal,
        message: format!("collection '{name}' has a shape that the host does not tell"),
        retryable: false,
    })
}

fn invalid(message: String) -> Error {
    Error { code: ErrorCode::InvalidInput, message, retryable: false }
}
