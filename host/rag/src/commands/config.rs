//! `rwkv-rag config import`: RWKV-RAG's YAML files, of every generation, become settings of ours; every key is accounted for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::config::Config;
use crate::output;

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
const SERVICES: [&str; 3] = ["llm", "index", "tuning"];

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// As in the file, dotted.
    key: String,
    fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It says what the file is.
    Used(&'static str),
    /// Our setting.
    Mapped(String),
    /// Why it has no meaning here.
    Dropped(&'static str),
}

/// Settings of ours by section and key.
type Settings = BTreeMap<String, BTreeMap<String, toml::Value>>;

/// Writes our configuration for a file of RWKV-RAG's, and says what became of each of its keys.
pub(crate) fn import(input: &Path, out: Option<&Path>, json: bool) -> Result<()> {
    if fs_err::metadata(input)?.len() > FILE_BYTES_MAX {
        bail!("{} is too large to be a configuration", input.display());
    }
    let (settings, lines) = translate(&fs_err::read_to_string(input)?)
        .with_context(|| format!("{} is no configuration of RWKV-RAG", input.display()))?;
    let text = render(input, &settings, &lines)?;
    match out {
        Some(out) if out.exists() => bail!("{} is there already", out.display()),
        Some(out) => fs_err::write(out, &text)?,
        None if !json => output::piece(&text),
        None => {}
    }
    if json {
        let keys: Vec<Value> = lines.iter().map(Line::json).collect();
        output::json(&json!({"keys": keys, "toml": text}));
    } else {
        lines.iter().for_each(|line| output::note(format_args!("{}", line.text())));
    }
    Ok(())
}

/// Writes a new secret key to a file that only its owner reads, and shows the public one.
pub(crate) fn key(file: &Path, json: bool) -> Result<()> {
    use fs_err::os::unix::fs::OpenOptionsExt as _;
    use std::io::Write as _;
    let secret = rag_bus::Secret::generate();
    let mut open = fs_err::OpenOptions::new();
    let mut written = open.write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(written, "{}", secret.reveal())?;
    let public = secret.public().to_string();
    match json {
        true => output::json(&json!({ "public": public })),
        false => output::line(format_args!("{public}")),
    }
    Ok(())
}

/// Keys in the order of the file's names.
fn translate(text: &str) -> Result<(Settings, Vec<Line>)> {
    let file: Value = serde_yaml_ng::from_str(text)?;
    let Value::Object(top) = &file else { bail!("it is no map of keys") };
    let mut found = Found::default();
    for (key, value) in top {
        match value {
            Value::Object(service) if !matches!(key.as_str(), "front_end" | "back_end" | "base") => {
                found.service(key, service);
            }
            _ => found.leaf(&of_file(top), key, key, value),
        }
    }
    found.ends();
    if found.lines.iter().all(|line| matches!(line.fate, Fate::Dropped(UNKNOWN))) {
        bail!("none of its keys is known");
    }
    found.lines.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((found.settings, found.lines))
}

const UNKNOWN: &str = "unknown";

/// The service that a file of one service is about.
fn of_file(top: &serde_json::Map<String, Value>) -> String {
    let has = |key: &str| top.contains_key(key);
    let service = if has("vectordb_name") && has("back_end") { "index" } else { "llm" };
    service.to_owned()
}

#[derive(Default)]
struct Found {
    settings: Settings,
    lines: Vec<Line>,
    /// Host, port and protocol by service and end.
    addresses: BTreeMap<(String, String), BTreeMap<String, String>>,
}

impl Found {
    fn set(&mut self, section: &str, key: &str, value: impl Into<toml::Value>) -> Fate {
        self.settings.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        Fate::Mapped(format!("{section}.{key}"))
    }

    /// A map under a service's name.
    fn service(&mut self, name: &str, fields: &serde_json::Map<String, Value>) {
        let module = fields.get("service_module").and_then(Value::as_str).unwrap_or(name);
        let known = SERVICES.iter().find(|service| module.starts_with(**service));
        let service = known.map_or(name, |service| *service).to_owned();
        for (key, value) in fields {
            self.leaf(&service, &format!("{name}.{key}"), key, value);
        }
    }

    /// One key; `path` is how the file has it.
    fn leaf(&mut self, service: &str, path: &str, key: &str, value: &Value) {
        if let (Value::Object(fields), "front_end" | "back_end" | "base") = (value, key) {
            for (part, value) in fields {
                let path = format!("{path}.{part}");
                if key == "base" {
                    self.leaf(service, &path, part, value);
                } else {
                    self.address(service, &path, [key, part], value);
                }
            }
            return;
        }
        let fate = self.fate(service, key, value);
        self.lines.push(Line { key: path.to_owned(), fate });
    }

    fn address(&mut self, service: &str, path: &str, [end, part]: [&str; 2], value: &Value) {
        let end = end.trim_end_matches("_end");
        let fate = match part {
            "host" | "port" | "protocol" => {
                let at = self.addresses.entry((service.to_owned(), end.to_owned())).or_default();
                at.insert(part.to_owned(), plain(value));
                match SERVICES.contains(&service) {
                    true => Fate::Mapped(format!("bus.{service}_{end}")),
                    false => Fate::Mapped(format!("bus.services.{service}")),
                }
            }
            _ => Fate::Dropped(UNKNOWN),
        };
        self.lines.push(Line { key: path.to_owned(), fate });
    }

    fn fate(&mut self, service: &str, key: &str, value: &Value) -> Fate {
        let text = plain(value);
        if text.is_empty() && !matches!(key, "enabled" | "service_module") {
            return Fate::Dropped("it is empty");
        }
        match key {
            "service_module" => Fate::Used("names the service"),
            "enabled" => self.enabled(service, value),
            "base_model_path" | "base_model_file" => {
                self.set("models", "demonstration", false);
                self.set("models", "language", text)
            }
            "embedding_path" | "bgem3_path" => self.set("models", "encoder", text),
            "reranker_path" | "rerank_path" => self.set("models", "reranker", text),
            "state_path" => self.set("models", "state", text),
            "strategy" => self.strategy(&text),
            "knowledge_base_path" => self.set("data", "ingest_roots", vec![toml::Value::String(text)]),
            "output_path" if service == "tuning" => self.set("bus", "tuning_dir", text),
            "llm_front_end_url" => self.set("bus", "llm_front", loopback(&text)),
            other => Fate::Dropped(why_dropped(other)),
        }
    }

    /// `cuda fp16i8 *20 -> cpu fp32` and the like: a device's name and a format are known here, a division is not.
    fn strategy(&mut self, text: &str) -> Fate {
        let mut mapped = Vec::new();
        if text.contains("i8") {
            self.set("models", "quantize", "int8");
            mapped.push("models.quantize");
        }
        let device = text.split_whitespace().next().unwrap_or_default();
        let named = device == "cpu" || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok());
        if named && !text.contains("->") {
            self.set("models", "device", device);
            mapped.push("models.device");
        }
        match mapped.is_empty() {
            true => {
                Fate::Dropped("where and how precisely a model runs is found from the machine and the file")
            }
            false => Fate::Mapped(mapped.join(", ")),
        }
    }

    /// What one process serves beside the page.
    fn enabled(&mut self, service: &str, value: &Value) -> Fate {
        if value != &Value::Bool(true) || !SERVICES.contains(&service) {
            return Fate::Used("a service that is off needs no setting");
        }
        let bus = self.settings.entry("bus".to_owned()).or_default();
        let offer = bus.entry("offer".to_owned()).or_insert_with(|| toml::Value::Array(Vec::new()));
        if let toml::Value::Array(offer) = offer {
            offer.push(service.into());
        }
        Fate::Mapped("bus.offer".to_owned())
    }

    /// Addresses from their parts.
    fn ends(&mut self) {
        let mut further: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for ((service, end), parts) in std::mem::take(&mut self.addresses) {
            let part = |name: &str, default: &str| parts.get(name).cloned().unwrap_or(default.to_owned());
            let Some(port) = parts.get("port") else { continue };
            let address = format!("{}://{}:{port}", part("protocol", "tcp"), part("host", "localhost"));
            let address = loopback(&address);
            if SERVICES.contains(&service.as_str()) {
                self.set("bus", &format!("{service}_{end}"), address);
            } else {
                further.entry(service).or_default().insert(end, address);
            }
        }
        let mut services = toml::Table::new();
        for (service, ends) in further {
            if let (Some(front), Some(back)) = (ends.get("front"), ends.get("back")) {
                services.insert(service, vec![front.clone(), back.clone()].into());
            }
        }
        if !services.is_empty() {
            self.set("bus", "services", services);
        }
    }
}

