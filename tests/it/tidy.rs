//! The house rules that a machine can check by reading the files: layers, file lengths, first lines, forbidden words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, bottom first: a module imports only from lines above its own; modules on one line are strangers.
const LAYERS: [&[&str]; 10] = [
    &["base"],
    &["config"],
    &["observe"],
    &["fetch", "kv"],
    &["ab", "ai", "auth", "bot", "cache", "compress", "files", "image", "limit", "mcp", "upstream"],
    &["policy"],
    &["plan"],
    &["proxy"],
    &["admin"],
    &["server"],
];
/// Above all layers.
const TOP: &str = "cli";
/// The longest file, in lines.
const LINES_MAX: usize = 400;
/// The package.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn rank(module: &str) -> Option<usize> {
    if module == TOP { Some(LAYERS.len()) } else { LAYERS.iter().position(|layer| layer.contains(&module)) }
}

/// Every file under `dir` (relative to the package) whose name ends in `suffix`, with its text.
fn files(dir: &str, suffix: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![Path::new(ROOT).join(dir)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                let name = path.strip_prefix(ROOT).unwrap().to_string_lossy().into_owned();
                // A file that is not UTF-8 has no words and no lines to check.
                found.extend(fs::read_to_string(&path).map(|text| (name, text)));
            }
        }
    }
    found
}

fn rust_files() -> BTreeMap<String, String> {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    all.extend(files("benches", ".rs"));
    all
}

/// The top module that a file of `src/` belongs to; `None` for `lib.rs` and `main.rs`.
fn module_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&module)).then_some(module)
}

/// The code of a file without its comments, so that prose may name any module.
fn code(text: &str) -> String {
    text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Every top module that `text` reaches by `crate::x`, in imports (nested braces too) and in inline paths.
fn reached(text: &str) -> Vec<String> {
    let code = code(text);
    let mut out = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            out.extend(heads(group));
        } else {
            out.push(word(rest).to_owned());
        }
    }
    out
}

/// The first words of a brace group's members: `{base::x, ai::{y, z}}` has `base` and `ai`.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut out) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                out.push(word(&group[at..]).to_owned());
                start = false;
            }
            _ => {}
        }
    }
    out
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[track_caller]
fn none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn arrows_point_down_only() {
    let mut faults = Vec::new();
    for (file, text) in files("src", ".rs") {
        let Some(module) = module_of(&file) else { continue };
        let Some(own) = rank(module) else {
            faults.push(format!("{file}: module `{module}` is in no layer"));
            continue;
        };
        for target in reached(&text) {
            match rank(&target) {
                None => faults.push(format!("{file}: `crate::{target}` is no module of a layer (import the module)")),
                Some(there) if target != module && there >= own => {
                    faults.push(format!("{file}: `{module}` may not import `{target}`"));
                }
                Some(_) => {}
            }
        }
    }
    none("layers", &faults);
}

#[test]
fn the_arrow_reader_sees_every_form_of_import() {
    let text =
        "use crate::{base::x, ai::{y, z},\n    kv};\nfn f() -> crate::plan::Plan {} // crate::cli\n// crate::admin";
    let mut found = reached(text);
    found.sort();
    assert_eq!(found, ["ai", "base", "cli", "kv", "plan"]);
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut faults = Vec::new();
    for (file, text) in rust_files() {
        if !text.lines().next().unwrap_or("").starts_with("//! ") {
            faults.push(format!("{file}: the first line must be `//! what this file is for`"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{file}: {lines} lines, at most {LINES_MAX}"));
        }
    }
    none("files", &faults);
}

#[test]
fn the_crate_root_is_a_map_and_nothing_else() {
    let text = fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    let other: Vec<String> = code(&text)
        .lines()
        .map(str::trim)
        .filter(|l| !(l.is_empty() || l.starts_with("#![") || l.starts_with("pub mod ") && l.ends_with(';')))
        .map(str::to_owned)
        .collect();
    none("src/lib.rs holds only `pub mod` lines (no re-exports)", &other);
}

#[test]
fn nothing_is_put_off() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "#[ig".to_owned() + "nore",
        "to".to_owned() + "do!(",
        "unimpl".to_owned() + "emented!(",
    ];
    let mut faults = Vec::new();
    for (file, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{file}:{}: {mark}", number + 1));
            }
        }
    }
    none("put off", &faults);
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    let words = [
        "/ro".to_owned() + "ot/",
        "/ho".to_owned() + "me/",
        "/wo".to_owned() + "rk/",
        "crates".to_owned() + ".io",
        "pypi".to_owned() + ".org",
        "python".to_owned() + "hosted",
    ];
    let mut all = rust_files();
    for (dir, suffix) in [("scripts", ""), ("conf", ""), ("tests", ".py"), (".ci", ""), ("benches", "")] {
        all.extend(files(dir, suffix));
    }
    for file in ["README.md", "Cargo.toml", "deny.toml"] {
        all.extend(fs::read_to_string(Path::new(ROOT).join(file)).map(|text| (file.to_owned(), text)));
    }
    let mut faults = Vec::new();
    for (file, text) in all {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                faults.push(format!("{file}:{}: {word}", number + 1));
            }
        }
    }
    none("machine names", &faults);
}

#[test]
fn every_shipped_file_is_named_by_a_test() {
    let mut tests: String = files("tests", ".rs").into_values().collect();
    // Tests beside the sources count as well.
    tests.extend(files("src", ".rs").into_iter().filter(|(file, _)| file.contains("tests")).map(|(_, text)| text));
    // The scripts that test.sh runs are exercised by it, and so is what they name in turn.
    tests.extend(files("scripts", ".sh").into_values());
    let mut faults = Vec::new();
    for (file, _) in files("conf", "").into_iter().chain(files("scripts", "")) {
        let name = file.rsplit('/').next().unwrap().to_owned();
        if name != "test.sh" && !tests.contains(&name) {
            faults.push(format!("{file} is exercised by no test"));
        }
    }
    none("shipped files", &faults);
}

#[test]
fn policy_scripts_use_spaces_and_end_in_a_newline() {
    let mut faults = Vec::new();
    for (file, text) in files("scripts", "").into_iter().chain(files("conf", "")) {
        if !text.ends_with('\n') {
            faults.push(format!("{file}: no newline at the end"));
        }
        if text.contains('\t') {
            faults.push(format!("{file}: a tab"));
        }
    }
    none("text files", &faults);
}
