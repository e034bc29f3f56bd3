//! The operator's book of grants: what the configuration says, and what was given while running.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rag_core::ports::{Grants, HttpGrant, HttpMethod, PluginGrants, SqlGrant};
use rag_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::config::{self, Config};
use crate::egress;

/// Grants of one plugin of a kind.
const GRANTS_MAX: usize = 64;
/// Bytes of a secret in a file.
const SECRET_BYTES_MAX: usize = 16 << 10;

/// The book; its file holds secrets and is its owner's alone.
pub(crate) struct GrantBook {
    configured: BTreeMap<String, PluginGrants>,
    given: Mutex<BTreeMap<String, Given>>,
    path: PathBuf,
    version: AtomicU64,
}

impl GrantBook {
    /// Reads the configuration's grants and the file of those given while running.
    pub(crate) fn open(config: &Config, data_dir: &Path) -> Result<Self> {
        let mut configured: BTreeMap<String, PluginGrants> = BTreeMap::new();
        for grant in &config.plugins.http {
            let http = from_config(grant)?;
            configured.entry(grant.plugin.clone()).or_default().http.push(http);
        }
        for grant in &config.plugins.sql {
            let sql = SqlGrant { name: grant.name.clone(), url: secret(&grant.url)? };
            configured.entry(grant.plugin.clone()).or_default().sql.push(sql);
        }
        for grants in configured.values() {
            check(grants)?;
        }
        let path = data_dir.join("grants.json");
        let given = match fs_err::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Storage {
                message: format!("{} is damaged: {error}", path.display()),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::Storage { message: error.to_string() }),
        };
        Ok(GrantBook { configured, given: Mutex::new(given), path, version: AtomicU64::new(0) })
    }

    fn write(&self, given: &BTreeMap<String, Given>) -> Result<()> {
        use std::io::Write as _;
        let failed = |error: std::io::Error| Error::Storage { message: error.to_string() };
        let json = serde_json::to_vec_pretty(given).map_err(|error| Error::internal(error.to_string()))?;
        let part = self.path.with_extension("part");
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&part).map_err(failed)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)?;
        fs_err::rename(&part, &self.path).map_err(failed)
    }
}

#[async_trait]
impl Grants for GrantBook {
    fn of(&self, plugin: &str) -> PluginGrants {
        let mut grants = self.configured.get(plugin).cloned().unwrap_or_default();
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(given) = given.get(plugin) {
            grants.http.extend(given.http.iter().map(HttpGrant::from));
            grants.sql.extend(given.sql.iter().map(SqlGrant::from));
        }
        grants
    }

    async fn set(&self, plugin: &str, grants: PluginGrants) -> Result<()> {
        check(&grants)?;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = given.clone();
        if grants == PluginGrants::default() {
            changed.remove(plugin);
        } else {
            changed.insert(plugin.to_owned(), Given::from(&grants));
        }
        self.write(&changed)?;
        *given = changed;
        self.version.fetch_add(1, SeqCst);
        Ok(())
    }

    fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }
}

fn check(grants: &PluginGrants) -> Result<()> {
    if grants.http.len() > GRANTS_MAX || grants.sql.len() > GRANTS_MAX {
        return Err(Error::invalid(format!("at most {GRANTS_MAX} grants of a kind")));
    }
    grants.http.iter().try_for_each(egress::check_grant)?;
    for (at, grant) in grants.sql.iter().enumerate() {
        if grant.name.trim().is_empty() || grants.sql.iter().take(at).any(|other| other.name == grant.name) {
            return Err(Error::invalid("each database of a plugin has a name of its own"));
        }
    }
    Ok(())
}

fn from_config(grant: &config::outside::HttpGrant) -> Result<HttpGrant> {
    let header = |(name, value): (&String, &String)| Ok((name.clone(), secret(value)?));
    Ok(HttpGrant {
        origin: grant.origin.clone(),
        path: grant.path.clone(),
        methods: grant.methods.iter().map(|name| method(name)).collect::<Result<_>>()?,
        private: grant.private,
        headers: grant.headers.iter().map(header).collect::<Result<_>>()?,
    })
}

fn method(name: &str) -> Result<HttpMethod> {
    let found = HttpMethod::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let all = HttpMethod::ALL.map(HttpMethod::name).join(", ");
        Error::invalid(format!("'{name}' is not a method that can be granted: {all}"))
    })
}

/// A value as configured: itself, `env:NAME` or `file:PATH`.
fn secret(value: &str) -> Result<String> {
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| {
            Error::invalid(format!("a grant names the environment variable {name}, which is not set"))
        });
    }
    if let Some(path) = value.strip_prefix("file:") {
        let text = fs_err::read_to_string(path)
            .map_err(|error| Error::invalid(format!("a grant's secret cannot be read: {error}")))?;
        if text.len() > SECRET_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the secret in {path} is longer than {SECRET_BYTES_MAX} bytes"
            )));
        }
        return Ok(text.trim().to_owned());
    }
    Ok(value.to_owned())
}

