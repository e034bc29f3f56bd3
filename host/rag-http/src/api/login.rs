//! Login of the page: a key opens a session, kept in a cookie that scripts cannot read.

use std::time::{Duration, Instant};

use axum::Json as Answer;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{self, Caller, check_same_origin, peer_of, role_name, session_token};
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::Json;
use crate::session::COOKIE;
use crate::state::AppState;

/// How long a browser keeps the cookie; the session itself ends when it is not used.
const COOKIE_SECONDS: u64 = 30 * 24 * 3_600;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    key: String,
}

/// Whose key it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Who {
    name: String,
    /// `reader`, `editor` or `admin`.
    role: &'static str,
    /// The only knowledge bases that the key reaches; none reaches all.
    kbs: Option<Vec<String>>,
}

/// Log in: the answer sets a cookie.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", operation_id = "login", request_body = Login,
    security(()), responses((status = 200, body = Who), (status = "default", body = ErrorBody)))]
pub(crate) async fn login(
    State(state): State<AppState>,
    request: Request,
) -> ApiResult<([(axum::http::HeaderName, HeaderValue); 1], Answer<Who>)> {
    let (peer, now) = (peer_of(request.extensions()), Instant::now());
    // Another site must not log a browser in under its own key; programs send neither header.
    let told = ["sec-fetch-site", "origin"].iter().any(|name| request.headers().contains_key(*name));
    if told {
        check_same_origin(request.method(), request.headers())?;
    }
    if let Some(wait_s) = state.attempts.wait_s(peer, state.settings.login_failures_max, now) {
        return Err(ApiError::too_many("too many failed logins from this address", wait_s));
    }
    let Json(login) = Json::<Login>::from_request(request, &state).await?;
    let principal = auth::verify(&state, login.key.trim(), peer).await?;
    let lasts = Duration::from_secs(state.settings.session_minutes * 60);
    let token = state.sessions.open(&principal.key_id, lasts, now).map_err(|error| {
        tracing::error!(%error, "the system gives no randomness");
        ApiError::internal()
    })?;
    let cookie = set_cookie(&state, &token, COOKIE_SECONDS);
    Ok(([(SET_COOKIE, cookie)], Answer(Who::of(&Caller { principal }))))
}

/// Whose key or session this is.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", operation_id = "who_am_i",
    responses((status = 200, body = Who), (status = "default", body = ErrorBody)))]
pub(crate) async fn who(caller: Caller) -> Answer<Who> {
    Answer(Who::of(&caller))
}

/// Log out.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", operation_id = "logout",
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn logout(
    State(state): State<AppState>,
    _caller: Caller,
    headers: HeaderMap,
) -> (StatusCode, [(axum::http::HeaderName, HeaderValue); 1]) {
    if let Some(token) = session_token(&headers) {
        state.sessions.close(token);
    }
    (StatusCode::NO_CONTENT, [(SET_COOKIE, set_cookie(&state, "", 0))])
}

/// The token is Base64 of our own making, so it fits a header.
fn set_cookie(state: &AppState, token: &str, seconds: u64) -> HeaderValue {
    let secure = if state.settings.cookie_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

impl Who {
    fn of(caller: &Caller) -> Self {
        let principal = &caller.principal;
        Who {
            name: principal.name.clone(),
            role: role_name(principal.role),
            kbs: principal.kbs.as_ref().map(|kbs| kbs.iter().map(|kb| kb.as_str().to_owned()).collect()),
        }
    }
}
