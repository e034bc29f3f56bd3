//! Which language is a file written in? Told by its name, else by its first line.

/// Languages by the extension of files.
const EXTENSIONS: &[(&str, &str)] = &[
    ("asm s", "assembly"),
    ("bat cmd", "batch"),
    ("c h", "c"),
    ("cc cpp cxx hh hpp hxx", "cpp"),
    ("clj cljs", "clojure"),
    ("cmake", "cmake"),
    ("cs", "csharp"),
    ("css less scss", "css"),
    ("cu cuh", "cuda"),
    ("dart", "dart"),
    ("erl hrl", "erlang"),
    ("ex exs", "elixir"),
    ("f90 f", "fortran"),
    ("fs", "fsharp"),
    ("glsl wgsl", "shader"),
    ("go", "go"),
    ("graphql", "graphql"),
    ("groovy gradle", "groovy"),
    ("hs", "haskell"),
    ("ini cfg conf properties", "ini"),
    ("java", "java"),
    ("jl", "julia"),
    ("js cjs mjs jsx", "javascript"),
    ("kt kts", "kotlin"),
    ("lua", "lua"),
    ("m mm", "objective-c"),
    ("ml mli", "ocaml"),
    ("nix", "nix"),
    ("php", "php"),
    ("pl pm", "perl"),
    ("proto", "protobuf"),
    ("ps1", "powershell"),
    ("py pyi", "python"),
    ("r", "r"),
    ("rb", "ruby"),
    ("rs", "rust"),
    ("scala", "scala"),
    ("sh bash zsh", "shell"),
    ("sol", "solidity"),
    ("sql", "sql"),
    ("svelte", "svelte"),
    ("swift", "swift"),
    ("tcl", "tcl"),
    ("tex", "latex"),
    ("toml", "toml"),
    ("ts tsx mts", "typescript"),
    ("vue", "vue"),
    ("wit", "wit"),
    ("yaml yml", "yaml"),
    ("zig", "zig"),
];

/// Languages of files that have a name and no extension.
const NAMES: &[(&str, &str)] =
    &[("dockerfile", "dockerfile"), ("makefile", "make"), ("cmakelists.txt", "cmake")];

/// The language of a file by its name, e.g. `rust`.
pub(crate) fn by_name(name: &str) -> Option<&'static str> {
    let file = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    if let Some((_, language)) = NAMES.iter().find(|(name, _)| *name == file) {
        return Some(language);
    }
    let (_, extension) = file.rsplit_once('.')?;
    let known = EXTENSIONS.iter().find(|(all, _)| all.split(' ').any(|one| one == extension));
    known.map(|(_, language)| *language)
}

/// The language of a script by the program that its first line names: `#!/usr/bin/env python3`.
pub(crate) fn by_first_line(line: &str) -> Option<&'static str> {
    let program = line.strip_prefix("#!")?.split_whitespace().filter(|word| !word.starts_with('-'));
    let program =
        program.map(|word| word.rsplit('/').next().unwrap_or_default()).find(|word| *word != "env")?;
    let program = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    Some(match program {
        "sh" | "bash" | "dash" | "zsh" | "ksh" => "shell",
        "python" => "python",
        "perl" => "perl",
        "ruby" => "ruby",
        "node" => "javascript",
        "lua" => "lua",
        "php" => "php",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_first_lines_tell_the_language() {
        for (name, language) in [
            ("src/main.rs", Some("rust")),
            ("脚本/备份.PY", Some("python")),
            ("Dockerfile", Some("dockerfile")),
            ("a/CMakeLists.txt", Some("cmake")),
            ("notes", None),
            ("a.unknown", None),
        ] {
            assert_eq!(by_name(name), language, "{name}");
        }
        assert_eq!(by_first_line("#!/usr/bin/env -S python3.12 -u"), Some("python"));
        assert_eq!(by_first_line("#!/bin/bash -e"), Some("shell"));
        assert_eq!(by_first_line("# no"), None);
    }
}
