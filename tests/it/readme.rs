//! The README's reference sections are written from the program's own tables. `SLUICEGATE_UPDATE=1 cargo test readme`
//! writes them anew; without it a stale one is a failure.

use sluicegate::observe::metrics;
use sluicegate::policy::host;
use std::path::PathBuf;

fn root(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn updating() -> bool {
    std::env::var_os("SLUICEGATE_UPDATE").is_some()
}

/// Puts `text` between the marks of `name`.
fn filled(page: &str, name: &str, text: &str) -> String {
    let (open, close) = (format!("<!-- {name}: generated -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&open).unwrap_or_else(|| panic!("README.md has no {open:?}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("README.md has no {close:?}"));
    format!("{before}{open}\n{}\n{close}{after}", text.trim_end())
}

#[test]
fn the_references_are_those_of_the_program() {
    let page = std::fs::read_to_string(root("README.md")).unwrap();
    let page_now = filled(&page, "metrics", &metrics::reference());
    let page_now = filled(&page_now, "policy functions", &host::reference());
    if updating() {
        std::fs::write(root("README.md"), &page_now).unwrap();
    }
    assert!(page == page_now || updating(), "README.md is stale: SLUICEGATE_UPDATE=1 cargo test readme");
}

#[test]
fn files_and_commands_that_the_readme_names_exist() {
    let page = std::fs::read_to_string(root("README.md")).unwrap();
    let mut checked = 0;
    for word in page.split(|c: char| c.is_whitespace() || "`()[]\"',;".contains(c)) {
        let path = word.trim_end_matches(['.', ':', '/']);
        let ours = ["conf/", "scripts/", "src/", "tests/", "benches/"].iter().any(|p| path.starts_with(p));
        if ours && !path.contains(['*', '{', '$']) {
            assert!(root(path).exists(), "README.md names {path}, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}