/// As the file keeps a plugin's grants.
#[derive(Clone, Serialize, Deserialize)]
struct Given {
    #[serde(default)]
    http: Vec<GivenHttp>,
    #[serde(default)]
    sql: Vec<GivenSql>,
}

#[derive(Clone, Serialize, Deserialize)]
struct GivenHttp {
    origin: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

#[derive(Clone, Serialize, Deserialize)]
struct GivenSql {
    name: String,
    url: String,
}

impl From<&PluginGrants> for Given {
    fn from(grants: &PluginGrants) -> Self {
        let http = |grant: &HttpGrant| GivenHttp {
            origin: grant.origin.clone(),
            path: grant.path.clone(),
            methods: grant.methods.iter().map(|method| method.name().to_owned()).collect(),
            private: grant.private,
            headers: grant.headers.clone(),
        };
        let sql = |grant: &SqlGrant| GivenSql { name: grant.name.clone(), url: grant.url.clone() };
        Given { http: grants.http.iter().map(http).collect(), sql: grants.sql.iter().map(sql).collect() }
    }
}

impl From<&GivenHttp> for HttpGrant {
    fn from(given: &GivenHttp) -> Self {
        HttpGrant {
            origin: given.origin.clone(),
            path: given.path.clone(),
            // Written by this program: what it does not know any more is not granted.
            methods: given.methods.iter().filter_map(|name| method(name).ok()).collect(),
            private: given.private,
            headers: given.headers.clone(),
        }
    }
}

impl From<&GivenSql> for SqlGrant {
    fn from(given: &GivenSql) -> Self {
        SqlGrant { name: given.name.clone(), url: given.url.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(origin: &str) -> HttpGrant {
        HttpGrant {
            origin: origin.to_owned(),
            path: "/api".to_owned(),
            methods: vec![HttpMethod::Get],
            private: true,
            headers: vec![("x-token".to_owned(), "secret".to_owned())],
        }
    }

    #[tokio::test]
    async fn grants_survive_a_restart_beside_those_configured() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let token = dir.path().join("token");
        fs_err::write(&token, "from a file\n").unwrap();
        config.plugins.http = vec![config::outside::HttpGrant {
            plugin: "store-x".to_owned(),
            origin: "https://example.org".to_owned(),
            methods: vec!["get".to_owned()],
            headers: [("authorization".to_owned(), format!("file:{}", token.display()))].into(),
            ..Default::default()
        }];
        let book = GrantBook::open(&config, dir.path()).unwrap();
        assert_eq!(book.of("store-y"), PluginGrants::default());
        let given = PluginGrants {
            http: vec![grant("http://127.0.0.1:8000")],
            sql: vec![SqlGrant { name: "v".to_owned(), url: "postgres://x".to_owned() }],
        };
        book.set("store-x", given.clone()).await.unwrap();
        assert_eq!(book.version(), 1);
        let again = GrantBook::open(&config, dir.path()).unwrap().of("store-x");
        assert_eq!(again.http.len(), 2);
        assert_eq!(again.http[0].headers, [("authorization".to_owned(), "from a file".to_owned())]);
        assert_eq!((&again.http[1], &again.sql), (&given.http[0], &given.sql));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs_err::metadata(dir.path().join("grants.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "secrets are their owner's");

        book.set("store-x", PluginGrants::default()).await.unwrap();
        assert_eq!(GrantBook::open(&config, dir.path()).unwrap().of("store-x").http.len(), 1);
    }

    #[tokio::test]
    async fn what_could_never_work_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let book = GrantBook::open(&Config::default(), dir.path()).unwrap();
        for origin in ["", "example.org", "ftp://x", "https://a/b"] {
            let grants = PluginGrants { http: vec![grant(origin)], sql: vec![] };
            let error = book.set("p", grants).await.unwrap_err();
            assert!(matches!(error, Error::InvalidInput { .. }), "{origin}: {error}");
        }
        let named = |name: &str| SqlGrant { name: name.to_owned(), url: String::new() };
        let twice = PluginGrants { http: vec![], sql: vec![named("a"), named("a")] };
        assert!(book.set("p", twice).await.is_err());
        let mut config = Config::default();
        config.plugins.sql =
            vec![config::outside::SqlGrant { url: "env:NO_SUCH_NAME".to_owned(), ..Default::default() }];
        let error = GrantBook::open(&config, dir.path()).err().unwrap();
        assert!(error.to_string().contains("NO_SUCH_NAME"), "{error}");
    }
}
