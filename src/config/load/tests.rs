//! Faults carry file, line and a suggestion, and all of them come at once.

use super::*;

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let d = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(d.path().join(name), text).unwrap();
    }
    d
}

fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let d = dir(files);
    let prefix = format!("{}/", d.path().display());
    let e = load(&d.path().join(files[0].0)).unwrap_err();
    e.iter().map(|f| f.to_string().replace(&prefix, "")).collect()
}

#[test]
fn unknown_keys_are_reported_all_at_once_with_place_and_suggestion() {
    let got = faults(&[(
        "a.yaml",
        "listenrs: {}\nserver:\n  thread: 2\nroutes:\n  - match: { hots: x }\n    upstream: app\n",
    )]);
    assert_eq!(
        got,
        [
            "a.yaml:1:1: listenrs: unknown key; did you mean \"listeners\"?",
            "a.yaml:3:3: server.thread: unknown key; did you mean \"threads\"?",
            "a.yaml:5:14: routes[0].match.hots: unknown key; did you mean \"host\"?",
        ]
    );
}

#[test]
fn values_of_the_wrong_kind_say_what_was_expected() {
    let got = faults(&[("a.yaml", "server: { threads: many, grace_period: 10 parsecs }\n")]);
    assert_eq!(got, ["a.yaml:1:11: server.threads: expected a whole number, found a text"]);
    let got = faults(&[("a.yaml", "server: { grace_period: 10 parsecs }\n")]);
    assert!(got[0].starts_with("a.yaml:1:11: server.grace_period: \"10 parsecs\" is not a duration"), "{got:?}");
}

#[test]
fn malformed_yaml_names_the_line() {
    let got = faults(&[("a.yaml", "routes:\n  - [\n")]);
    assert!(got[0].starts_with("a.yaml:"), "{got:?}");
}

#[test]
fn a_missing_file_is_named() {
    let e = load(Path::new("/nonexistent/x.yaml")).unwrap_err();
    assert!(e[0].to_string().contains("/nonexistent/x.yaml: cannot read"), "{e:?}");
}

#[test]
fn includes_merge_and_a_name_defined_twice_is_a_fault() {
    let d = dir(&[
        (
            "a.yaml",
            "include: [b*.yaml]\nupstreams: { one: { servers: [\"127.0.0.1:1\"] } }\nroutes: [ { upstream: one } ]\n",
        ),
        ("b.yaml", "upstreams: { two: { servers: [\"127.0.0.1:2\"] } }\nroutes: [ { upstream: two } ]\n"),
    ]);
    let loaded = load(&d.path().join("a.yaml")).unwrap();
    assert_eq!(loaded.config.routes.len(), 2);
    assert_eq!(loaded.config.upstreams.len(), 2);
    let at = loaded.sources.locate(vec![Fault::at("routes[1].upstream", "x"), Fault::at("upstreams.two", "y")]);
    assert!(at[0].to_string().contains("b.yaml:2:"), "{}", at[0]);
    assert!(at[1].to_string().contains("b.yaml:1:"), "{}", at[1]);

    let got = faults(&[
        ("a.yaml", "include: [b.yaml]\nupstreams: { one: { servers: [\"127.0.0.1:1\"] } }\n"),
        ("b.yaml", "upstreams: { one: { servers: [\"127.0.0.1:2\"] } }\n"),
    ]);
    assert!(got[0].contains("upstreams.one: defined again in"), "{got:?}");
}
