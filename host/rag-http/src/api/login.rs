//! Login of the page: a key, or a user's name and password, opens a session, kept in a cookie that scripts cannot read.

use std::time::{Duration, Instant};

use axum::Json as Answer;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::{HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use rag_core::ports::{AuditEntry, Principal, UserChange};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::users::KbRole;
use crate::audit;
use crate::auth::{self, Caller, check_same_origin, peer_of, role_name, session_token};
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::Json;
use crate::frame::RequestId;
use crate::session::{COOKIE, Tried};
use crate::state::AppState;

/// How long a browser keeps the cookie; the session itself ends when it is not used.
const COOKIE_SECONDS: u64 = 30 * 24 * 3_600;
/// A name may fail so many times as often as an address before it is braked: behind one name stands one person, but
/// anybody can type it.
const NAME_FAILURES_FACTOR: u32 = 3;

/// Either a key, or a name with its password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    key: Option<String>,
    name: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    old: String,
    /// 10 to 256 characters.
    new: String,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Who {
    /// Of the user or key.
    id: String,
    name: String,
    /// A user with a password, not a key.
    user: bool,
    /// `reader`, `editor` or `admin`.
    role: &'static str,
    /// The only knowledge bases reached beside those in `kb_roles`; none reaches all.
    kbs: Option<Vec<String>>,
    /// Roles in single knowledge bases, instead of `role`.
    kb_roles: Vec<KbRole>,
    /// With a cookie: what every change must send as the header `x-csrf-token`.
    csrf: Option<String>,
}

/// Log in: the answer sets a cookie.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", operation_id = "login", request_body = Login,
    security(()), responses((status = 200, body = Who), (status = "default", body = ErrorBody)))]
pub(crate) async fn login(
    State(state): State<AppState>,
    request: Request,
) -> ApiResult<([(HeaderName, HeaderValue); 1], Answer<Who>)> {
    let now = Instant::now();
    let mut entry = entry(&request);
    // Another site must not log a browser in under its own key; programs send neither header.
    let told = ["sec-fetch-site", "origin"].iter().any(|name| request.headers().contains_key(*name));
    if told {
        check_same_origin(request.method(), request.headers())?;
    }
    let peer = peer_of(request.extensions());
    brake(&state, &Tried::Address(peer), 1, now)?;
    let Json(login) = Json::<Login>::from_request(request, &state).await?;
    let result = match (login.key, login.name, login.password) {
        (Some(key), None, None) => auth::verify(&state, key.trim(), peer).await,
        (None, Some(name), Some(password)) => by_password(&state, &name, &password, peer, &mut entry).await,
        _ => return Err(ApiError::invalid("log in with a key, or with a name and a password")),
    };
    entry.status = result.as_ref().map_or_else(|error| error.status.as_u16(), |_| 200);
    if let Ok(principal) = &result {
        (entry.actor, entry.actor_name) = (principal.key_id.clone(), principal.name.clone());
    }
    audit::write(&state, &entry).await;

    let principal = result?;
    let lasts = Duration::from_secs(state.settings.session_minutes * 60);
    let opened = state.sessions.open(&principal.key_id, lasts, now).map_err(|error| {
        tracing::error!(%error, "the system gives no randomness");
        ApiError::internal()
    })?;
    let cookie = set_cookie(&state, &opened.token, COOKIE_SECONDS);
    Ok(([(SET_COOKIE, cookie)], Answer(Who::of(&principal, Some(opened.csrf)))))
}

/// The same words whether the name or the password is wrong.
async fn by_password(
    state: &AppState,
    name: &str,
    password: &str,
    peer: std::net::IpAddr,
    entry: &mut AuditEntry,
) -> ApiResult<Principal> {
    let now = Instant::now();
    let known: String = name.trim().to_lowercase().chars().take(100).collect();
    entry.actor_name.clone_from(&known);
    let tried = Tried::Name(known);
    brake(state, &tried, NAME_FAILURES_FACTOR, now)?;
    if let Some(principal) = state.rag.records.check_password(name, password).await? {
        return Ok(principal);
    }
    state.attempts.failed(tried, now);
    state.attempts.failed(Tried::Address(peer), now);
    Err(ApiError::unauthenticated("the name or the password is wrong"))
}

