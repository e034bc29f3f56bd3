//! Users, for administrators: list, create, change, delete; and the log of what everybody changed.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::kb::KbName;
use rag_core::ports::{AuditEntry, AuditQuery, Rights, Role, User, UserChange};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::kbs::given;
use super::keys::RoleName;
use crate::auth::{Caller, role_name};
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, InQuery, Json};
use crate::state::AppState;

/// Audit entries in one answer at most.
const AUDIT_LIST_MAX: u32 = 1_000;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    id: String,
    name: String,
    /// `reader`, `editor` or `admin`: in every knowledge base reached, unless `kb_roles` says otherwise.
    role: &'static str,
    /// The only knowledge bases reached beside those in `kb_roles`; none reaches all.
    kbs: Option<Vec<String>>,
    /// Roles in single knowledge bases.
    kb_roles: Vec<KbRole>,
    /// Cannot log in.
    disabled: bool,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

/// A role in one knowledge base.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KbRole {
    kb: String,
    role: RoleName,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserList {
    users: Vec<UserView>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// 1 to 100 characters; case does not tell users apart.
    name: String,
    /// 10 to 256 characters.
    password: String,
    role: RoleName,
    /// The only knowledge bases reached beside those in `kb_roles`; all when left out.
    kbs: Option<Vec<String>>,
    #[serde(default)]
    kb_roles: Vec<KbRole>,
}

/// What to change; what is left out stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeUser {
    role: Option<RoleName>,
    /// Null reaches all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    kbs: Option<Option<Vec<String>>>,
    kb_roles: Option<Vec<KbRole>>,
    /// Ends the user's sessions.
    disabled: Option<bool>,
    /// Ends the user's sessions.
    password: Option<String>,
}

/// A change, or an attempt at one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    id: u64,
    /// Milliseconds since 1970 (UTC).
    at_ms: i64,
    /// Id of the user or key; empty for a failed login.
    actor: String,
    actor_name: String,
    /// Method and route.
    action: String,
    target: String,
    /// HTTP status of the answer; 499 when the client left before it.
    status: u16,
    /// Address of the other end.
    peer: String,
    request_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// Newest first.
    entries: Vec<AuditView>,
    /// Give this as `before` for the next page; none on the last.
    before: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditListQuery {
    /// Only what this user or key did: an id.
    actor: Option<String>,
    /// Part of the path.
    target: Option<String>,
    /// Only entries older than this one.
    before: Option<u64>,
    /// At most this many, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

/// List the users.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", operation_id = "list_users",
    responses((status = 200, body = UserList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<UserList>> {
    caller.need_unscoped_admin()?;
    let users = state.rag.records.users().await?;
    Ok(Answer(UserList { users: users.into_iter().map(UserView::from).collect() }))
}

/// Create a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", operation_id = "create_user",
    request_body = NewUser,
    responses((status = 201, body = UserView), (status = "default", body = ErrorBody)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<NewUser>,
) -> ApiResult<(StatusCode, Answer<UserView>)> {
    caller.need_unscoped_admin()?;
    let rights = Rights { role: new.role.into(), kbs: names(new.kbs)?, of_kbs: kb_roles(new.kb_roles)? };
    let user = state.rag.records.create_user(&new.name, &new.password, &rights).await?;
    Ok((StatusCode::CREATED, Answer(user.into())))
}

/// Change a user's rights or password, or lock the user out.
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "users", operation_id = "change_user",
    params(("id" = String, Path,)), request_body = ChangeUser,
    responses((status = 200, body = UserView), (status = "default", body = ErrorBody)))]
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
    Json(change): Json<ChangeUser>,
) -> ApiResult<Answer<UserView>> {
    caller.need_unscoped_admin()?;
    let users = state.rag.records.users().await?;
    let held = users.into_iter().find(|user| user.id == id);
    let mut rights = held.ok_or_else(|| crate::error::ApiError::not_found("user", &id))?.rights;
    rights.role = change.role.map_or(rights.role, Role::from);
    if let Some(kbs) = change.kbs {
        rights.kbs = names(kbs)?;
    }
    if let Some(roles) = change.kb_roles {
        rights.of_kbs = kb_roles(roles)?;
    }
    let ends = change.password.is_some() || change.disabled == Some(true);
    let wanted = UserChange { rights: Some(rights), disabled: change.disabled, password: change.password };
    let user = state.rag.records.update_user(&id, &wanted).await?;
    if ends {
        state.sessions.close_all(&id, None);
    }
    Ok(Answer(user.into()))
}

/// Delete a user with all conversations; open sessions end at once.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users", operation_id = "delete_user",
    params(("id" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> ApiResult<StatusCode> {
    caller.need_unscoped_admin()?;
    state.rag.records.delete_user(&id).await?;
    state.sessions.close_all(&id, None);
    Ok(StatusCode::NO_CONTENT)
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "users", operation_id = "audit_log",
    params(AuditListQuery),
    responses((status = 200, body = AuditList), (status = "default", body = ErrorBody)))]
pub(crate) async fn audit(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<AuditListQuery>,
) -> ApiResult<Answer<AuditList>> {
    caller.need_unscoped_admin()?;
    let limit = query.limit.unwrap_or(100).clamp(1, AUDIT_LIST_MAX);
    let wanted = AuditQuery { actor: query.actor, target: query.target, before: query.before, limit };
    let found = state.rag.records.audit_log(&wanted).await?;
    let before = found.last().filter(|_| found.len() >= limit as usize).map(|(id, _)| *id);
    Ok(Answer(AuditList { entries: found.into_iter().map(AuditView::from).collect(), before }))
}

fn names(kbs: Option<Vec<String>>) -> ApiResult<Option<Vec<KbName>>> {
    let parsed = |kbs: Vec<String>| kbs.iter().map(|kb| KbName::parse(kb)).collect::<Result<_, _>>();
    Ok(kbs.map(parsed).transpose()?)
}

fn kb_roles(roles: Vec<KbRole>) -> ApiResult<Vec<(KbName, Role)>> {
    let parsed = roles.into_iter().map(|right| Ok((KbName::parse(&right.kb)?, right.role.into())));
    parsed.collect()
}

impl From<&(KbName, Role)> for KbRole {
    fn from((kb, role): &(KbName, Role)) -> Self {
        KbRole { kb: kb.as_str().to_owned(), role: (*role).into() }
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let rights = user.rights;
        UserView {
            id: user.id,
            name: user.name,
            role: role_name(rights.role),
            kbs: rights.kbs.map(|kbs| kbs.iter().map(|kb| kb.as_str().to_owned()).collect()),
            kb_roles: rights.of_kbs.iter().map(KbRole::from).collect(),
            disabled: user.disabled,
            created_ms: user.created_ms,
        }
    }
}

impl From<(u64, AuditEntry)> for AuditView {
    fn from((id, entry): (u64, AuditEntry)) -> Self {
        AuditView {
            id,
            at_ms: entry.at_ms,
            actor: entry.actor,
            actor_name: entry.actor_name,
            action: entry.action,
            target: entry.target,
            status: entry.status,
            peer: entry.peer,
            request_id: entry.request_id,
        }
    }
}
