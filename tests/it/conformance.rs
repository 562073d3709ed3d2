//! The conformance script: how it is called, what it needs, and a run with a suite of two tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/conformance.sh");

fn run(arguments: &[&str], path: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new("/bin/bash");
    command.arg(SCRIPT).args(arguments).env("SLUICEGATE_BIN", env!("CARGO_BIN_EXE_sluicegate"));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let Output { status, stdout, stderr } = command.output().expect("bash runs");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn the_script_is_sound_bash() {
    let output = Command::new("/bin/bash").args(["-n", SCRIPT]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn wrong_usage_is_told_with_status_2() {
    for arguments in [&[][..], &["-x"], &["a", "b"], &[".", "-q"], &[".", "-t", "soon"], &[".", "-f", "-1"]] {
        let (code, said) = run(arguments, None);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains("scripts/conformance.sh CHECKOUT"), "{arguments:?}: {said}");
    }
    let empty = tempfile::tempdir().unwrap();
    let (code, said) = run(&[empty.path().to_str().unwrap()], None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no checkout"), "{said}");
}

/// A suite of our own in the shape of the real one: an origin, a client that asks twice, and what the tests are called.
fn suite(dir: &Path) {
    fs::create_dir_all(dir.join("test-engine/server")).unwrap();
    fs::create_dir_all(dir.join("tests")).unwrap();
    let server = "import http from 'node:http'
let hits = 0
http.createServer((req, res) => {
  res.setHeader('cache-control', 'max-age=60')
  res.end(String(++hits))
}).listen(8000)
";
    let client = "const get = async () => (await fetch(process.env.npm_config_base + '/page')).text()
const [first, second] = [await get(), await get()]
const reused = first === second || ['Assertion', 'not from the cache']
console.log(JSON.stringify({ reused, never: ['Assertion', 'no'], after: true, may: true }))
";
    let tests = "export default [{ tests: [
  { id: 'reused' }, { id: 'never' }, { id: 'after', kind: 'optimal', depends_on: ['never'] },
  { id: 'may', kind: 'check', depends_on: ['reused'] }, { id: 'browser', browser_only: true } ] }]
";
    fs::write(dir.join("test-engine/server/server.mjs"), server).unwrap();
    fs::write(dir.join("test-engine/cli.mjs"), client).unwrap();
    fs::write(dir.join("tests/index.mjs"), tests).unwrap();
}

#[test]
fn without_node_it_says_what_it_needs() {
    let (dir, nothing) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    suite(dir.path());
    let (code, said) = run(&[dir.path().to_str().unwrap()], nothing.path().to_str());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("needs node"), "{said}");
}

#[test]
fn a_run_prints_the_score_and_minds_the_floor() {
    if Command::new("node").arg("--version").output().is_err() {
        // The script cannot run here; that it says so is tested above.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    suite(dir.path());
    let checkout = dir.path().to_str().unwrap();
    let results = dir.path().join("results.json");
    let (code, said) = run(&[checkout, "-f", "1", "-t", "60", "-o", results.to_str().unwrap()], None);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "required: 1/2",
        "optimal: 0/1",
        "behaviour: 1/1",
        "failed required: never (Assertion: no)",
        "failed optimal: after (depends on never)",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}\n{said}");
    }
    assert!(fs::read_to_string(results).unwrap().contains("\"reused\":true"));
    let (code, said) = run(&[checkout, "-f", "2"], None);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("at least 2 must"), "{said}");
}
