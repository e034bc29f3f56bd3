//! A vector store: here over the vectors that the host keeps. Put the calls of a database in their place.

/// Rows of one upsert and ids of one delete.
pub const ROWS_MAX: usize = 512;

/// What is wrong with a batch of `ids`, `texts` and `fields` many, with `floats` numbers in rows of `dim`.
pub fn batch_fault(ids: usize, texts: usize, fields: usize, dim: usize, floats: usize) -> Option<String> {
    if ids > ROWS_MAX {
        return Some(format!("a batch has at most {ROWS_MAX} rows; this one has {ids}"));
    }
    let whole = dim > 0 && ids.checked_mul(dim) == Some(floats);
    (texts != ids || fields != ids || !whole).then(|| format!("the columns of {ids} rows differ in length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_must_agree() {
        assert_eq!(batch_fault(2, 2, 2, 3, 6), None);
        assert!(batch_fault(2, 2, 2, 3, 5).is_some_and(|fault| fault.contains("2 rows")));
        assert!(batch_fault(513, 513, 513, 1, 513).is_some_and(|fault| fault.contains("at most 512")));
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    wit_bindgen::generate!({ path: "wit", world: "vector-store-plugin", generate_all });

    use exports::ragkit::plugin::info;
    use exports::ragkit::plugin::vector_store::{Batch, Collection, Guest};
    use ragkit::host::{config, vector_index};
    use ragkit::types::types::{Error, ErrorCode, Filter, Hit, Metric, Vectors};

    struct Plugin;
    export!(Plugin);

    fn invalid(message: String) -> Error {
        Error { code: ErrorCode::InvalidInput, message, retryable: false }
    }

    fn no_settings() -> Result<(), Error> {
        let settings = config::settings();
        if settings.trim() == "{}" {
            return Ok(());
        }
        Err(invalid(format!("this vector store has no settings; it was given {settings}")))
    }

    impl info::Guest for Plugin {
        fn describe() -> info::Info {
            info::Info {
                id: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            }
        }
    }

    impl Guest for Plugin {
        fn create(collection: Collection) -> Result<(), Error> {
            no_settings()?;
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
            let (dim, floats) = (batch.vectors.dim as usize, batch.vectors.data.len());
            let (ids, texts, fields) = (batch.ids.len(), batch.texts.len(), batch.fields.len());
            if let Some(fault) = super::batch_fault(ids, texts, fields, dim, floats) {
                return Err(invalid(fault));
            }
            let rows = vector_index::Rows { ids: batch.ids, vectors: batch.vectors };
            vector_index::upsert(&name, &rows, &batch.fields)
        }

        fn delete(name: String, ids: Vec<String>) -> Result<(), Error> {
            if ids.len() > super::ROWS_MAX {
                return Err(invalid(format!("at most {} ids are deleted at once", super::ROWS_MAX)));
            }
            vector_index::delete(&name, &ids)
        }

        fn query(
            name: String,
            queries: Vectors,
            k: u32,
            filter: Option<Filter>,
        ) -> Result<Vec<Vec<Hit>>, Error> {
            vector_index::query(&name, &queries, k, filter.as_ref())
        }

        fn ping() -> Result<String, Error> {
            no_settings()?;
            Ok(format!("{} collections in the host's own vectors", vector_index::names()?.len()))
        }
    }

    /// Dimension and metric of a collection; none when it is dropped meanwhile. `create` does nothing for the shape that
    /// a collection has.
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
        Ok(None)
    }
}
