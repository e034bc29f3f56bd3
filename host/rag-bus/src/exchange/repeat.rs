//! Which requests may be done twice: when a worker dies, nobody knows how far it came.

use crate::envelope::{FLAG_LEGACY, FLAG_REPEATABLE};
use crate::wire::Request;

/// RWKV-RAG's commands whose repetition changes nothing; the others are answered with an error when a worker dies.
const REPEATABLE_COMMANDS: &[&str] = &[
    "LLM_CONFIG",
    "GET_EMBEDDINGS",
    "GET_CROSS_SCORES",
    "SAMPLING_GENERATE",
    "BEAM_GENERATE",
    "INDEX_TEXTS",
    "SHOW_COLLECTIONS",
    "CREATE_COLLECTION",
    "SEARCH_NEARBY",
    "HAS_COLLECTION",
    "INDEX_CONFIG",
    "TUNING_CONFIG",
    "TUNING_JOB",
    "MAKE_DATA",
    "WANDB",
    "WANDB_LIST_PROJECT",
];

/// Reads the body only of RWKV-RAG's messages, and only when a worker died.
pub(super) fn is_repeatable(flags: u8, body: &[u8]) -> bool {
    if flags & FLAG_LEGACY == 0 {
        return flags & FLAG_REPEATABLE != 0;
    }
    Request::decode(body).is_ok_and(|request| REPEATABLE_COMMANDS.contains(&request.cmd.as_str()))
}
