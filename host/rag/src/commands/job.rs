//! Jobs: list, show, steer, cancel, retry.

use anyhow::Result;
use serde_json::{Value, json};

use super::{cell, escape, list};
use crate::cli::Job;
use crate::client::Client;
use crate::output;

pub(crate) async fn run(client: &Client, command: Job, json: bool) -> Result<()> {
    let path = |id: &str| format!("/api/v1/jobs/{}", escape(id));
    let rows = match command {
        Job::List { kb } => {
            let query = kb.map(|kb| format!("?kb={}", escape(&kb))).unwrap_or_default();
            let answer = client.get(&format!("/api/v1/jobs{query}")).await?;
            if json {
                output::json(&answer);
                return Ok(());
            }
            list(&answer, "jobs").to_vec()
        }
        Job::Show { id } => vec![client.get(&path(&id)).await?],
        Job::Cancel { id } => vec![client.post(&format!("{}/cancel", path(&id)), &json!({})).await?],
        Job::Retry { id } => vec![client.post(&format!("{}/retry", path(&id)), &json!({})).await?],
        Job::Pause { id } => vec![client.post(&format!("{}/pause", path(&id)), &json!({})).await?],
        Job::Resume { id } => vec![client.post(&format!("{}/resume", path(&id)), &json!({})).await?],
        Job::Priority { id, priority } => {
            vec![client.patch(&path(&id), &json!({"priority": priority})).await?]
        }
    };
    if json {
        rows.iter().for_each(output::json);
        return Ok(());
    }
    let row = |job: &Value| {
        let percent = format!("{}%", job["percent"]);
        ["id", "kb", "kind", "name", "state"]
            .map(|key| cell(&job[key]))
            .into_iter()
            .chain([percent, cell(&job["error"])])
            .collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    output::table(&["id", "kb", "kind", "name", "state", "", "error"], &rows);
    Ok(())
}
