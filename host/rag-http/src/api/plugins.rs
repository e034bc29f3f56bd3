//! Plugins: what is installed, what each may reach, and the operator's grants.

use axum::Json as Answer;
use axum::extract::State;
use rag_core::ports::{HttpGrant, HttpMethod, PluginAsk, PluginGrants, PluginInfo, SqlGrant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// What a plugin asks for by importing an interface, as people read it.
const WORDS: [(&str, &str); 12] = [
    ("blob", "reads the document that it is given"),
    ("ocr", "has text in pictures recognised by this host"),
    ("tokens", "counts tokens as the embedding model does"),
    ("embed", "has texts embedded by the embedding model"),
    ("rerank", "has passages judged by the reranker"),
    ("generate", "has text written by the language model"),
    ("search", "searches its knowledge base"),
    ("kv", "keeps small notes of its own, 16 MiB a knowledge base"),
    ("vector-index", "keeps vectors in this host's own store"),
    ("http", "sends requests to the servers that you grant it"),
    ("sql", "uses the databases that you grant it"),
    ("log", "writes to the log"),
];

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginList {
    plugins: Vec<InstalledPlugin>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstalledPlugin {
    /// `parser`, `chunker`, `vector-store`, `retriever` or `connector`.
    kind: &'static str,
    id: String,
    version: String,
    description: String,
    /// SHA-256 of the component.
    digest: String,
    /// What it asks for, and whether it has it.
    rights: Vec<Right>,
    /// JSON Schema of its settings; none where its manifest has none.
    #[schema(value_type = Option<Object>)]
    settings_schema: Option<serde_json::Value>,
}

/// One thing that a plugin asks for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Right {
    /// The host interface, such as `http`.
    interface: String,
    /// In plain words.
    words: &'static str,
    /// Without a grant every call of it is refused.
    granted: bool,
    /// Servers or databases that it may reach.
    to: Vec<String>,
    /// Servers or databases that it asks for by name and is not granted.
    missing: Vec<String>,
}

/// What a plugin is granted. Values of headers and addresses of databases are never shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GrantsView {
    http: Vec<HttpGrantView>,
    sql: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HttpGrantView {
    /// Scheme, host and port.
    origin: String,
    /// What paths begin with; empty for any.
    path: String,
    /// Empty for all.
    methods: Vec<&'static str>,
    /// Whether the server may stand on this machine or in a private network.
    private: bool,
    /// Names of the headers that the host adds.
    headers: Vec<String>,
}

/// Grants beside those of the configuration; they replace those given before, and empty lists take them back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrants {
    #[serde(default)]
    http: Vec<NewHttpGrant>,
    #[serde(default)]
    sql: Vec<NewSqlGrant>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHttpGrant {
    /// `https://example.org`, `https://*.example.org` or `http://127.0.0.1:8000`.
    origin: String,
    /// What paths must begin with; any when left out.
    #[serde(default)]
    path: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`; all when left out.
    #[serde(default)]
    methods: Vec<String>,
    /// Whether the server may stand on this machine or in a private network.
    #[serde(default)]
    private: bool,
    /// Headers that the host adds, such as a key. Kept by the host and never shown again.
    #[serde(default)]
    headers: Vec<NewHeader>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHeader {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSqlGrant {
    /// How the plugin calls it.
    name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Kept by the host and never shown again.
    url: String,
}

/// Installed plugins with what each may reach, by id; of several versions the newest first.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", operation_id = "list_plugins",
    responses((status = 200, body = PluginList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, _caller: Caller) -> Answer<PluginList> {
    let installed = state.rag.bindings.installed().into_iter();
    let plugins = installed.map(|(kind, info)| InstalledPlugin::of(&state, kind, info));
    Answer(PluginList { plugins: plugins.collect() })
}

impl InstalledPlugin {
    pub(crate) fn of(state: &AppState, kind: &'static str, info: PluginInfo) -> Self {
        let schema = state.rag.bindings.settings_schema(&info.digest);
        InstalledPlugin {
            settings_schema: schema.and_then(|schema| serde_json::from_str(&schema).ok()),
            kind,
            rights: rights(state, &info.id),
            id: info.id,
            version: info.version,
            description: info.description,
            digest: info.digest,
        }
    }
}

/// What one plugin is granted, by the configuration and while running.
#[utoipa::path(get, path = "/api/v1/plugins/{id}/grants", tag = "plugins", operation_id = "get_grants",
    params(("id" = String, Path,)),
    responses((status = 200, body = GrantsView), (status = "default", body = ErrorBody)))]
pub(crate) async fn grants(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<Answer<GrantsView>> {
    caller.need_unscoped_admin()?;
    installed(&state, &id)?;
    Ok(Answer(state.rag.outside.grants.of(&id).into()))
}

/// Grant servers and databases to one plugin, beside those of the configuration.
#[utoipa::path(put, path = "/api/v1/plugins/{id}/grants", tag = "plugins", operation_id = "set_grants",
    params(("id" = String, Path,)), request_body = NewGrants,
    responses((status = 200, body = GrantsView), (status = "default", body = ErrorBody)))]
pub(crate) async fn grant(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    Json(new): Json<NewGrants>,
) -> ApiResult<Answer<GrantsView>> {
    caller.need_unscoped_admin()?;
    installed(&state, &id)?;
    let asks = state.rag.bindings.asks(&id);
    let servers = new.http.iter().map(|grant| ("http", grant.origin.as_str()));
    for (interface, name) in servers.chain(new.sql.iter().map(|grant| ("sql", grant.name.as_str()))) {
        let Some(ask) = asks.iter().find(|ask| ask.interface == interface) else {
            return Err(ApiError::invalid(format!("plugin '{id}' does not ask for {interface}")));
        };
        if !ask.covers(name) {
            let only = ask.only.join(", ");
            return Err(ApiError::invalid(format!("plugin '{id}' asks for {only} and not for {name}")));
        }
    }
    let http = new.http.into_iter().map(HttpGrant::try_from).collect::<ApiResult<Vec<_>>>()?;
    let sql = new.sql.into_iter().map(|grant| SqlGrant { name: grant.name, url: grant.url }).collect();
    state.rag.outside.grants.set(&id, PluginGrants { http, sql }).await?;
    Ok(Answer(state.rag.outside.grants.of(&id).into()))
}

fn installed(state: &AppState, id: &str) -> ApiResult<()> {
    match state.rag.bindings.installed().iter().any(|(_, info)| info.id == id) {
        true => Ok(()),
        false => Err(ApiError::not_found("plugin", id)),
    }
}

fn rights(state: &AppState, id: &str) -> Vec<Right> {
    let granted = state.rag.outside.grants.of(id);
    let shown = |ask: PluginAsk| {
        let (_, words) = WORDS.iter().find(|(name, _)| *name == ask.interface)?;
        let servers: Vec<(&str, String)> = match ask.interface.as_str() {
            "http" => {
                granted.http.iter().map(|g| (g.origin.as_str(), format!("{}{}", g.origin, g.path))).collect()
            }
            "sql" => granted.sql.iter().map(|g| (g.name.as_str(), g.name.clone())).collect(),
            _ => Vec::new(),
        };
        // What was granted and is not asked for has no effect.
        let reached: Vec<_> = servers.into_iter().filter(|(name, _)| ask.covers(name)).collect();
        let absent = |wanted: &&String| {
            let own = PluginAsk { interface: String::new(), only: vec![(*wanted).clone()] };
            !reached.iter().any(|(name, _)| own.covers(name))
        };
        let missing = ask.only.iter().filter(absent).cloned().collect();
        let to: Vec<String> = reached.into_iter().map(|(_, shown)| shown).collect();
        let granted = !matches!(ask.interface.as_str(), "http" | "sql") || !to.is_empty();
        Some(Right { interface: ask.interface, words, granted, to, missing })
    };
    state.rag.bindings.asks(id).into_iter().filter_map(shown).collect()
}

impl TryFrom<NewHttpGrant> for HttpGrant {
    type Error = ApiError;

    fn try_from(new: NewHttpGrant) -> ApiResult<Self> {
        let method = |name: String| {
            let found = HttpMethod::ALL.into_iter().find(|method| method.name() == name);
            found.ok_or_else(|| ApiError::invalid(format!("'{name}' is not a method that can be granted")))
        };
        Ok(HttpGrant {
            origin: new.origin,
            path: new.path,
            methods: new.methods.into_iter().map(method).collect::<ApiResult<_>>()?,
            private: new.private,
            headers: new.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        })
    }
}

impl From<PluginGrants> for GrantsView {
    fn from(grants: PluginGrants) -> Self {
        let http = |grant: HttpGrant| HttpGrantView {
            origin: grant.origin,
            path: grant.path,
            methods: grant.methods.into_iter().map(HttpMethod::name).collect(),
            private: grant.private,
            headers: grant.headers.into_iter().map(|(name, _)| name).collect(),
        };
        GrantsView {
            http: grants.http.into_iter().map(http).collect(),
            sql: grants.sql.into_iter().map(|grant| grant.name).collect(),
        }
    }
}
