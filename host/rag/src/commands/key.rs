//! API keys: create, list, revoke.

use anyhow::Result;
use serde_json::{Value, json};

use super::{cell, escape, list};
use crate::cli::Key;
use crate::client::Client;
use crate::local::LOCAL_KEY_ID;
use crate::output;

pub(crate) async fn run(client: &Client, command: Key, json: bool) -> Result<()> {
    match command {
        Key::Create { name, role, kb } => {
            let mut new = json!({"name": name, "role": role.name()});
            if !kb.is_empty() {
                new["kbs"] = json!(kb);
            }
            let created = client.post("/api/v1/keys", &new).await?;
            if json {
                output::json(&created);
            } else {
                output::line(format_args!("{}", cell(&created["secret"])));
                output::note(format_args!("keep it: it is not shown again"));
            }
        }
        Key::List => {
            let answer = client.get("/api/v1/keys").await?;
            let keys: Vec<Value> =
                list(&answer, "keys").iter().filter(|key| key["id"] != LOCAL_KEY_ID).cloned().collect();
            if json {
                output::json(&json!({"keys": keys}));
                return Ok(());
            }
            let row = |key: &Value| ["id", "name", "role", "kbs"].map(|field| cell(&key[field])).to_vec();
            output::table(
                &["id", "name", "role", "knowledge bases"],
                &keys.iter().map(row).collect::<Vec<_>>(),
            );
        }
        Key::Revoke { id } => {
            client.delete(&format!("/api/v1/keys/{}", escape(&id))).await?;
            if json {
                output::json(&json!({"revoked": id}));
            } else {
                output::line(format_args!("{id} is revoked"));
            }
        }
    }
    Ok(())
}
