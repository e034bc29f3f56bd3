//! What a file of the repository may be: its length, its first line, its size, and no unfinished work.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;

/// Lines of a source file; a longer one answers more than one question.
const LINES_MAX: usize = 500;
/// A Rust file with more lines than this says in its first line what it answers.
const LINES_WITHOUT_DOC: usize = 20;
/// Bytes of a tracked file outside models/.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of everything under models/.
const MODELS_BYTES_MAX: u64 = 70_000_000;

/// Made by a tool, read by none.
const GENERATED: &[&str] = &["host/rag-http/web/src/api/schema.d.ts"];

const SOURCE: &[&str] = &["rs", "js", "mjs", "ts", "tsx", "svelte", "py", "wit", "sql"];
const TEXT: &[&str] = &["toml", "md", "nix", "json", "html", "css", "sh", "yml", "yaml", "txt", "lock"];

/// One sentence for every broken rule. `names` are relative to `root`.
pub(super) fn check(root: &Path, names: &[String]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut models_bytes = 0;
    for name in names {
        let path = root.join(name);
        let bytes = fs::metadata(&path)?.len();
        if name.starts_with("models/") {
            models_bytes += bytes;
        } else if bytes > FILE_BYTES_MAX {
            problems
                .push(format!("{name} has {bytes} bytes; only models/ may hold files over {FILE_BYTES_MAX}"));
        }
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_script = extension.is_empty() || name.starts_with(".ci/");
        if bytes <= FILE_BYTES_MAX && (SOURCE.contains(&extension) || TEXT.contains(&extension) || is_script)
        {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            problems.extend(check_text(name, extension, &text, root));
        }
    }
    if models_bytes > MODELS_BYTES_MAX {
        problems.push(format!("models/ has {models_bytes} bytes, more than {MODELS_BYTES_MAX}"));
    }
    Ok(problems)
}

fn check_text(name: &str, extension: &str, text: &str, root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if SOURCE.contains(&extension) && lines > LINES_MAX && !GENERATED.contains(&name) {
        problems.push(format!("{name} has {lines} lines, more than {LINES_MAX}: split it by question"));
    }
    if extension == "rs" {
        if lines > LINES_WITHOUT_DOC && !text.starts_with("//!") {
            problems.push(format!("{name} does not start with a `//!` line that says what it answers"));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = UNFINISHED.iter().find(|word| without_comment(line).contains(**word)) {
                problems.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(path) = machine_path(line, root) {
            problems.push(format!("{name}:{}: {path} exists on one machine only", number + 1));
        }
    }
    problems
}

/// Written in pieces, or this file would break its own rule.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
    concat!("should", "_panic"),
];

/// The line up to a `//` that starts a comment. Good enough for a search: a `//` in a string hides the rest of it.
fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// A path that only one person's machine has: a home folder, or the folder of this very checkout.
fn machine_path(line: &str, root: &Path) -> Option<String> {
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Use", "rs/")].map(str::to_owned);
    let here = root.to_str().filter(|root| root.len() > 1).map(|root| format!("{root}/"));
    homes.into_iter().chain(here).find(|path| {
        line.match_indices(path.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            // A longer path or an address that merely contains the words is something else.
            !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | '/' | '~'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(name: &str, text: &str, expected: &[&str]) {
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("");
        assert_eq!(check_text(name, extension, text, Path::new("/srv/checkout")), expected);
    }

    #[test]
    fn a_long_source_file_is_named_with_its_length() {
        check_one("a.py", &"x\n".repeat(500), &[]);
        check_one("a.py", &"x\n".repeat(501), &["a.py has 501 lines, more than 500: split it by question"]);
        check_one("a.md", &"x\n".repeat(501), &[]);
        check_one(GENERATED[0], &"x\n".repeat(501), &[]);
    }

    #[test]
    fn a_module_says_what_it_answers() {
        check_one("a.rs", &"x\n".repeat(20), &[]);
        check_one("a.rs", &format!("//! Why.\n{}", "x\n".repeat(30)), &[]);
        check_one(
            "a.rs",
            &"x\n".repeat(21),
            &["a.rs does not start with a `//!` line that says what it answers"],
        );
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_not_in_comments() {
        for word in UNFINISHED {
            check_one("a.rs", &format!("fn f() {{ {word} }}"), &[&format!("a.rs:1: {word}")]);
            check_one("a.rs", &format!("fn f() {{}} // {word}"), &[]);
            check_one("a.md", word, &[]);
        }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let home = concat!("/ho", "me/");
        let expected = format!("a.md:2: {home} exists on one machine only");
        check_one("a.md", &format!("x\ncd {home}me/src"), &[&expected]);
        check_one(
            "a.toml",
            "dir = \"/srv/checkout/x\"",
            &["a.toml:1: /srv/checkout/ exists on one machine only"],
        );
        check_one("a.md", &format!("https://example.org{home}page"), &[]);
        check_one("a.md", "see ./checkout/x and /srv/checkouts", &[]);
    }

    #[test]
    fn big_files_live_under_models_and_models_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("models")).unwrap();
        let write = |name: &str, bytes: u64| {
            // Sparse: the length counts, not the content.
            fs::File::create(dir.path().join(name)).unwrap().set_len(bytes).unwrap();
        };
        write("models/small.bin", FILE_BYTES_MAX + 1);
        write("big.bin", FILE_BYTES_MAX + 1);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(check(dir.path(), &names(&["models/small.bin"])).unwrap(), [""; 0]);
        assert_eq!(
            check(dir.path(), &names(&["big.bin"])).unwrap(),
            ["big.bin has 4194305 bytes; only models/ may hold files over 4194304"]
        );
        write("models/small.bin", MODELS_BYTES_MAX + 1);
        assert_eq!(
            check(dir.path(), &names(&["models/small.bin"])).unwrap(),
            ["models/ has 70000001 bytes, more than 70000000"]
        );
    }
}
