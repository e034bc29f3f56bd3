//! Says that it is something that cannot be an id.

wit_bindgen::generate!({ path: "../../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use ragkit::types::types::Error;

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: "../../etc/passwd".to_owned(),
            version: "latest".to_owned(),
            description: String::new(),
        }
    }
}

impl chunker::Guest for Hostile {
    fn split(_: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        Ok(Vec::new())
    }
}
