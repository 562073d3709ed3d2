//! Patterns (regular expressions, globs, networks): compiled when the script is loaded, looked up when it runs.

use super::guard::Eyes;
use super::{Literal, refuse};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use rhai::{Engine, EvalAltResult};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// Different patterns in one script.
const PATTERNS_MAX: usize = 256;
/// Bytes that one compiled regular expression may take. Matching is linear in the text, but with this as the factor;
/// `\w` with all of Unicode fits, counted repetitions of repetitions do not.
const REGEX_BYTES_MAX: usize = 64 << 10;

/// Every pattern of one script. Filled once at load, read without a lock ever after.
#[derive(Debug, Default)]
pub(in crate::policy) struct Patterns {
    table: OnceLock<Table>,
}

#[derive(Debug, Default)]
pub(in crate::policy) struct Table {
    regexes: HashMap<String, Regex>,
    globs: HashMap<String, glob::Pattern>,
    networks: HashMap<String, IpNet>,
    eyes: Option<Eyes>,
}

impl Table {
    /// Takes what the guards' functions need.
    pub(in crate::policy) fn open(&mut self, eyes: Eyes) {
        self.eyes = Some(eyes);
    }

    pub(super) fn eyes(&self) -> Option<&Eyes> {
        self.eyes.as_ref()
    }

    /// Compiles a pattern; the text says what is wrong with it.
    pub(in crate::policy) fn add(&mut self, kind: Literal, text: &str) -> Result<(), String> {
        if self.regexes.len() + self.globs.len() + self.networks.len() >= PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} patterns"));
        }
        match kind {
            Literal::Regex => {
                let re = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|e| last_line(&e))?;
                self.regexes.insert(text.to_owned(), re);
            }
            Literal::Glob => {
                let pattern = glob::Pattern::new(text).map_err(|e| format!("bad glob: {}", e.msg))?;
                self.globs.insert(text.to_owned(), pattern);
            }
            Literal::Network => {
                let net = text.parse::<IpNet>().or_else(|e| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| e));
                self.networks.insert(text.to_owned(), net.map_err(|_| format!("{text:?} is no network"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The regex crate draws the place over several lines; its last line says what is wrong.
fn last_line(e: &regex::Error) -> String {
    let text = e.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("bad regular expression: {}", last.trim_start_matches("error: "))
}

impl Patterns {
    /// Fills the table; only the first time counts.
    pub(in crate::policy) fn fill(&self, table: Table) {
        let _ = self.table.set(table);
    }

    /// The table, once it is filled.
    pub(super) fn table(&self) -> Option<&Table> {
        self.table.get()
    }
}

pub(super) fn register(engine: &mut Engine, patterns: &Arc<Patterns>) {
    let table = Arc::clone(patterns);
    engine.register_fn("matches", move |text: &str, pattern: &str| -> Result<bool, Box<EvalAltResult>> {
        let known = table.table.get().and_then(|t| t.regexes.get(pattern));
        known.map(|re| re.is_match(text)).ok_or_else(|| not_a_literal("matches"))
    });
    let table = Arc::clone(patterns);
    engine.register_fn("glob", move |text: &str, pattern: &str| -> Result<bool, Box<EvalAltResult>> {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let known = table.table.get().and_then(|t| t.globs.get(pattern));
        known.map(|p| p.matches_with(text, options)).ok_or_else(|| not_a_literal("glob"))
    });
    let table = Arc::clone(patterns);
    engine.register_fn("ip_in", move |ip: &str, network: &str| -> Result<bool, Box<EvalAltResult>> {
        let net = table.table.get().and_then(|t| t.networks.get(network)).ok_or_else(|| not_a_literal("ip_in"))?;
        Ok(ip.parse::<IpAddr>().is_ok_and(|ip| net.contains(&ip.to_canonical())))
    });
}

fn not_a_literal(name: &str) -> Box<EvalAltResult> {
    refuse(format!("{name}: the pattern must be a literal (it is compiled when the script is loaded)"))
}
