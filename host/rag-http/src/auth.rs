//! Who asks, and what they may do: a bearer key or the page's cookie becomes a `Caller`; handlers ask it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use rag_core::kb::KbName;
use rag_core::ports::{ConversationKey, Principal, Role};
use sha2::{Digest as _, Sha256};

use crate::audit::Audited;
use crate::error::{ApiError, ApiResult};
use crate::session::{self, Tried};
use crate::state::AppState;

/// Carries the session's token against forged requests.
const CSRF_HEADER: &str = "x-csrf-token";
/// Longest key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// Address of the other end, put into each request by `serve`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The checked holder of a key, or user.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
}

/// Lets only requests with a valid key or session through.
pub(crate) async fn require_key(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let principal = identify(&state, &parts).await?;
    let audited = Audited::begin(&state, &parts, &principal);
    parts.extensions.insert(Caller { principal });
    let response = next.run(Request::from_parts(parts, body)).await;
    if let Some(audited) = audited {
        audited.end(response.status()).await;
    }
    Ok(response)
}

async fn identify(state: &AppState, request: &Parts) -> ApiResult<Principal> {
    let headers = &request.headers;
    if let Some(header) = headers.get(AUTHORIZATION) {
        let key = header.to_str().ok().and_then(bearer).ok_or_else(|| {
            ApiError::unauthenticated("the Authorization header is not of the form 'Bearer KEY'")
        })?;
        return verify(state, key, peer_of(&request.extensions)).await;
    }
    let Some(token) = session_token(headers) else {
        return Err(ApiError::unauthenticated(
            "this needs a key: send 'Authorization: Bearer KEY', or log in on the page",
        ));
    };
    check_same_origin(&request.method, headers)?;
    let ended = || ApiError::unauthenticated("this login has ended; log in again");
    let (id, csrf) = state.sessions.find(token, Instant::now()).ok_or_else(ended)?;
    check_csrf(&request.method, headers, &csrf)?;
    still_valid(state, &id).await?.ok_or_else(ended)
}

/// Beside its origin, a change with a cookie shows that its sender can read our answers: another site cannot.
fn check_csrf(method: &Method, headers: &HeaderMap, csrf: &str) -> ApiResult<()> {
    let sent = headers.get(CSRF_HEADER).map_or(&b""[..], |value| value.as_bytes());
    if method.is_safe() || Sha256::digest(sent) == Sha256::digest(csrf.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::denied(
        "with a cookie, changes need the header x-csrf-token with the value that GET /api/v1/session tells; reload the page",
    ))
}

/// Checks a key. Guessing is braked by address; a right key is never braked, so that a guesser behind the same
/// proxy locks nobody out.
pub(crate) async fn verify(state: &AppState, key: &str, peer: IpAddr) -> ApiResult<Principal> {
    if key.len() <= KEY_BYTES_MAX
        && let Some(principal) = state.rag.keys.verify(key).await?
    {
        return Ok(principal);
    }
    let now = Instant::now();
    let tried = Tried::Address(peer);
    if let Some(wait_s) = state.attempts.wait_s(&tried, state.settings.login_failures_max, now) {
        return Err(ApiError::too_many("too many failed logins from this address", wait_s));
    }
    state.attempts.failed(tried, now);
    Err(ApiError::unauthenticated("the key is unknown or was revoked"))
}

/// The principal of a key or user, none once it was revoked or disabled: asked again while a long answer streams.
pub(crate) async fn still_valid(state: &AppState, id: &str) -> ApiResult<Option<Principal>> {
    if let Some(user) = state.rag.records.user_principal(id).await? {
        return Ok(Some(user));
    }
    Ok(state.rag.keys.list().await?.into_iter().find(|principal| principal.key_id == id))
}

/// A cookie travels with requests that another site makes, so with a cookie anything that changes state must come
/// from our own page. Browsers say so themselves; what says nothing is refused.
pub(crate) fn check_same_origin(method: &Method, headers: &HeaderMap) -> ApiResult<()> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            named
                .is_some_and(|named| text(HOST.as_str()).is_some_and(|host| host.eq_ignore_ascii_case(named)))
        }
        (None, None) => false,
    };
    if own {
        Ok(())
    } else {
        Err(ApiError::denied("with a cookie, changes are accepted from this server's own page only"))
    }
}

pub(crate) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    cookies
        .flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == session::COOKIE)
        .map(|(_, token)| token)
}

