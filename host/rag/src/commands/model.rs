//! Models: what is in use.

use super::cell;
use crate::client::Client;
use crate::output;
use anyhow::Result;

pub(crate) async fn list(client: &Client, json: bool) -> Result<()> {
    let answer = client.get("/api/v1/models").await?;
    if json {
        output::json(&answer);
        return Ok(());
    }
    let row = |role: &str| vec![role.to_owned(), cell(&answer[role]["id"])];
    output::table(&["role", "model"], &["generator", "embedder", "reranker"].map(row));
    Ok(())
}
