//! Training data: jsonl texts become a binidx data set.

use std::io::BufReader;

use anyhow::{Context, Result};
use rag_engine::tokenizer::Tokenizer;
use rag_tune::{Settings, make_data};
use serde_json::json;

use crate::assemble::model_file;
use crate::cli::Tune;
use crate::config::Config;
use crate::output;

pub(crate) fn run(config: &Config, command: Tune, json: bool) -> Result<()> {
    let Tune::Prepare { input, epochs, context, out, seed } = command;
    let tokenizer = Tokenizer::load(&model_file(config, &config.models.vocabulary)?)?;
    let source = BufReader::new(fs_err::File::open(&input)?);
    let settings = Settings { copies: epochs, context_tokens: u64::from(context), seed };
    let made = make_data(source, &|text| tokenizer.encode(text), &settings, &out)
        .with_context(|| input.display().to_string())?;
    if json {
        output::json(&json!({
            "documents": made.documents,
            "tokens": made.tokens,
            "magic_prime": made.magic_prime,
            "bin": made.bin,
            "idx": made.idx,
        }));
    } else {
        output::line(format_args!(
            "{} documents, {} tokens in {}",
            made.documents,
            made.tokens,
            made.bin.display()
        ));
        match made.magic_prime {
            Some(prime) => output::line(format_args!("magic prime {prime}")),
            None => {
                output::line(format_args!("too little text for a magic prime: train with --context smaller"))
            }
        }
    }
    Ok(())
}
