//! A vector store: one warm instance a knowledge base.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{ChunkId, Vectors};
use rag_core::error::{ErrorCode, PluginFault};
use rag_core::limits::STORE_BATCH_MAX;
use rag_core::ports::{PluginInfo, StoreBatch, VectorCollection, VectorStore};
use rag_core::search::{Filter, Hit};
use rag_core::{Error, Result};

use crate::bindings::vector_store::VectorStorePlugin;
use crate::bindings::vector_store::exports::ragkit::plugin::vector_store as guest;
use crate::check;
use crate::convert::{self, u32_of};
use crate::lanes::Lanes;

/// Collections that a store lists, and bytes of what it answers to a ping.
const COLLECTIONS_MAX: usize = 100_000;
const PING_BYTES_MAX: usize = 1 << 10;

/// `VectorStore` by a component.
pub(crate) struct WasmVectorStore {
    pub(crate) lanes: Arc<Lanes<VectorStorePlugin>>,
}

/// The guest knows which collection was asked for; the caller wants to as well.
fn not_found(name: &str) -> impl FnOnce(Error) -> Error {
    move |err| match err {
        Error::Plugin { fault: PluginFault::Guest(ErrorCode::NotFound), .. } => {
            Error::NotFound { what: "vector collection", name: name.to_owned() }
        }
        other => other,
    }
}

fn check_batch(rows: usize) -> Result<()> {
    if rows > STORE_BATCH_MAX {
        return Err(Error::invalid(format!("{rows} rows in one call, more than {STORE_BATCH_MAX}")));
    }
    Ok(())
}

#[async_trait]
impl VectorStore for WasmVectorStore {
    fn info(&self) -> &PluginInfo {
        &self.lanes.plugin.info
    }

    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        check::collection(collection).map_err(Error::invalid)?;
        let collection = guest::Collection {
            name: collection.name.clone(),
            dim: u32_of(collection.dim),
            metric: convert::metric_to_guest(collection.metric),
        };
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move {
                        world.ragkit_plugin_vector_store().call_create(store, &collection).await
                    })
                },
                Ok,
            )
            .await
    }

    async fn drop_collection(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move { world.ragkit_plugin_vector_store().call_drop(store, &name).await })
                },
                Ok,
            )
            .await
    }

    async fn list(&self) -> Result<Vec<VectorCollection>> {
        self.lanes
            .call(
                |world, store| {
                    Box::pin(async move { world.ragkit_plugin_vector_store().call_list(store).await })
                },
                |collections| {
                    if collections.len() > COLLECTIONS_MAX {
                        return Err(format!("more than {COLLECTIONS_MAX} collections"));
                    }
                    collections.into_iter().map(collection_from_guest).collect()
                },
            )
            .await
    }

    async fn count(&self, name: &str) -> Result<u64> {
        let asked = name.to_owned();
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(
                        async move { world.ragkit_plugin_vector_store().call_count(store, &asked).await },
                    )
                },
                Ok,
            )
            .await
            .map_err(not_found(name))
    }

    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()> {
        check_batch(batch.ids.len())?;
        check::vectors(&batch.vectors).map_err(Error::invalid)?;
        let rows = batch.ids.len();
        if [batch.vectors.rows(), batch.texts.len(), batch.fields.len()].iter().any(|other| *other != rows) {
            return Err(Error::invalid("ids, vectors, texts and fields differ in length"));
        }
        let (asked, batch) = (name.to_owned(), batch_to_guest(batch));
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move {
                        world.ragkit_plugin_vector_store().call_upsert(store, &asked, &batch).await
                    })
                },
                Ok,
            )
            .await
            .map_err(not_found(name))
    }

    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        check_batch(ids.len())?;
        let asked = name.to_owned();
        let ids: Vec<String> = ids.iter().map(|id| id.0.clone()).collect();
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move {
                        world.ragkit_plugin_vector_store().call_delete(store, &asked, &ids).await
                    })
                },
                Ok,
            )
            .await
            .map_err(not_found(name))
    }

    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        check::vectors(queries).map_err(Error::invalid)?;
        if let Some(filter) = filter {
            check::filter(filter).map_err(Error::invalid)?;
        }
        let (asked, rows) = (name.to_owned(), queries.rows());
        let (queries, filter) = (convert::vectors_to_guest(queries), filter.map(convert::filter_to_guest));
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move {
                        let guest = world.ragkit_plugin_vector_store();
                        guest.call_query(store, &asked, &queries, k, filter.as_ref()).await
                    })
                },
                move |lists| {
                    if lists.len() != rows {
                        return Err(format!("{} lists of hits for {rows} queries", lists.len()));
                    }
                    let lists: Vec<Vec<Hit>> = lists.into_iter().map(convert::hits_from_guest).collect();
                    lists.iter().try_for_each(|hits| check::hits(hits, k))?;
                    Ok(lists)
                },
            )
            .await
            .map_err(not_found(name))
    }

    async fn ping(&self) -> Result<String> {
        self.lanes
            .call(
                |world, store| {
                    Box::pin(async move { world.ragkit_plugin_vector_store().call_ping(store).await })
                },
                |answer| Ok(crate::sink::clean(&answer, PING_BYTES_MAX)),
            )
            .await
    }
}

fn collection_from_guest(collection: guest::Collection) -> Result<VectorCollection, String> {
    let collection = VectorCollection {
        name: collection.name,
        dim: collection.dim as usize,
        metric: convert::metric_from_guest(collection.metric),
    };
    check::collection(&collection)?;
    Ok(collection)
}

fn batch_to_guest(batch: StoreBatch) -> guest::Batch {
    guest::Batch {
        ids: batch.ids.into_iter().map(|id| id.0).collect(),
        vectors: convert::vectors_to_guest(&batch.vectors),
        texts: batch.texts,
        fields: convert::fields_to_guest(&batch.fields),
    }
}
