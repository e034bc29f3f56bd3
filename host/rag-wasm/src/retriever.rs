//! A retriever: a few warm instances a knowledge base, because most of a call is waiting for models.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::ChunkId;
use rag_core::limits::SEARCH_K_MAX;
use rag_core::ports::{PluginInfo, Retrieve};
use rag_core::search::{Evidence, RankedChunk, Retrieval, RetrieveRequest, TraceStep};
use rag_core::{Error, Result};

use crate::bindings::retriever::RetrieverPlugin;
use crate::bindings::retriever::exports::ragkit::plugin::retriever as guest;
use crate::lanes::Lanes;
use crate::{check, convert};

/// `Retrieve` by a component.
pub(crate) struct WasmRetriever {
    pub(crate) lanes: Arc<Lanes<RetrieverPlugin>>,
}

#[async_trait]
impl Retrieve for WasmRetriever {
    fn info(&self) -> &PluginInfo {
        &self.lanes.plugin.info
    }

    async fn retrieve(&self, request: RetrieveRequest) -> Result<Retrieval> {
        let k = request.k;
        if !(1..=SEARCH_K_MAX).contains(&k) {
            return Err(Error::invalid(format!("{k} hits: ask for 1 to {SEARCH_K_MAX}")));
        }
        if let Some(filter) = &request.filter {
            check::filter(filter).map_err(Error::invalid)?;
        }
        let request = to_guest(request);
        self.lanes
            .call(
                move |world, store| {
                    Box::pin(
                        async move { world.ragkit_plugin_retriever().call_retrieve(store, &request).await },
                    )
                },
                move |outcome| {
                    let retrieval = from_guest(outcome);
                    check::retrieval(&retrieval, k)?;
                    Ok(retrieval)
                },
            )
            .await
    }
}

fn to_guest(request: RetrieveRequest) -> guest::Request {
    guest::Request {
        question: request.question,
        history: request
            .history
            .into_iter()
            .map(|turn| guest::Turn { question: turn.question, answer: turn.answer })
            .collect(),
        k: request.k,
        filter: request.filter.as_ref().map(convert::filter_to_guest),
    }
}

fn from_guest(outcome: guest::Outcome) -> Retrieval {
    let evidence = |e: guest::Evidence| Evidence { arm: e.arm, rank: e.rank, score: e.score };
    let ranked = |hit: guest::Ranked| RankedChunk {
        chunk: ChunkId(hit.chunk),
        score: hit.score,
        evidence: hit.evidence.into_iter().map(evidence).collect(),
    };
    let step = |step: guest::Step| TraceStep { name: step.name, detail: step.detail, millis: step.millis };
    Retrieval {
        hits: outcome.hits.into_iter().map(ranked).collect(),
        steps: outcome.steps.into_iter().map(step).collect(),
        rewritten: outcome.rewritten,
    }
}
