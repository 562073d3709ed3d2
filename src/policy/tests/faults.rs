//! What loading refuses: every wrong script in `tests/fixtures/policy` with the exact text of its faults.

use super::names;
use crate::base::clock::Clock;
use crate::policy::{Limits, Names, Policy};
use std::fs;
use std::path::Path;

fn faults(source: &str, name: &str, names: &Names) -> String {
    match Policy::load(source, name, names, &Limits::default(), &Clock::system()) {
        Ok(_) => "no fault\n".to_owned(),
        Err(faults) => faults.iter().map(|f| format!("{f}\n")).collect(),
    }
}

/// Each fixture ends with its expected faults as comments that start with `//! `.
#[test]
fn every_wrong_script_gives_its_expected_faults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/policy");
    let mut wrong = String::new();
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
        let source = fs::read_to_string(&file).unwrap();
        let expected: String =
            source.lines().filter_map(|l| l.strip_prefix("//! ")).map(|l| format!("{l}\n")).collect();
        let name = file.file_name().unwrap().to_str().unwrap();
        let given = faults(&source, name, &names());
        if given != expected {
            wrong.push_str(&format!("--- {name}\nexpected:\n{expected}given:\n{given}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 12, "{count}");
}

#[test]
fn tiers_are_not_checked_where_there_is_no_ai() {
    let script = "fn on_prompt(req, prompt) { next().tier(\"cheep\") }";
    assert_eq!(faults(script, "p", &Names::default()), "no fault\n");
    assert_eq!(faults(script, "p", &names()), "p:1:41: no tier \"cheep\"; did you mean \"cheap\"?\n");
}
