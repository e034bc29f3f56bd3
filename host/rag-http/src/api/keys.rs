//! Keys: administrators list, create and revoke them.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::kb::KbName;
use rag_core::ports::{Principal, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Caller, role_name};
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 100;

/// What a key may do; each role includes those before it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    /// Search and ask.
    Reader,
    /// Also ingest and delete documents.
    Editor,
    /// Also knowledge bases, plugins, models and keys.
    Admin,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    id: String,
    name: String,
    /// `reader`, `editor` or `admin`.
    role: &'static str,
    /// The only knowledge bases that it reaches; none reaches all.
    kbs: Option<Vec<String>>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    keys: Vec<KeyView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// For people, 1 to 100 characters.
    name: String,
    role: RoleName,
    /// The only knowledge bases that it may reach; all when left out.
    kbs: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key itself: shown this once and kept only as a hash.
    secret: String,
    key: KeyView,
}

/// List the keys.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, body = KeyList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<KeyList>> {
    caller.need_unscoped_admin()?;
    let keys = state.rag.keys.list().await?;
    Ok(Answer(KeyList { keys: keys.into_iter().map(KeyView::from).collect() }))
}

/// Create a key. The answer holds the secret, which is never shown again.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "create_key", request_body = NewKey,
    responses((status = 201, body = CreatedKey), (status = "default", body = ErrorBody)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<NewKey>,
) -> ApiResult<(StatusCode, Answer<CreatedKey>)> {
    caller.need_unscoped_admin()?;
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "a key's name has 1 to {NAME_CHARS_MAX} characters, none of them control characters"
        )));
    }
    let kbs: Option<Vec<KbName>> =
        new.kbs.map(|kbs| kbs.iter().map(|kb| KbName::parse(kb)).collect::<Result<_, _>>()).transpose()?;
    let (secret, principal) = state.rag.keys.create(name, new.role.into(), kbs.as_deref()).await?;
    Ok((StatusCode::CREATED, Answer(CreatedKey { secret, key: principal.into() })))
}

/// Revoke a key; requests and streams with it end at once.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<StatusCode> {
    caller.need_unscoped_admin()?;
    state.rag.keys.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Role::Reader,
            RoleName::Editor => Role::Editor,
            RoleName::Admin => Role::Admin,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Reader => RoleName::Reader,
            Role::Editor => RoleName::Editor,
            Role::Admin => RoleName::Admin,
        }
    }
}

impl From<Principal> for KeyView {
    fn from(principal: Principal) -> Self {
        let rights = principal.rights;
        let kbs = rights.kbs.map(|kbs| kbs.iter().map(|kb| kb.as_str().to_owned()).collect());
        KeyView {
            id: principal.key_id,
            name: principal.name,
            role: role_name(rights.role),
            kbs,
            created_ms: principal.created_ms,
        }
    }
}
