//! A chunker that does not export who it is.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package hostile:nameless;
        world nameless { export ragkit:plugin/chunker@0.1.0; }
    ",
    world: "hostile:nameless/nameless",
    generate_all,
});

use exports::ragkit::plugin::chunker;
use ragkit::types::types::Error;

struct Nameless;
export!(Nameless);

impl chunker::Guest for Nameless {
    fn split(_: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        Ok(Vec::new())
    }
}
