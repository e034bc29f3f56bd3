//! A chunker that does what its settings name: `{"do": "loop"}`.

wit_bindgen::generate!({ path: "../../../wit", world: "chunker-plugin", generate_all });

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use exports::ragkit::plugin::{chunker, info};
use ragkit::host::{config, embed, log, tokens};
use ragkit::types::types::{Error, ErrorCode, Span};

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl chunker::Guest for Hostile {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
        let end = document.text.len() as u32;
        let settings = config::settings();
        match settings.split('"').nth(3).unwrap_or("good") {
            "good" => Ok(vec![chunk(0, end)]),

            // Processor time.
            "loop" => loop {
                black_box(());
            },
            "loop-in-the-allocator" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![0_u8; 1]));
                    kept.clear();
                }
            }
            "fill-memory-for-ever" => {
                let mut block = vec![0_u8; 64 << 20];
                loop {
                    block.fill(black_box(1));
                    black_box(&block);
                }
            }
            "cheap-host-calls-for-ever" => loop {
                black_box(tokens::limit());
            },
            // Waits.
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(3_600));
                Ok(vec![chunk(0, end)])
            }
            "wait-for-the-host" => {
                embed::embed(&["hang".to_owned()], embed::Purpose::Passage)?;
                Ok(vec![chunk(0, end)])
            }

            // Memory and stack.
            "grow" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "grow-at-once" => Ok(vec![chunk(0, black_box(vec![0_u8; 1 << 30]).len() as u32)]),
            "recurse" => Ok(vec![chunk(0, recurse(end) as u32)]),
            "recurse-in-registers" => Ok(vec![chunk(0, recurse_in_registers(end))]),

            // Ends.
            "trap" => core::arch::wasm32::unreachable(),
            "trap-on-pirates" if document.text.contains("pirate") => core::arch::wasm32::unreachable(),
            "trap-on-pirates" => Ok(vec![chunk(0, end)]),
            "panic" => panic!("知识库 is full of eels"),
            "exit" => std::process::exit(3),
            "abort" => std::process::abort(),

            // Output.
            "cut-a-character" => Ok(vec![chunk(0, 1), chunk(1, end)]),
            "out-of-bounds" => Ok(vec![chunk(0, end + 1)]),
            "huge-offsets" => Ok(vec![chunk(u32::MAX - 1, u32::MAX)]),
            "reversed" => Ok(vec![chunk(end, 0)]),
            "unsorted" => Ok(vec![chunk(3, end), chunk(0, end)]),
            "gap" => Ok(vec![chunk(0, 3)]),
            "nothing" => Ok(Vec::new()),
            "blank" => Ok(vec![chunk(0, end), chunk(end - 1, end)]),
            "parent-loop" => Ok(vec![
                chunker::Chunk { parent: Some(1), ..chunk(0, end) },
                chunker::Chunk { parent: Some(0), ..chunk(0, end) },
            ]),
            "many-chunks" => Ok(vec![chunk(0, end); 100_000]),
            "more-chunks-than-cross" => Ok(vec![chunk(0, end); 2_000_000]),
            "long-context" => {
                Ok(vec![chunker::Chunk { context: Some("x".repeat(1 << 20)), ..chunk(0, end) }])
            }
            "not-utf-8" => {
                // The only way to make the wrong bytes cross is to make a wrong string.
                let text = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe, 0xfd]) };
                Ok(vec![chunker::Chunk { context: Some(text), ..chunk(0, end) }])
            }

            // Errors.
            "error" => Err(error(ErrorCode::InvalidInput, "size must be positive".to_owned())),
            "ugly-error" => Err(error(ErrorCode::Internal, "\u{1b}[31mred\u{7}\nsecond line".to_owned())),
            "long-error" => Err(error(ErrorCode::Internal, "错".repeat(1 << 20))),
            "error-of-100-mb" => Err(error(ErrorCode::Internal, "x".repeat(100 << 20))),
            "hand-on-the-hosts-error" => {
                embed::embed(&["fail".to_owned()], embed::Purpose::Passage)?;
                Ok(vec![chunk(0, end)])
            }

            // Host calls.
            "log-flood" => {
                for _ in 0..10_000_000 {
                    log::log(log::Level::Debug, "flood");
                }
                Ok(vec![chunk(0, end)])
            }
            "log-large" => {
                log::log(log::Level::Debug, &"x".repeat(1 << 20));
                log::log(log::Level::Debug, "\u{1b}[2J cleared");
                Ok(vec![chunk(0, end)])
            }
            "print-flood" => {
                for _ in 0..1_000 {
                    println!("{}", "x".repeat(1_000));
                    eprintln!("{}", "x".repeat(1_000));
                }
                Ok(vec![chunk(0, end)])
            }
            "call-flood" => {
                let mut refused = None;
                for _ in 0..10_000_000 {
                    if let Err(err) = tokens::count(&["x".to_owned()]) {
                        refused = Some(err);
                    }
                }
                Err(refused.unwrap_or_else(|| error(ErrorCode::Internal, "never refused".to_owned())))
            }
            "embed-too-many" => {
                embed::embed(&vec!["x".to_owned(); 100_000], embed::Purpose::Passage)?;
                Ok(vec![chunk(0, end)])
            }
            "panic-the-host" => {
                embed::embed(&["panic".to_owned()], embed::Purpose::Passage)?;
                Ok(vec![chunk(0, end)])
            }

            // What it can see.
            "look-around" => Err(error(ErrorCode::Internal, look_around())),
            "remember" => {
                static CALLS: AtomicU32 = AtomicU32::new(0);
                Err(error(ErrorCode::Internal, format!("call {}", CALLS.fetch_add(1, Relaxed))))
            }
            "count-tokens" => {
                let counts = tokens::count(&[document.text])?;
                let (limit, dim) = (tokens::limit(), embed::dim());
                Err(error(ErrorCode::Internal, format!("{counts:?} of {limit}, dim {dim}")))
            }
            unknown => Err(error(ErrorCode::Internal, format!("no behaviour '{unknown}'"))),
        }
    }
}

fn chunk(start: u32, end: u32) -> chunker::Chunk {
    chunker::Chunk { span: Span { start, end }, parent: None, context: None }
}

fn error(code: ErrorCode, message: String) -> Error {
    Error { code, message, retryable: false }
}

fn recurse(depth: u32) -> u64 {
    let page = black_box([depth; 64]);
    if black_box(false) {
        return 0;
    }
    recurse(depth.wrapping_add(1)) + u64::from(page[depth as usize % 64])
}

/// Needs no linear memory, so the engine's own stack ends first.
fn recurse_in_registers(depth: u32) -> u32 {
    static ENOUGH: AtomicBool = AtomicBool::new(false);
    if ENOUGH.load(Relaxed) {
        return depth;
    }
    recurse_in_registers(depth.wrapping_add(1)).rotate_left(depth) ^ depth
}

/// Environment, arguments, randomness: the same in every instance.
fn look_around() -> String {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(7_u32);
    format!(
        "{} variables, {} arguments, hash {hash}",
        std::env::vars_os().count(),
        std::env::args_os().count()
    )
}
