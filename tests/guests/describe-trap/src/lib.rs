//! Traps when asked who it is.

wit_bindgen::generate!({ path: "../../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use ragkit::types::types::Error;

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        panic!("who is asking?")
    }
}

impl chunker::Guest for Hostile {
    fn split(_: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        Ok(Vec::new())
    }
}
