//! What does a plugin say of itself, beside its code? Its `plugin.toml`, which travels inside the component.
//!
//! `rwkv-rag plugin build` and `cargo xtask plugins` write the file into a custom section, so that a lone `.wasm` is
//! complete and its digest covers what it asks for. A component without one asks for what it imports.

use std::collections::BTreeMap;

use rag_core::ports::PluginAsk;
use serde::Deserialize;

use crate::Kind;
use crate::link;

/// Name of the custom section.
const SECTION: &str = "ragkit:manifest";
/// Bytes of a manifest.
const BYTES_MAX: usize = 64 << 10;
/// Characters of it that an error shows.
const SHOWN_CHARS_MAX: usize = 200;
/// Magic and version of a component, before its sections.
const HEADER_BYTES: usize = 8;

/// A manifest. Any other key is refused by its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub id: String,
    pub version: String,
    /// As its interface is called, e.g. `chunker`.
    pub kind: String,
    pub description: String,
    /// Of a parser.
    #[serde(default)]
    pub media_types: Vec<String>,
    /// Which limits it needs.
    #[serde(default)]
    pub profile: Profile,
    /// What it asks for beyond log and config, by interface.
    #[serde(default)]
    pub grants: BTreeMap<String, Wish>,
    /// JSON Schema of its settings.
    #[serde(default)]
    pub settings: serde_json::Value,
}

/// Which limits a plugin runs under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those of its kind.
    #[default]
    Plain,
    /// Those of its kind, widened for a guest that brings the run time of a language, such as JavaScript or Python.
    Lang,
}

/// What is asked of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "[grants] takes true, \"optional\" or, for http and sql, a list of names")]
pub enum Wish {
    /// The interface as such; `false` is as good as leaving it out.
    Whole(bool),
    /// `"optional"`: it does without, too.
    Word(Word),
    /// Servers (`http`) or names of databases (`sql`), and no others.
    Only(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Optional,
}

impl Manifest {
    /// Reads a `plugin.toml`. The error names the line or the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("its manifest has more than {BYTES_MAX} bytes"));
        }
        let manifest: Manifest = toml::from_str(text).map_err(|why| {
            let before = why.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("its manifest is wrong in line {line}: {}", shown(why.message()))
        })?;
        let Some(kind) = manifest.kind() else {
            let all = Kind::ALL.map(Kind::name).join(", ");
            return Err(format!(
                "its manifest has the kind '{}', which is none of {all}",
                shown(&manifest.kind)
            ));
        };
        if !manifest.settings.is_object() && !manifest.settings.is_null() {
            return Err("its manifest has [settings] that are no JSON Schema".to_owned());
        }
        let granted = link::granted(kind);
        for (interface, wish) in &manifest.grants {
            if !granted.contains(&interface.as_str()) {
                return Err(format!(
                    "its manifest asks in [grants] for '{}'; a {} may ask for {}",
                    shown(interface),
                    kind.name(),
                    granted.join(", ")
                ));
            }
            if matches!(wish, Wish::Only(_)) && !matches!(interface.as_str(), "http" | "sql") {
                return Err(format!("its manifest asks in [grants] for a list of '{interface}'; write true"));
            }
        }
        Ok(manifest)
    }

    /// That of a component; none when it has none.
    pub fn of(wasm: &[u8]) -> Result<Option<Self>, String> {
        let mut found = sections(wasm).filter(|(id, section)| *id == 0 && name_of(section) == Some(SECTION));
        let Some((_, section)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err("it has two manifests".to_owned());
        }
        let text = section.get(1 + SECTION.len()..).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| "its manifest is not UTF-8".to_owned())?;
        Manifest::parse(text).map(Some)
    }

    /// The component with this manifest in it, in place of one that it had. Errors as `parse`.
    pub fn embed(wasm: &[u8], text: &str) -> Result<Vec<u8>, String> {
        Manifest::parse(text)?;
        let mut with = wasm.get(..HEADER_BYTES).unwrap_or(wasm).to_vec();
        for (id, section) in sections(wasm) {
            if id != 0 || name_of(section) != Some(SECTION) {
                push_section(&mut with, id, section);
            }
        }
        let mut section = vec![SECTION.len() as u8];
        section.extend_from_slice(SECTION.as_bytes());
        section.extend_from_slice(text.as_bytes());
        push_section(&mut with, 0, &section);
        Ok(with)
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == self.kind)
    }

    /// What it asks for, by interface.
    pub fn asks(&self) -> Vec<PluginAsk> {
        let ask = |(interface, wish): (&String, &Wish)| {
            let only = match wish {
                Wish::Whole(false) => return None,
                Wish::Whole(true) | Wish::Word(_) => Vec::new(),
                Wish::Only(names) => names.clone(),
            };
            Some(PluginAsk { interface: interface.clone(), only })
        };
        self.grants.iter().filter_map(ask).collect()
    }

    /// Whether the component says the same of itself, and imports nothing that is not asked for.
    pub(crate) fn check(
        &self,
        id: &str,
        version: &str,
        kind: Kind,
        imports: &[String],
    ) -> Result<(), String> {
        for (what, said, own) in
            [("id", &*self.id, id), ("version", &*self.version, version), ("kind", &*self.kind, kind.name())]
        {
            if said != own {
                return Err(format!("its manifest has the {what} '{}', its code '{own}'", shown(said)));
            }
        }
        let asks = self.asks();
        let silent = |import: &&String| {
            !link::FREE.contains(&import.as_str()) && asks.iter().all(|ask| ask.interface != **import)
        };
        let silent: Vec<&str> = imports.iter().filter(silent).map(String::as_str).collect();
        if silent.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = silent.iter().map(|name| format!("{name} = true")).collect();
        Err(format!(
            "it imports {}, which its manifest does not ask for: put `{}` below [grants]",
            silent.join(", "),
            lines.join("; ")
        ))
    }
}

