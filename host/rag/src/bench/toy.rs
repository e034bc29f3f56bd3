//! Engines without weights, for benchmarks of everything else: letters are counted, and an answer is the first passage.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream;
use rag_core::Result;
use rag_core::document::Vectors;
use rag_core::ports::{
    Embed, Encoders, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, NoRegistry,
    Purpose, Rerank, Usage,
};

use crate::roles::Engines;

/// Numbers of a vector.
const DIM: usize = 64;

pub(super) fn engines() -> Engines {
    Engines {
        embedder: Arc::new(Toy),
        reranker: Arc::new(Toy),
        encoders: Arc::new(Toy),
        generator: Arc::new(Toy),
        models: Arc::new(NoRegistry),
    }
}

#[derive(Debug)]
pub(super) struct Toy;

#[async_trait]
impl Encoders for Toy {
    async fn encoder(&self, _: Option<&str>) -> Result<Arc<dyn Embed>> {
        Ok(Arc::new(Toy))
    }

    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>> {
        Ok((identity == Embed::identity(&Toy)).then(|| Arc::new(Toy) as Arc<dyn Embed>))
    }

    async fn reranker(&self, _: Option<&str>) -> Result<Arc<dyn Rerank>> {
        Ok(Arc::new(Toy))
    }
}

#[async_trait]
impl Embed for Toy {
    fn identity(&self) -> &str {
        "toy"
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn tokens_max(&self) -> usize {
        512
    }

    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| Generate::count_tokens(self, text)).collect()
    }

    async fn embed(&self, texts: Vec<String>, _: Purpose) -> Result<Vectors> {
        let mut data = Vec::with_capacity(texts.len() * DIM);
        for text in &texts {
            let mut row = [0.01_f32; DIM];
            for letter in text.chars() {
                if let Some(place) = row.get_mut(letter as usize % DIM) {
                    *place += 1.0;
                }
            }
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            data.extend(row.iter().map(|x| x / norm));
        }
        Ok(Vectors { dim: DIM, data })
    }
}

#[async_trait]
impl Rerank for Toy {
    fn identity(&self) -> &str {
        "toy"
    }

    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        let shared = |text: &String| query.chars().filter(|&letter| text.contains(letter)).count() as f32;
        Ok(passages.iter().map(shared).collect())
    }
}

#[async_trait]
impl Generate for Toy {
    fn identity(&self) -> String {
        "toy".to_owned()
    }

    fn demonstration(&self) -> bool {
        true
    }

    fn count_tokens(&self, text: &str) -> u32 {
        u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        let usage = Usage { prompt_tokens: Generate::count_tokens(self, &request.prompt), output_tokens: 1 };
        let text = request.prompt.chars().take(40).collect();
        let events = [
            Ok(GenerationEvent::Text(text)),
            Ok(GenerationEvent::Done { reason: FinishReason::Stop, usage }),
        ];
        Ok(Box::pin(stream::iter(events)))
    }
}
