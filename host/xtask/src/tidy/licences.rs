//! Whether every dependency's licence is one that `.deny.toml` allows; needs no network and no further tool.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The licences in `allow = […]` of the `[licenses]` table.
pub(super) fn allowed(deny_toml: &str) -> Result<BTreeSet<String>> {
    let section = deny_toml.split("[licenses]").nth(1).context(".deny.toml has no [licenses]")?;
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let list = list.context(".deny.toml has no `allow = [` under [licenses]")?;
    let without_comments = list.lines().map(|line| line.split('#').next().unwrap_or(""));
    let names = without_comments.flat_map(|line| line.split(',')).map(|name| name.trim().trim_matches('"'));
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// One sentence for every package of the resolved graph whose licence is not allowed.
pub(super) fn check(metadata: &Value, allowed: &BTreeSet<String>) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or("?");
        match package["license"].as_str() {
            None => problems.push(format!("{name} names no licence")),
            Some(licence) => match satisfied(licence, allowed) {
                Ok(true) => {}
                Ok(false) => problems.push(format!("{name}: .deny.toml does not allow '{licence}'")),
                Err(error) => problems.push(format!("{name}: {error}")),
            },
        }
    }
    Ok(problems)
}

/// Whether an SPDX expression can be met with the allowed licences. The old `A/B` for `A OR B` is understood.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0, allowed };
    let value = parser.either()?;
    if parser.at != words.len() {
        bail!("'{expression}' is not a licence expression");
    }
    Ok(value)
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    allowed: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn either(&mut self) -> Result<bool> {
        let mut value = self.both()?;
        while self.take("OR") {
            value |= self.both()?;
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let value = self.either()?;
            if !self.take(")") {
                bail!("a licence expression lacks a ')'");
            }
            return Ok(value);
        }
        let name = self.words.get(self.at).context("a licence expression breaks off")?;
        self.at += 1;
        if self.take("WITH") {
            let exception = self.words.get(self.at).context("a licence expression breaks off")?;
            self.at += 1;
            return Ok(self.allowed.contains(&format!("{name} WITH {exception}")));
        }
        Ok(self.allowed.contains(*name))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mit_and_apache() -> BTreeSet<String> {
        ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into()
    }

    #[test]
    fn expressions_follow_spdx() {
        let check = |expression: &str, expected: bool| {
            assert_eq!(satisfied(expression, &mit_and_apache()).unwrap(), expected, "{expression}");
        };
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT OR GPL-3.0", true);
        check("GPL-3.0/MIT", true);
        check("MIT AND GPL-3.0", false);
        check("(MIT OR GPL-3.0) AND Apache-2.0", true);
        check("Zlib OR Apache-2.0 WITH LLVM-exception OR GPL-3.0", true);
        check("MIT WITH LLVM-exception", false);
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "MIT WITH"] {
            assert!(satisfied(broken, &mit_and_apache()).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_list_is_read_from_the_one_place_that_cargo_deny_reads() {
        let text = "[bans]\nallow = [\"x\"]\n[licenses]\nallow = [\n  \"MIT\", # why\n  \"Zlib\",\n]\n";
        assert_eq!(allowed(text).unwrap().into_iter().collect::<Vec<_>>(), ["MIT", "Zlib"]);
        assert!(allowed("[bans]").is_err());
    }

    #[test]
    fn packages_without_an_allowed_licence_are_named() {
        let metadata = json!({ "packages": [
            { "name": "good", "license": "MIT" },
            { "name": "bad", "license": "GPL-3.0" },
            { "name": "silent", "license": null },
        ] });
        assert_eq!(
            check(&metadata, &mit_and_apache()).unwrap(),
            ["bad: .deny.toml does not allow 'GPL-3.0'", "silent names no licence"]
        );
    }
}
