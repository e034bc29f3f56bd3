//! Documents: list and delete.

use anyhow::Result;
use serde_json::{Value, json};

use super::{cell, escape, list};
use crate::cli::Document;
use crate::client::Client;
use crate::output;

pub(crate) async fn run(client: &Client, command: Document, json: bool) -> Result<()> {
    match command {
        Document::List { kb } => {
            let answer = client.get(&format!("/api/v1/kbs/{}/documents?limit=1000", escape(&kb))).await?;
            if json {
                output::json(&answer);
                return Ok(());
            }
            let row = |document: &Value| {
                ["id", "name", "title", "chunks", "size"].map(|key| cell(&document[key])).to_vec()
            };
            let rows: Vec<_> = list(&answer, "documents").iter().map(row).collect();
            output::table(&["id", "name", "title", "chunks", "bytes"], &rows);
        }
        Document::Delete { kb, id } => {
            client.delete(&format!("/api/v1/kbs/{}/documents/{}", escape(&kb), escape(&id))).await?;
            if json {
                output::json(&json!({"deleted": id}));
            } else {
                output::line(format_args!("{id} is deleted"));
            }
        }
    }
    Ok(())
}