/// What a stranger wrote, on one line and no longer than a line.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(SHOWN_CHARS_MAX).map(plain).collect()
}

/// Id and content of each section of a binary; ends early where the binary is damaged, which the compiler will tell.
fn sections(wasm: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = wasm.get(HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&id, after) = rest.split_first()?;
        let (length, after) = number(after)?;
        let (section, after) = after.split_at_checked(length)?;
        rest = after;
        Some((id, section))
    })
}

/// An unsigned LEB128 number and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

fn name_of(section: &[u8]) -> Option<&str> {
    let (length, after) = number(section)?;
    std::str::from_utf8(after.get(..length)?).ok()
}

fn push_section(wasm: &mut Vec<u8>, id: u8, section: &[u8]) {
    wasm.push(id);
    let mut length = section.len();
    while length >= 0x80 {
        wasm.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    wasm.push(length as u8);
    wasm.extend_from_slice(section);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "id = 'a-b'\nversion = '1.0.0'\nkind = 'vector-store'\ndescription = '存'\n\
                        [grants]\nhttp = ['https://a.example']\nsql = true\nkv = false\n[settings]\ntype = 'object'\n";

    #[test]
    fn a_manifest_travels_in_the_component() {
        let component = b"\0asm\x0d\0\x01\0\x00\x05\x04name\x07\x01\x00";
        assert!(Manifest::of(component).unwrap().is_none());
        let once = Manifest::embed(component, GOOD).unwrap();
        assert!(once.starts_with(component));
        let again = Manifest::embed(&once, GOOD).unwrap();
        assert_eq!(once, again, "the old one is replaced");
        let found = Manifest::of(&again).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.kind()), ("a-b", Some(Kind::VectorStore)));
        let asks = found.asks();
        assert_eq!(asks.iter().map(|ask| ask.interface.as_str()).collect::<Vec<_>>(), ["http", "sql"]);
        assert_eq!(asks[0].only, ["https://a.example"]);
    }

    #[test]
    fn damage_is_no_panic() {
        let whole = Manifest::embed(b"\0asm\x0d\0\x01\0", GOOD).unwrap();
        for end in 0..whole.len() {
            let _ = Manifest::of(&whole[..end]);
        }
        assert!(Manifest::of(b"\0asm\x0d\0\x01\0\x00\xff\xff\xff\xff\xff\x01").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, words) in [
            ("id = ", "idd = ", "in line 1: unknown field `idd`"),
            ("[settings]", "[sandbox]", "sandbox"),
            ("'vector-store'", "'storage'", "'storage', which is none of parser, chunker"),
            ("sql = true", "files = true", "for 'files'; a vector-store may ask for log, config, http"),
            ("sql = true", "sql = 'always'", "[grants] takes true"),
            ("kv = false", "kv = ['a']", "a list of 'kv'"),
            ("description = '存'\n", "description = '存'\nprofile = 'huge'\n", "huge"),
        ] {
            let error = Manifest::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(words) && !error.contains(char::is_control), "{to}: {error}");
        }
        let schemaless = "id = 'a'\nversion = '1.0.0'\nkind = 'chunker'\ndescription = 'd'\nsettings = 3\n";
        assert!(Manifest::parse(schemaless).unwrap_err().contains("no JSON Schema"));
    }

    #[test]
    fn code_and_manifest_must_agree() {
        let manifest = Manifest::parse(GOOD).unwrap();
        let imports = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let good = imports(&["log", "config", "http"]);
        manifest.check("a-b", "1.0.0", Kind::VectorStore, &good).unwrap();
        for (id, version, imported, words) in [
            ("other", "1.0.0", &good, "the id 'a-b', its code 'other'"),
            ("a-b", "1.0.1", &good, "the version '1.0.0', its code '1.0.1'"),
            (
                "a-b",
                "1.0.0",
                &imports(&["http", "kv", "vector-index"]),
                "put `kv = true; vector-index = true`",
            ),
        ] {
            let error = manifest.check(id, version, Kind::VectorStore, imported).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
