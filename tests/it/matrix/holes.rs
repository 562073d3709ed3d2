//! What works between which SDK and which provider, and whether README.md tells the same.

use super::sessions::{CLIENTS, SCENARIOS};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where README.md lists the holes.
const OPEN: &str = "<!-- holes: read by a test -->\n";
const CLOSE: &str = "<!-- end of holes -->";

/// Client, provider, scenario.
type Place = (String, String, String);

/// Every scenario between every client and every provider: what went wrong, if anything.
#[derive(Default)]
pub struct Cells {
    all: BTreeMap<Place, Option<String>>,
}

fn place(client: &str, provider: &str, scenario: &str) -> Place {
    (client.to_owned(), provider.to_owned(), scenario.to_owned())
}

impl Cells {
    /// A session told how a scenario ended.
    pub fn told(&mut self, client: &str, provider: &str, scenario: &str, error: Option<&str>) {
        assert!(SCENARIOS.contains(&scenario), "{client} plays {scenario:?}, which nobody expects");
        let before = self.all.insert(place(client, provider, scenario), error.map(str::to_owned));
        assert!(before.is_none(), "{client} told {provider} {scenario} twice");
    }

    /// A scenario that no session told of did not work.
    pub fn expect(&mut self, client: &str, provider: &str, scenario: &str) {
        let place = place(client, provider, scenario);
        self.all.entry(place).or_insert_with(|| Some("the session did not come so far".to_owned()));
    }

    /// A provider saw something wrong in a scenario, whatever the client thought of it.
    pub fn fault(&mut self, client: &str, provider: &str, scenario: &str, why: &str) {
        let scenario = match scenario {
            "cut" | "break" => "broken",
            known if SCENARIOS.contains(&known) => known,
            _ => "errors",
        };
        let cell = self.all.entry(place(client, provider, scenario)).or_default();
        let before = cell.take().map(|b| format!("{b}; ")).unwrap_or_default();
        *cell = Some(format!("{before}the provider says: {why}"));
    }

    /// Whether a scenario works.
    pub fn works(&self, client: &str, provider: &str, scenario: &str) -> bool {
        self.all.get(&place(client, provider, scenario)).is_some_and(Option::is_none)
    }

    fn holes(&self) -> BTreeSet<Place> {
        self.all.iter().filter(|(_, error)| error.is_some()).map(|(place, _)| place.clone()).collect()
    }

    /// A table of clients and providers for people to read.
    pub fn table(&self, providers: &[&str]) -> String {
        let mut out = format!("\n{:20}", "");
        providers.iter().for_each(|p| out += &format!("{p:>12}"));
        for client in CLIENTS {
            out += &format!("\n{:20}", client.name);
            for provider in providers {
                let works = SCENARIOS.iter().filter(|s| self.works(client.name, provider, s)).count();
                let cell =
                    if works == SCENARIOS.len() { "ok".to_owned() } else { format!("{works}/{}", SCENARIOS.len()) };
                out += &format!("{cell:>12}");
            }
        }
        out
    }

    /// What went wrong, a line each.
    fn faults(&self) -> String {
        let mut out = String::new();
        for ((client, provider, scenario), error) in &self.all {
            if let Some(error) = error {
                out += &format!("{client} x {provider}, {scenario}: {error}\n");
            }
        }
        out
    }
}

/// The rows `| client | provider | scenarios | why |`; scenarios with commas between, or `all`.
fn listed(page: &str) -> BTreeSet<Place> {
    let (_, rest) = page.split_once(OPEN).unwrap_or_else(|| panic!("README.md has no {OPEN:?}"));
    let (table, _) = rest.split_once(CLOSE).unwrap_or_else(|| panic!("README.md has no {CLOSE:?}"));
    let mut out = BTreeSet::new();
    for row in table.lines().filter(|l| l.starts_with('|')).skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`')).collect();
        let [client, provider, scenarios, why] = cells.as_slice() else { panic!("README.md, holes: {row}") };
        assert!(!why.is_empty(), "README.md, holes: no reason: {row}");
        assert!(CLIENTS.iter().any(|c| c.name == *client), "README.md, holes: no client {client:?}");
        let all = if *scenarios == "all" { SCENARIOS.to_vec() } else { scenarios.split(", ").collect() };
        for scenario in all {
            assert!(SCENARIOS.contains(&scenario), "README.md, holes: no scenario {scenario:?}");
            assert!(out.insert(place(client, provider, scenario)), "README.md, holes: twice: {row}");
        }
    }
    out
}

/// Panics unless the holes are those of README.md.
pub fn compare(cells: &Cells) {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (found, listed) = (cells.holes(), listed(&page));
    let told = |places: Vec<&Place>| places.iter().map(|(c, p, s)| format!("\n  {c} x {p}, {s}")).collect::<String>();
    let (new, gone) = (found.difference(&listed).collect::<Vec<_>>(), listed.difference(&found).collect::<Vec<_>>());
    assert!(new.is_empty(), "holes that README.md does not list:{}\nall of them:\n{}", told(new), cells.faults());
    assert!(gone.is_empty(), "README.md lists holes that there are not:{}", told(gone));
}

#[test]
fn the_list_of_holes_is_read() {
    let page = format!(
        "x\n{OPEN}\n| a | b | c | d |\n|---|---|---|---|\n| `genai_py` | gemini | chat, tools | why |\n{CLOSE}"
    );
    let want = ["chat", "tools"].map(|s| place("genai_py", "gemini", s));
    assert_eq!(listed(&page), BTreeSet::from(want));
}

#[test]
fn a_fault_that_only_the_provider_saw_is_a_hole() {
    let mut cells = Cells::default();
    cells.told("genai_py", "gemini", "chat", None);
    cells.expect("genai_py", "gemini", "tools");
    assert!(cells.works("genai_py", "gemini", "chat") && !cells.works("genai_py", "gemini", "tools"));
    cells.fault("genai_py", "gemini", "chat", "unknown member");
    assert_eq!(cells.holes().len(), 2);
}
