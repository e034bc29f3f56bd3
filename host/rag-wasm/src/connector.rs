//! A connector: a few warm instances an engine, because most of a call is waiting for servers.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::{Connect, Found, PluginInfo};
use rag_core::{Error, Result};

use crate::bindings::connector::ConnectorPlugin;
use crate::check;
use crate::lanes::Lanes;

/// Results of one search.
const RESULTS_MAX: u32 = 50;
/// Bytes of what is searched for.
const QUERY_BYTES_MAX: usize = 4 << 10;

/// `Connect` by a component.
pub(crate) struct WasmConnector {
    pub(crate) lanes: Arc<Lanes<ConnectorPlugin>>,
}

#[async_trait]
impl Connect for WasmConnector {
    fn info(&self) -> &PluginInfo {
        &self.lanes.plugin.info
    }

    async fn search(&self, query: &str, limit: u32) -> Result<Vec<Found>> {
        if !(1..=RESULTS_MAX).contains(&limit) {
            return Err(Error::invalid(format!("{limit} results: ask for 1 to {RESULTS_MAX}")));
        }
        if query.trim().is_empty() || query.len() > QUERY_BYTES_MAX {
            return Err(Error::invalid(format!("search for something of at most {QUERY_BYTES_MAX} bytes")));
        }
        let query = query.to_owned();
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(async move {
                        world.ragkit_plugin_connector().call_search(store, &query, limit).await
                    })
                },
                move |results| {
                    let found =
                        |result: crate::bindings::connector::exports::ragkit::plugin::connector::Found| {
                            Found { title: result.title, url: result.url, summary: result.summary }
                        };
                    let results: Vec<Found> = results.into_iter().map(found).collect();
                    check::found(&results, limit)?;
                    Ok(results)
                },
            )
            .await
    }
}