fn brake(state: &AppState, tried: &Tried, factor: u32, now: Instant) -> ApiResult<()> {
    let max = state.settings.login_failures_max.saturating_mul(factor);
    match state.attempts.wait_s(tried, max, now) {
        None => Ok(()),
        Some(wait_s) => Err(ApiError::too_many("too many failed logins; wait and try again", wait_s)),
    }
}

/// Who is logged in.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", operation_id = "who_am_i",
    responses((status = 200, body = Who), (status = "default", body = ErrorBody)))]
pub(crate) async fn who(State(state): State<AppState>, caller: Caller, headers: HeaderMap) -> Answer<Who> {
    let session = session_token(&headers).and_then(|token| state.sessions.find(token, Instant::now()));
    let own = session.filter(|(id, _)| *id == caller.principal.key_id);
    Answer(Who::of(&caller.principal, own.map(|(_, csrf)| csrf)))
}

/// Log out.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", operation_id = "logout",
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn logout(
    State(state): State<AppState>,
    _caller: Caller,
    headers: HeaderMap,
) -> (StatusCode, [(HeaderName, HeaderValue); 1]) {
    if let Some(token) = session_token(&headers) {
        state.sessions.close(token);
    }
    (StatusCode::NO_CONTENT, [(SET_COOKIE, set_cookie(&state, "", 0))])
}

/// Change one's own password; other sessions end.
#[utoipa::path(put, path = "/api/v1/session/password", tag = "session", operation_id = "change_password",
    request_body = NewPassword,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn password(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Json(change): Json<NewPassword>,
) -> ApiResult<StatusCode> {
    let principal = &caller.principal;
    if state.rag.records.user_principal(&principal.key_id).await?.is_none() {
        return Err(ApiError::invalid("a key has no password; log in as a user"));
    }
    let (now, tried) = (Instant::now(), Tried::Name(principal.name.to_lowercase()));
    brake(&state, &tried, NAME_FAILURES_FACTOR, now)?;
    if state.rag.records.check_password(&principal.name, &change.old).await?.is_none() {
        state.attempts.failed(tried, now);
        return Err(ApiError::invalid("the old password is wrong"));
    }
    let wanted = UserChange { password: Some(change.new), ..UserChange::default() };
    state.rag.records.update_user(&principal.key_id, &wanted).await?;
    state.sessions.close_all(&principal.key_id, session_token(&headers));
    Ok(StatusCode::NO_CONTENT)
}

fn entry(request: &Request) -> AuditEntry {
    AuditEntry {
        at_ms: audit::now_ms(),
        actor: String::new(),
        actor_name: String::new(),
        action: "POST /api/v1/session".to_owned(),
        target: request.uri().path().to_owned(),
        status: 0,
        peer: peer_of(request.extensions()).to_string(),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
    }
}

/// The token is Base64 of our own making, so it fits a header.
fn set_cookie(state: &AppState, token: &str, seconds: u64) -> HeaderValue {
    let secure = if state.settings.cookie_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

impl Who {
    fn of(principal: &Principal, csrf: Option<String>) -> Self {
        let rights = &principal.rights;
        Who {
            id: principal.key_id.clone(),
            name: principal.name.clone(),
            user: principal.key_id.starts_with("user-"),
            role: role_name(rights.role),
            kbs: rights.kbs.as_ref().map(|kbs| kbs.iter().map(|kb| kb.as_str().to_owned()).collect()),
            kb_roles: rights.of_kbs.iter().map(KbRole::from).collect(),
            csrf,
        }
    }
}
