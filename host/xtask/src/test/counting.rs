//! Sums what test runners report, while passing their output on.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Tests that passed and failed. A step without tests of its own counts as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// Of those that failed and have one, in the order of their failures.
    pub(super) names: Vec<String>,
}

impl Tally {
    /// Runs a step and makes sure that it counts: as a pass when it reported no test, as a failure when it failed
    /// without naming one.
    pub(super) fn step(&mut self, run: impl FnOnce(&mut Tally) -> Result<()>) -> Result<()> {
        let mut own = Tally::default();
        let outcome = run(&mut own);
        if outcome.is_ok() && own.passed == 0 {
            own.passed = 1;
        }
        if outcome.is_err() && own.failed == 0 {
            own.failed = 1;
        }
        self.passed += own.passed;
        self.failed += own.failed;
        self.names.append(&mut own.names);
        outcome
    }
}

/// Runs a test command, prints its lines as they come and adds what it reports to `tally`.
pub(super) fn run(command: &mut Command, tally: &mut Tally) -> Result<()> {
    run_into(command, tally, std::io::stdout(), std::io::stderr())
}

fn run_into(
    command: &mut Command,
    tally: &mut Tally,
    to_stdout: impl Write + Send,
    to_stderr: impl Write + Send,
) -> Result<()> {
    let shown = shell::shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{shown}`"))?;
    let counted = Mutex::new(Tally::default());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = stdout.map(|pipe| scope.spawn(|| pass_on(pipe, to_stdout, &counted)));
        let stderr = stderr.map(|pipe| scope.spawn(|| pass_on(pipe, to_stderr, &counted)));
        for thread in [stdout, stderr].into_iter().flatten() {
            thread.join().map_err(|_| anyhow::anyhow!("reading the output of `{shown}` failed"))??;
        }
        anyhow::Ok(())
    })?;
    let counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.passed += counted.passed;
    tally.failed += counted.failed;
    tally.names.extend(counted.names);
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

fn pass_on(from: impl Read, mut to: impl Write, counted: &Mutex<Tally>) -> Result<()> {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        note(&String::from_utf8_lossy(&line), &mut counted.lock().unwrap_or_else(PoisonError::into_inner));
        line.clear();
    }
    Ok(())
}

fn note(line: &str, counted: &mut Tally) {
    if let Some((passed, failed)) = counts(line) {
        counted.passed += passed;
        counted.failed += failed;
    }
    // The nextest runner tells each failure twice.
    if let Some(name) = failure(line).filter(|name| !counted.names.contains(name)) {
        counted.names.push(name);
    }
}

/// The test that a line of `cargo test` or `cargo nextest` tells the failure of.
fn failure(line: &str) -> Option<String> {
    let plain = line.trim();
    if let Some(name) = plain.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
        return Some(name.to_owned());
    }
    let (status, rest) = plain.split_once(" [")?;
    let failed = matches!(status, "FAIL" | "TIMEOUT" | "ABORT") || status.starts_with("SIG");
    let (_, name) = rest.split_once("] ").filter(|_| failed)?;
    // Between time and name stands the test's number.
    let name = name.trim_start();
    let name = name.split_once(") ").filter(|_| name.starts_with('(')).map_or(name, |(_, name)| name);
    Some(format!("{name} ({status})"))
}

/// (passed, failed) when the line is the closing one of `cargo test` or `cargo nextest`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let plain = line.trim_start();
    let is_summary =
        plain.starts_with("test result:") || (plain.starts_with("Summary [") && plain.contains(" run:"));
    if !is_summary {
        return None;
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let before = |wanted: &str| -> u64 {
        let pairs = words.windows(2).filter(|pair| pair[1].trim_end_matches([',', ';', ':']) == wanted);
        pairs.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
    };
    Some((before("passed"), before("failed") + before("timed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_understood() {
        let check = |line, expected| assert_eq!(counts(line), expected, "{line}");
        check("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out", Some((12, 0)));
        check("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured", Some((1, 2)));
        check("     Summary [   0.512s] 45 tests run: 45 passed (1 slow), 2 skipped", Some((45, 0)));
        check(
            "     Summary [  60.01s] 5/9 tests run: 2 passed, 2 failed, 1 timed out, 0 skipped",
            Some((2, 3)),
        );
        check("running 12 tests", None);
        check("the log says: 3 passed, 0 failed", None);
    }

    #[test]
    fn failures_are_named() {
        let check = |line, expected: Option<&str>| assert_eq!(failure(line).as_deref(), expected, "{line}");
        check("test page::opens ... FAILED\n", Some("page::opens"));
        check(
            "        FAIL [   0.004s] (12/90) rag-core ask::tests::cites\n",
            Some("rag-core ask::tests::cites (FAIL)"),
        );
        check(
            "     TIMEOUT [ 120.001s] (───) rag-tune jobs::tests::ends\n",
            Some("rag-tune jobs::tests::ends (TIMEOUT)"),
        );
        check("  SIGSEGV [   1.0s] rag-engine a", Some("rag-engine a (SIGSEGV)"));
        check("        SLOW [> 30.000s] (───) rag-tune jobs::tests::ends", None);
        check("test page::opens ... ok", None);
    }

    fn run_script(script: &str, tally: &mut Tally) -> (Result<()>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let outcome = run_into(Command::new("sh").args(["-c", script]), tally, &mut out, &mut err);
        (outcome, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn output_is_passed_on_and_summed() {
        let mut tally = Tally::default();
        let script =
            "echo 'test result: ok. 2 passed; 0 failed'; echo 'test result: ok. 3 passed; 0 failed' >&2";
        let (outcome, out, err) = run_script(script, &mut tally);
        outcome.unwrap();
        assert_eq!(tally, Tally { passed: 5, ..Tally::default() });
        assert_eq!(out, "test result: ok. 2 passed; 0 failed\n");
        assert_eq!(err, "test result: ok. 3 passed; 0 failed\n");
    }

    #[test]
    fn a_step_always_counts() {
        let mut tally = Tally::default();
        tally.step(|_| Ok(())).unwrap();
        assert_eq!(tally, Tally { passed: 1, ..Tally::default() });
        tally.step(|own| run_script("exit 1", own).0).unwrap_err();
        assert_eq!(tally, Tally { passed: 1, failed: 1, names: vec![] });
        tally
            .step(|own| {
                run_script(
                    "echo 'test a::b ... FAILED'; echo 'test result: FAILED. 4 passed; 2 failed'; exit 1",
                    own,
                )
                .0
            })
            .unwrap_err();
        assert_eq!(tally, Tally { passed: 5, failed: 3, names: vec!["a::b".to_owned()] });
    }
}
