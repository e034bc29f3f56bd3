//! Users: create, list, lock out, delete; passwords come from the standard input.

use std::io::BufRead as _;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{cell, escape, list};
use crate::cli::User;
use crate::client::Client;
use crate::output;

pub(crate) async fn run(client: &Client, command: User, json: bool) -> Result<()> {
    let users = match command {
        User::List => list(&client.get("/api/v1/users").await?, "users").to_vec(),
        User::Create { name, role, kb } => {
            let mut new = json!({"name": name, "role": role.name(), "password": password()?});
            if !kb.is_empty() {
                new["kbs"] = json!(kb);
            }
            vec![client.post("/api/v1/users", &new).await?]
        }
        User::Password { name } => change(client, &name, json!({"password": password()?})).await?,
        User::Disable { name } => change(client, &name, json!({"disabled": true})).await?,
        User::Enable { name } => change(client, &name, json!({"disabled": false})).await?,
        User::Delete { name } => {
            client.delete(&path(client, &name).await?).await?;
            if json {
                output::json(&json!({"deleted": name}));
            } else {
                output::line(format_args!("{name} is deleted"));
            }
            return Ok(());
        }
    };
    if json {
        output::json(&json!({"users": users}));
        return Ok(());
    }
    let row = |user: &Value| {
        let state = if user["disabled"] == true { "disabled" } else { "" };
        let mut cells = ["id", "name", "role", "kbs"].map(|field| cell(&user[field])).to_vec();
        cells.push(state.to_owned());
        cells
    };
    let rows: Vec<Vec<String>> = users.iter().map(row).collect();
    output::table(&["id", "name", "role", "knowledge bases", ""], &rows);
    Ok(())
}

async fn change(client: &Client, name: &str, change: Value) -> Result<Vec<Value>> {
    Ok(vec![client.patch(&path(client, name).await?, &change).await?])
}

/// People know names, the API ids.
async fn path(client: &Client, name: &str) -> Result<String> {
    let answer = client.get("/api/v1/users").await?;
    let known = |user: &&Value| user["name"] == name || user["id"] == name;
    match list(&answer, "users").iter().find(known) {
        Some(user) => Ok(format!("/api/v1/users/{}", escape(&cell(&user["id"])))),
        None => bail!("there is no user '{}'", name.escape_debug()),
    }
}

/// Not an argument: other people on the machine see those.
fn password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the standard input cannot be read")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("give the password as the first line of the standard input");
    }
    Ok(password.to_owned())
}
