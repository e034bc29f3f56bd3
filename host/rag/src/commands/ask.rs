//! Questions: find passages, or have them answered while the answer is written.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{cell, escape, list};
use crate::cli::{Ask, Search};
use crate::client::Client;
use crate::output;

/// Characters of a passage that a list shows.
const SHOWN_CHARS: usize = 160;

pub(crate) async fn search(client: &Client, args: Search, json: bool) -> Result<()> {
    let mut request = json!({"question": args.question});
    if let Some(k) = args.k {
        request["k"] = json!(k);
    }
    let found = client.post(&format!("/api/v1/kbs/{}/search", escape(&args.kb)), &request).await?;
    if json {
        output::json(&found);
        return Ok(());
    }
    for hit in list(&found, "hits") {
        let arms = hit["arms"].as_object().into_iter().flatten();
        let arms: Vec<String> = arms.map(|(arm, seen)| format!("{arm} #{}", seen["rank"])).collect();
        let score = hit["score"].as_f64().unwrap_or_default();
        output::line(format_args!("{}. {} ({score:.3}; {})", hit["rank"], place(hit), arms.join(", ")));
        output::line(format_args!("   {}", shorten(&cell(&hit["text"]))));
    }
    if list(&found, "hits").is_empty() {
        output::note(format_args!("nothing found in {}", args.kb));
    }
    Ok(())
}

pub(crate) async fn ask(client: &Client, args: Ask, json: bool) -> Result<()> {
    let mut request = json!({"question": args.question});
    for (key, value) in [
        ("conversation", args.conversation.map(|id| json!(id))),
        ("temperature", args.temperature.map(|t| json!(t))),
        ("answer_tokens_max", args.max_tokens.map(|n| json!(n))),
    ] {
        if let Some(value) = value {
            request[key] = value;
        }
    }
    let path = format!("/api/v1/kbs/{}/ask", escape(&args.kb));
    if json {
        output::json(&client.post(&path, &request).await?);
        return Ok(());
    }
    let mut done = None;
    let mut failure = None;
    client
        .post_events(&path, &request)
        .await?
        .events(|name, data| {
            match name {
                "token" => output::piece(data["text"].as_str().unwrap_or_default()),
                "error" => failure = Some(cell(&data["error"]["message"])),
                "done" => done = Some(data),
                _ => {}
            }
            Ok(!matches!(name, "done" | "error"))
        })
        .await?;
    output::line(format_args!(""));
    if let Some(message) = failure {
        bail!("{message}");
    }
    let Some(done) = done else { bail!("the answer broke off: the host stopped or was restarted") };
    print_citations(&done);
    Ok(())
}

fn print_citations(done: &Value) {
    let citations = list(done, "citations");
    if !citations.is_empty() {
        output::line(format_args!(""));
    }
    for (at, citation) in citations.iter().enumerate() {
        let score = citation["score"].as_f64().unwrap_or_default();
        output::line(format_args!("[{}] {} ({score:.3})", at + 1, place(citation)));
        output::line(format_args!("    “{}”", shorten(&cell(&citation["quote"]))));
    }
    if done["demonstration"] == true && done["refused"] != true {
        output::note(format_args!(
            "note: a small demonstration model wrote this answer; trust the quoted passages"
        ));
    }
}

/// Document with its page or heading.
fn place(row: &Value) -> String {
    let document = cell(&row["document"]);
    match (&row["page"], &row["heading"]) {
        (Value::Number(page), _) => format!("{document}, p. {page}"),
        (_, Value::String(heading)) => format!("{document} › {heading}"),
        _ => document,
    }
}

fn shorten(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = flat.chars().take(SHOWN_CHARS).collect();
    if shown.len() < flat.len() {
        shown.push('…');
    }
    shown
}
