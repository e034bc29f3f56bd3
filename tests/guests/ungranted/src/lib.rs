//! Imports the file system.

wit_bindgen::generate!({ path: "../../../wit", world: "chunker-plugin", generate_all });

use exports::ragkit::plugin::{chunker, info};
use ragkit::types::types::Error;

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        let description = format!("{:?}", std::fs::read_to_string("/etc/passwd"));
        info::Info { id: "hostile-ungranted".to_owned(), version: "0.1.0".to_owned(), description }
    }
}

impl chunker::Guest for Hostile {
    fn split(_: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        Ok(Vec::new())
    }
}
