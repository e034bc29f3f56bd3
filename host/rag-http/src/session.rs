//! Logins of the page: random tokens kept only as hashes, and a brake on guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Name of the session cookie.
pub(crate) const COOKIE: &str = "rwkv_rag_session";
/// Logins kept at once; the one that ends first makes room.
const SESSIONS_MAX: usize = 1_000;
/// Addresses and names whose failures are counted at once.
const TRIED_MAX: usize = 10_000;
/// Over which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);

type TokenHash = [u8; 32];

/// Open logins by the hash of their token, so that neither a copy of memory nor a timing tells a token.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<TokenHash, Session>>);

#[derive(Debug, Clone)]
struct Session {
    /// Of the key or user.
    principal: String,
    /// What the page must send along with every change.
    csrf: String,
    /// Without a request.
    lasts: Duration,
    ends: Instant,
}

impl Sessions {
    /// Opens a session for a key or user.
    pub(crate) fn open(
        &self,
        principal: &str,
        lasts: Duration,
        now: Instant,
    ) -> Result<Opened, getrandom::Error> {
        let (token, csrf) = (random()?, random()?);
        let mut sessions = locked(&self.0);
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(first) =
                sessions.iter().min_by_key(|(_, session)| session.ends).map(|(hash, _)| *hash)
        {
            sessions.remove(&first);
        }
        let session =
            Session { principal: principal.to_owned(), csrf: csrf.clone(), lasts, ends: now + lasts };
        sessions.insert(hash(&token), session);
        Ok(Opened { token, csrf })
    }

    /// The principal that a token stands for, and what changes must carry; asking prolongs the session.
    pub(crate) fn find(&self, token: &str, now: Instant) -> Option<(String, String)> {
        let mut sessions = locked(&self.0);
        let session = sessions.get_mut(&hash(token)).filter(|session| session.ends > now)?;
        session.ends = now + session.lasts;
        Some((session.principal.clone(), session.csrf.clone()))
    }

    /// Ends every session of a principal but the one with `kept` as its token.
    pub(crate) fn close_all(&self, principal: &str, kept: Option<&str>) {
        let kept = kept.map(hash);
        locked(&self.0).retain(|token, session| session.principal != principal || Some(*token) == kept);
    }

    pub(crate) fn close(&self, token: &str) {
        locked(&self.0).remove(&hash(token));
    }
}

/// What a new session's owner gets.
pub(crate) struct Opened {
    /// For the cookie.
    pub(crate) token: String,
    /// For the page, to send as `x-csrf-token`.
    pub(crate) csrf: String,
}

/// Who failed to log in: an address, or the name of a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Tried {
    Address(IpAddr),
    Name(String),
}

/// Failed logins by address and by name.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<Tried, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Attempts {
    /// Seconds to wait when this address or name failed too often.
    pub(crate) fn wait_s(&self, tried: &Tried, failures_max: u32, now: Instant) -> Option<u64> {
        let attempts = locked(&self.0);
        let failures = attempts.get(tried).filter(|failures| failures.count >= failures_max)?;
        let left = (failures.since + WINDOW).checked_duration_since(now)?;
        Some(left.as_secs().max(1))
    }

    pub(crate) fn failed(&self, tried: Tried, now: Instant) {
        let mut attempts = locked(&self.0);
        attempts.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
        if attempts.len() < TRIED_MAX || attempts.contains_key(&tried) {
            attempts.entry(tried).or_insert(Failures { count: 0, since: now }).count += 1;
        }
    }
}

fn random() -> Result<String, getrandom::Error> {
    let mut token = [0_u8; 32];
    getrandom::fill(&mut token)?;
    Ok(URL_SAFE_NO_PAD.encode(token))
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// A panic elsewhere leaves these maps whole: each change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_session_ends_when_unused_and_on_logout() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.open("key", HOUR, now).unwrap().token;
        assert_eq!(sessions.find(&token, now).map(|found| found.0).as_deref(), Some("key"));
        assert_eq!(sessions.find("guess", now), None);
        assert!(sessions.find(&token, now + HOUR / 2).is_some());
        assert!(sessions.find(&token, now + HOUR).is_some(), "each request prolongs it");
        assert_eq!(sessions.find(&token, now + HOUR * 2), None);
        let token = sessions.open("key", HOUR, now).unwrap().token;
        sessions.close(&token);
        assert_eq!(sessions.find(&token, now), None);
    }

    #[test]
    fn all_sessions_of_one_principal_end_but_the_present_one() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let open = |who| sessions.open(who, HOUR, now).unwrap().token;
        let (first, present, other) = (open("user-1"), open("user-1"), open("user-2"));
        sessions.close_all("user-1", Some(&present));
        assert_eq!(sessions.find(&first, now), None);
        assert!(sessions.find(&present, now).is_some() && sessions.find(&other, now).is_some());
        sessions.close_all("user-1", None);
        assert_eq!(sessions.find(&present, now), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.open("first", HOUR, now).unwrap().token;
        for i in 0..SESSIONS_MAX as u64 {
            sessions.open("key", HOUR, now + Duration::from_millis(i + 1)).unwrap();
        }
        assert_eq!(sessions.find(&first, now), None);
        assert_eq!(locked(&sessions.0).len(), SESSIONS_MAX);
    }

    #[test]
    fn failures_brake_one_address_for_a_minute() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (bad, good) = (Tried::Address(IpAddr::from([10, 0, 0, 1])), Tried::Name("小李".into()));
        for _ in 0..3 {
            assert_eq!(attempts.wait_s(&bad, 3, now), None);
            attempts.failed(bad.clone(), now);
        }
        assert_eq!(attempts.wait_s(&bad, 3, now), Some(60));
        assert_eq!(attempts.wait_s(&good, 3, now), None);
        assert_eq!(attempts.wait_s(&bad, 3, now + WINDOW + Duration::from_secs(1)), None);
    }
}
