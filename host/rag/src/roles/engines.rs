//! Where embeddings, scores and answers come from: engines of this process, or an llm service elsewhere.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Result;
use rag_bus::calls::EncoderInfo;
use rag_bus::remote::{self, CountTokens, RemoteEmbed, RemoteEncoders, RemoteGenerate, RemoteRerank};
use rag_bus::{Client, ClientSettings};
use rag_core::ports::{Embed, Encoders, Generate, ModelRegistry, NoRegistry, Rerank};
use rag_engine::encoder::{CrossEncoder, Encoder, MaxSim};
use rag_engine::tokenizer::Tokenizer;

use crate::assemble;
use crate::config::Config;
use crate::models::{Pool, Registry, Start};

/// What the flows ask, wherever it runs.
#[derive(Clone)]
pub(crate) struct Engines {
    pub(crate) embedder: Arc<dyn Embed>,
    pub(crate) reranker: Arc<dyn Rerank>,
    /// Those that knowledge bases choose instead.
    pub(crate) encoders: Arc<dyn Encoders>,
    pub(crate) generator: Arc<dyn Generate>,
    pub(crate) models: Arc<dyn ModelRegistry>,
}

/// The engines of this process.
#[derive(Clone)]
pub(crate) struct LocalEngines {
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) reranker: Arc<dyn Rerank>,
    pub(crate) registry: Registry,
    pub(crate) pool: Pool,
}

impl LocalEngines {
    pub(crate) fn ports(&self) -> Engines {
        Engines {
            embedder: self.encoder.clone(),
            reranker: self.reranker.clone(),
            encoders: Arc::new(self.pool.clone()),
            generator: self.registry.switch(),
            models: Arc::new(self.registry.clone()),
        }
    }
}

/// Loads the chosen models, those of the configuration until somebody chose others.
pub(crate) fn load(config: &Config) -> Result<LocalEngines> {
    let mut start = Start::open(config)?;
    let encoder = match Encoder::load(&assemble::encoder_of(config, start.encoder.path.clone())?) {
        Ok(encoder) => encoder,
        Err(error) if !start.encoder.configured => {
            tracing::error!(model = start.encoder.name, %error, "the chosen encoder cannot be loaded; the configured one is used");
            Encoder::load(&assemble::encoder_config(config)?)?
        }
        Err(error) => return Err(error.into()),
    };
    let reranker = reranker(config, &mut start, &encoder)?;
    let registry = start.load(config)?;
    let pool = Pool::new(config, &registry, &encoder, &reranker);
    Ok(LocalEngines { reranker, encoder, registry, pool })
}

/// The chosen cross-encoder, else the encoder's token vectors.
fn reranker(config: &Config, start: &mut Start, encoder: &Arc<Encoder>) -> Result<Arc<dyn Rerank>> {
    let Some(known) = &start.reranker else { return Ok(Arc::new(MaxSim::new(encoder.clone()))) };
    match CrossEncoder::load(&assemble::encoder_of(config, known.path.clone())?) {
        Ok(reranker) => Ok(Arc::new(reranker)),
        Err(error) if !known.configured => {
            tracing::error!(model = known.name, %error, "the chosen reranker cannot be loaded; the encoder reranks");
            start.reranker = None;
            Ok(Arc::new(MaxSim::new(encoder.clone())))
        }
        Err(error) => Err(error.into()),
    }
}

/// As `load`, for those who need only the ports.
pub(crate) fn local(config: &Config) -> Result<Engines> {
    Ok(load(config)?.ports())
}

/// The llm service behind its proxy; waits until it is there. Tokens are counted here, with the vocabularies of the
/// configured models, so these files must be those of the service. With what asks it.
pub(crate) async fn remote(config: &Config) -> Result<(Engines, Client)> {
    const AGAIN: Duration = Duration::from_secs(1);
    let bus = &config.bus;
    let client = Client::start(ClientSettings {
        front: bus.ends("llm")?.0,
        security: bus.security()?,
        heartbeat: bus.heartbeat(),
        timeout: bus.request_timeout(),
    })?;
    let info = loop {
        match remote::info(&client).await {
            Ok(info) => break info,
            Err(error) => {
                tracing::info!(%error, front = %client.front(), "waiting for the llm service");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let pieces = rag_engine::encoder::load_tokenizer(&assemble::encoder_config(config)?.weights)?;
    let words = Tokenizer::load(&assemble::model_file(config, &config.models.vocabulary)?)?;
    let now = Arc::new(RwLock::new(info.clone()));
    tokio::spawn(remote::follow(client.clone(), Arc::downgrade(&now)));
    let count: CountTokens = Arc::new(move |text| pieces.encode(text).len() as u32);
    let for_all = EncoderInfo { identity: info.embedder, dim: info.dim, tokens_max: info.tokens_max };
    let embedder: Arc<dyn Embed> =
        Arc::new(RemoteEmbed { client: client.clone(), info: for_all, count: count.clone() });
    let reranker: Arc<dyn Rerank> =
        Arc::new(RemoteRerank { client: client.clone(), identity: info.reranker, name: None });
    let engines = Engines {
        encoders: Arc::new(RemoteEncoders::new(client.clone(), embedder.clone(), reranker.clone(), count)),
        embedder,
        reranker,
        generator: Arc::new(RemoteGenerate {
            client: client.clone(),
            info: now,
            count: Arc::new(move |text| words.count(text) as u32),
        }),
        models: Arc::new(NoRegistry),
    };
    Ok((engines, client))
}
