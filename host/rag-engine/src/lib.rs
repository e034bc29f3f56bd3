//! Runs RWKV, embedding and rerank models on one device, batching what arrives together.