fn why_dropped(key: &str) -> &'static str {
    match key {
        "device" => "RWKV-RAG never read it",
        "num_workers" => "one worker answers many requests at once; start further ones with `serve --role`",
        "spawn_method" | "rwkv_rag_use_custom_python_env" => "there is no Python",
        "vectordb_name" | "vectordb_host" | "vectordb_port" | "vectordb_path" | "chroma_path"
        | "chroma_host" | "chroma_port" | "docker" => {
            "vectors are kept in the data folder, or where a knowledge base's vector-store plugin says"
        }
        "sqlite_db_path" => "the catalogue is in the data folder (data.dir); import documents anew",
        "rwkv_version" => "the version is read from the file",
        "jsonl_path" | "n_epoch" | "model_path" | "project_dir" | "data_file" | "output_path" => {
            "a request brings it"
        }
        _ => UNKNOWN,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

/// `localhost` may mean either address family; ours are numbers.
fn loopback(address: &str) -> String {
    address.replace("://localhost:", "://127.0.0.1:")
}

fn render(input: &Path, settings: &Settings, lines: &[Line]) -> Result<String> {
    let mut text = String::new();
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    writeln!(text, "# From RWKV-RAG's {}. What was not taken over:", name.escape_debug())?;
    for line in lines {
        if let Fate::Dropped(why) = &line.fate {
            writeln!(text, "#   {}: {why}", line.key.escape_debug())?;
        }
    }
    let open = |value: &toml::Value| value.as_str().is_some_and(|address| address.contains("://0.0.0.0:"));
    if settings.get("bus").is_some_and(|bus| bus.values().any(open)) {
        text.push_str(
            "#\n# It listens beyond this machine: set secret_key_file and allowed_keys (etc/proxy.toml).\n",
        );
    }
    let document =
        toml::Table::from_iter(settings.iter().map(|(section, keys)| {
            (section.clone(), toml::Value::Table(keys.clone().into_iter().collect()))
        }));
    let body = document.to_string();
    // What is written is read again by `serve`.
    toml::Value::Table(document).try_into::<Config>().context("a value is of another type than expected")?;
    Ok(format!("{text}\n{body}"))
}

impl Line {
    fn text(&self) -> String {
        match &self.fate {
            Fate::Used(what) => format!("used     {}: {what}", self.key),
            Fate::Mapped(to) => format!("mapped   {} → {to}", self.key),
            Fate::Dropped(why) => format!("dropped  {}: {why}", self.key),
        }
    }

    fn json(&self) -> Value {
        let (fate, about) = match &self.fate {
            Fate::Used(what) => ("used", (*what).to_owned()),
            Fate::Mapped(to) => ("mapped", to.clone()),
            Fate::Dropped(why) => ("dropped", (*why).to_owned()),
        };
        json!({"key": self.key, "fate": fate, "about": about})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an imported file says when the program reads it, and the fates of its keys.
    fn check(text: &str) -> (Config, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let (input, out) = (dir.path().join("a.yml"), dir.path().join("rag.toml"));
        fs_err::write(&input, text).unwrap();
        import(&input, Some(&out), true).unwrap();
        assert!(import(&input, Some(&out), true).is_err(), "nothing is overwritten");
        let config = Config::load(Some(&out), std::iter::empty()).unwrap();
        (config, translate(text).unwrap().1.iter().map(Line::text).collect())
    }

    #[test]
    fn one_file_for_all_services() {
        let (config, lines) = check(
            "llm:\n  enabled: true\n  service_module: llm_service\n  num_workers: 1\n  device: cuda:3\n  base_model_path: /m/rwkv.pth\n  embedding_path: /m/bge-m31\n  reranker_path: /m/rerank\n  state_path: ''\n  front_end: {host: localhost, protocol: tcp, port: 7781}\n  back_end: {host: localhost, protocol: tcp, port: 7782}\nindex:\n  enabled: false\n  service_module: index_service\n  chroma_port: 9999\n  knowledge_base_path: /kb\n  llm_front_end_url: tcp://10.0.0.2:7781\ntuning:\n  enabled: true\n  service_module: tuning_service\n  output_path: /out\n",
        );
        assert_eq!(config.bus.offer, ["llm", "tuning"]);
        assert_eq!(config.models.language, Path::new("/m/rwkv.pth"));
        assert_eq!(config.models.encoder, Path::new("/m/bge-m31"));
        assert_eq!(config.models.reranker, Path::new("/m/rerank"));
        assert!(!config.models.demonstration);
        assert_eq!(config.bus.llm_back, "tcp://127.0.0.1:7782");
        assert_eq!(config.data.ingest_roots, [Path::new("/kb")]);
        assert_eq!(config.bus.tuning_dir, Path::new("/out"));
        assert_eq!(lines.len(), 22, "every key has a line: {lines:#?}");
        for wanted in [
            "dropped  llm.device",
            "dropped  llm.state_path: it is empty",
            "mapped   llm.back_end.port → bus.llm_back",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}: {lines:#?}");
        }
    }

    #[test]
    fn a_file_a_service_and_the_proxys() {
        let (config, lines) = check(
            "back_end: {host: 10.0.0.1, port: '7782', protocol: tcp}\nbase_model_path: /m/a.pth\nembedding_path: /m/e\nreranker_path: /m/r\nstrategy: cuda:1 fp16i8\n",
        );
        assert_eq!(config.bus.llm_back, "tcp://10.0.0.1:7782");
        assert_eq!((config.models.quantize.as_str(), config.models.device.as_str()), ("int8", "cuda:1"));
        assert_eq!(lines.len(), 7);
        let (config, lines) = check(
            "back_end: {host: localhost, port: 7784}\nvectordb_name: chromadb\nvectordb_host: 10.0.0.9\nvectordb_port: 9998\n",
        );
        assert_eq!((config.bus.index_back.as_str(), lines.len()), ("tcp://127.0.0.1:7784", 5));
        let ends = |port: u16| {
            format!(
                "  front_end: {{host: 0.0.0.0, port: {port}}}\n  back_end: {{host: 0.0.0.0, port: {}}}\n",
                port + 1
            )
        };
        let text = format!("llm:\n{}index:\n{}extra:\n{}", ends(7781), ends(7783), ends(7791));
        let (config, _) = check(&text);
        assert_eq!(config.bus.llm_front, "tcp://0.0.0.0:7781");
        assert_eq!(config.bus.services["extra"], ["tcp://0.0.0.0:7791", "tcp://0.0.0.0:7792"]);
    }

    #[test]
    fn clients_and_the_personal_edition() {
        let (config, lines) = check(
            "llm: {front_end: {host: h, port: 7781}}\nindex: {front_end: {host: h, port: 7783}}\nbase: {knowledge_base_path: /kb, sqlite_db_path: /x.db}\n",
        );
        assert_eq!((config.bus.index_front.as_str(), lines.len()), ("tcp://h:7783", 6));
        let (config, lines) = check(
            "rwkv_version: x070\nbase_model_path: /m/b.pth\nembedding_path: /m/e\nvectordb_name: milvus_lite\nmade_up: 1\n",
        );
        assert_eq!(config.models.language, Path::new("/m/b.pth"));
        assert!(lines.contains(&"dropped  made_up: unknown".to_owned()), "{lines:#?}");
        assert!(translate("a: 1\n").is_err() && translate("[1]").is_err() && translate("{").is_err());
    }
}
