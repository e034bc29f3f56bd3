//! Every bound that holds whatever the configuration says, with its unit. Configurable limits live in `etc/rag.toml`.

/// Text of one section handed to a chunker, in bytes; larger documents are cut between blocks.
pub const SECTION_BYTES_MAX: usize = 1 << 20;
/// Text a parser is asked for in one `next`, in bytes.
pub const PARSE_BATCH_BYTES: u32 = 256 << 10;
/// Bytes of an original that is opened before it is its job's turn: what it takes in memory is beside the present one's.
pub const AHEAD_BYTES_MAX: u64 = 16 << 20;
/// Chunks of one section.
pub const SECTION_CHUNKS_MAX: usize = 20_000;
/// Texts embedded and rows written in one batch of an ingest.
pub const EMBED_BATCH: usize = 64;
/// Rows in one upsert or delete of a vector store.
pub const STORE_BATCH_MAX: usize = 512;
/// Hits that a search may ask for.
pub const SEARCH_K_MAX: u32 = 1_000;
/// Nodes and depth of a filter.
pub const FILTER_NODES_MAX: usize = 256;
/// See `FILTER_NODES_MAX`.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Characters of a question.
pub const QUESTION_CHARS_MAX: usize = 8_192;
/// Earlier rounds of a conversation that reach the retriever and the prompt, as RWKV-RAG documents it.
pub const HISTORY_ROUNDS: usize = 6;
/// Characters of a knowledge base's name (RWKV-RAG's rule).
pub const KB_NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=33;
/// Bytes of a document's name.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 512;
/// Rounds of one conversation, and conversations of one owner.
pub const CONVERSATION_ROUNDS_MAX: u64 = 10_000;
/// See `CONVERSATION_ROUNDS_MAX`.
pub const CONVERSATIONS_MAX: u64 = 10_000;
/// Tries of a job that fails for reasons that may pass.
pub const JOB_ATTEMPTS_MAX: u32 = 5;
/// Wait before the second try of such a job, in milliseconds; each further one waits four times as long.
pub const JOB_BACKOFF_MS: u64 = 5_000;
/// Priority of jobs that somebody waits for at the page.
pub const PRIORITY_SOON: i32 = 10;
/// Questions of one set, and things expected of one question.
pub const QUESTIONS_MAX: usize = 2_000;
/// See `QUESTIONS_MAX`.
pub const EXPECTED_MAX: usize = 64;
/// Hits that a run looks at for each question.
pub const RUN_K_MAX: u32 = 100;
/// Pairs of metadata of one document, and bytes of a key or value.
pub const METADATA_PAIRS_MAX: usize = 64;
/// See `METADATA_PAIRS_MAX`.
pub const METADATA_BYTES_MAX: usize = 512;
/// Links that a crawl follows one after the other, and pages that it saves.
pub const CRAWL_DEPTH_MAX: u32 = 5;
/// See `CRAWL_DEPTH_MAX`.
pub const CRAWL_PAGES_MAX: u32 = 1_000;
/// Files below a folder of the server that is brought in.
pub const FOLDER_FILES_MAX: u32 = 20_000;
/// Bytes of text shown of a page before it is ingested.
pub const PREVIEW_BYTES: usize = 16 << 10;
/// Archives within archives that are unpacked.
pub const ARCHIVE_DEPTH_MAX: usize = 4;
/// A file of an archive that is larger, in bytes, and expands more times than `ARCHIVE_RATIO_MAX` is a bomb.
pub const ARCHIVE_BOMB_BYTES: u64 = 8 << 20;
/// See `ARCHIVE_BOMB_BYTES`.
pub const ARCHIVE_RATIO_MAX: u64 = 150;
/// Bytes of an edited chunk.
pub const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Recent questions that a new generation is tried with, and passages of each.
pub const SHADOW_QUESTIONS: u32 = 20;
/// See `SHADOW_QUESTIONS`.
pub const SHADOW_HITS: u32 = 5;
/// Characters of a passage in a comparison.
pub const SHADOW_CHARS: usize = 160;
/// Time after its publication in which a failing plugin takes a generation back, in milliseconds.
pub const PROBATION_MS: u64 = 10 * 60 * 1000;
/// Questions or documents with which a new generation's plugin may fail within `STRIKE_WINDOW_MS`; one more is too many.
pub const STRIKES_MAX: usize = 2;
/// See `STRIKES_MAX`; in milliseconds.
pub const STRIKE_WINDOW_MS: u64 = 60_000;
/// Generations of a knowledge base that its history shows.
pub const GENERATIONS_SHOWN: u32 = 100;
/// Priority of a job that fills a second index: after everything that people wait for, whose jobs it has its turns between.
pub const PRIORITY_REINDEX: i32 = -10;
