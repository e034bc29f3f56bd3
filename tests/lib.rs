//! Shared helpers of the outside tests.

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_test_that_the_readme_names_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let readme = fs_err::read_to_string(root.join("tests/README.md")).unwrap();
        let named: Vec<&str> = readme
            .lines()
            .filter(|line| line.starts_with("| "))
            .flat_map(|line| line.rsplit('|').nth(1).unwrap_or_default().split('`'))
            .filter(|word| word.contains('/'))
            .collect();
        for test in &named {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let source = fs_err::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{error}"));
            assert!(name.is_empty() || source.contains(&format!("fn {name}(")), "{test} is not there");
        }
        assert!(named.len() > 30, "only {} tests were found in the table", named.len());
    }
}