/// In a test without a socket there is no peer: then all share one address.
pub(crate) fn peer_of(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty()).then(|| key.trim())
}

impl Caller {
    /// Refuses a role below the one needed, for what belongs to no knowledge base.
    pub(crate) fn need(&self, role: Role) -> ApiResult<()> {
        Self::enough(self.principal.rights.role, role)
    }

    fn enough(has: Role, needed: Role) -> ApiResult<()> {
        if has >= needed {
            return Ok(());
        }
        let (has, needed) = (role_name(has), role_name(needed));
        Err(ApiError::denied(format!("this needs the role '{needed}'; you have '{has}'")))
    }

    /// Refuses a knowledge base out of reach in the same words whether it exists or not.
    pub(crate) fn kb(&self, role: Role, name: &str) -> ApiResult<KbName> {
        let name = KbName::parse(name)?;
        match self.principal.rights.in_kb(&name) {
            Some(has) => Self::enough(has, role).map(|()| name),
            None => Err(ApiError::denied(format!("you do not reach the knowledge base '{name}'"))),
        }
    }

    /// Refuses who has this role nowhere.
    pub(crate) fn need_anywhere(&self, role: Role) -> ApiResult<()> {
        let rights = &self.principal.rights;
        let highest = rights.of_kbs.iter().map(|(_, role)| *role).fold(rights.role, Role::max);
        Self::enough(highest, role)
    }

    /// An administrator without scope: for what concerns all knowledge bases, or could widen a scope.
    pub(crate) fn need_unscoped_admin(&self) -> ApiResult<()> {
        self.need(Role::Admin)?;
        match self.principal.rights.kbs {
            None => Ok(()),
            Some(_) => Err(ApiError::denied("this needs an administrator without a list of knowledge bases")),
        }
    }

    pub(crate) fn reaches(&self, kb: &KbName) -> bool {
        self.principal.rights.in_kb(kb).is_some()
    }

    /// Every knowledge base that is reached; none when all are.
    pub(crate) fn reached(&self) -> Option<Vec<KbName>> {
        let rights = &self.principal.rights;
        let mut kbs = rights.kbs.clone()?;
        kbs.extend(rights.of_kbs.iter().map(|(kb, _)| kb.clone()));
        kbs.sort();
        kbs.dedup();
        Some(kbs)
    }

    /// Whose prompts are kept apart from everybody else's.
    pub(crate) fn tenant(&self) -> String {
        self.principal.key_id.clone()
    }

    /// A conversation: two callers, or two knowledge bases, never share one.
    pub(crate) fn conversation(&self, kb: &KbName, id: &str) -> ApiResult<ConversationKey> {
        let fits = (1..=64).contains(&id.len());
        if !fits || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(ApiError::invalid(
                "a conversation's id is 1 to 64 ASCII letters, digits, '-' and '_'",
            ));
        }
        let owner = self.principal.key_id.clone();
        Ok(ConversationKey { owner, kb: kb.clone(), id: id.to_owned() })
    }
}

pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Reader => "reader",
        Role::Editor => "editor",
        Role::Admin => "admin",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // A handler outside `require_key` finds nobody here and refuses.
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| ApiError::unauthenticated("this needs a key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, headers: &[(&'static str, &'static str)], want: bool) {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(check_same_origin(method, &headers).is_ok(), want, "{headers:?}");
    }

    #[test]
    fn only_our_own_page_changes_things_by_cookie() {
        check(&Method::GET, &[], true);
        check(&Method::POST, &[], false);
        check(&Method::POST, &[("sec-fetch-site", "same-origin")], true);
        for site in ["cross-site", "same-site", "none"] {
            check(&Method::POST, &[("sec-fetch-site", site)], false);
        }
        check(&Method::POST, &[("origin", "http://localhost:7780"), ("host", "localhost:7780")], true);
        check(&Method::POST, &[("origin", "http://localhost:9"), ("host", "localhost:7780")], false);
        check(&Method::DELETE, &[("origin", "null"), ("host", "localhost")], false);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=b; rwkv_rag_session=token; c=d".parse().unwrap());
        assert_eq!(session_token(&headers), Some("token"));
        headers.insert(COOKIE, "xrwkv_rag_session=token".parse().unwrap());
        assert_eq!(session_token(&headers), None);
    }

    #[test]
    fn bearer_is_the_only_scheme() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc "), Some("abc"));
        for bad in ["abc", "Basic abc", "Bearer ", "Bearer"] {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }
}
