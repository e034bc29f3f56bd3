//! A chunker that also takes and gives bytes, numbers and texts: `rwkv-rag bench plugin` measures the border with it.

wit_bindgen::generate!({
    inline: r#"
        package ragkit:bench@0.1.0;
        interface data {
            nothing: func();
            log: func(times: u32);
            take-bytes: func(bytes: list<u8>);
            give-bytes: func(count: u32) -> list<u8>;
            take-flat: func(numbers: list<f32>);
            take-nested: func(vectors: list<list<f32>>);
            give-spans: func(text: string, size: u32) -> list<tuple<u32, u32>>;
            give-copies: func(text: string, size: u32) -> list<string>;
        }
        world bench {
            include ragkit:plugin/chunker-plugin@0.1.0;
            export data;
        }
    "#,
    path: "../../../wit",
    world: "ragkit:bench/bench",
    generate_all,
});

use std::hint::black_box;

use exports::ragkit::bench::data;
use exports::ragkit::plugin::{chunker, info};
use ragkit::host::{config, log};
use ragkit::types::types::{Error, Span};

struct Bench;
export!(Bench);

impl info::Guest for Bench {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl chunker::Guest for Bench {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        if config::settings().contains("loop") {
            loop {
                black_box(());
            }
        }
        let end = document.text.len() as u32;
        Ok(vec![chunker::Chunk { span: Span { start: 0, end }, parent: None, context: None }])
    }
}

impl data::Guest for Bench {
    fn nothing() {}

    fn log(times: u32) {
        for _ in 0..times {
            log::log(log::Level::Trace, "");
        }
    }

    fn take_bytes(bytes: Vec<u8>) {
        black_box(bytes);
    }

    fn give_bytes(count: u32) -> Vec<u8> {
        vec![0; count as usize]
    }

    fn take_flat(numbers: Vec<f32>) {
        black_box(numbers);
    }

    fn take_nested(vectors: Vec<Vec<f32>>) {
        black_box(vectors);
    }

    fn give_spans(text: String, size: u32) -> Vec<(u32, u32)> {
        spans(&text, size as usize).map(|(start, end)| (start as u32, end as u32)).collect()
    }

    fn give_copies(text: String, size: u32) -> Vec<String> {
        spans(&text, size as usize).map(|(start, end)| text[start..end].to_owned()).collect()
    }
}

/// Pieces of about a size, on character boundaries.
fn spans(text: &str, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == text.len() {
            return None;
        }
        let end = text.ceil_char_boundary((start + size.max(1)).min(text.len()));
        let span = (start, end);
        start = end;
        Some(span)
    })
}
