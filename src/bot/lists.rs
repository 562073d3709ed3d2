//! The table and the user's lists, compiled into one search over a user agent.

use super::Kind;
use super::known::{KnownAgent, TABLE};
use crate::config::bots::{BotLists, Bots};
use aho_corasick::{AhoCorasick, Match, MatchKind};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How much of a user agent is read, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 512;
/// Lengths of a user's entry, in bytes.
const ENTRY_BYTES: std::ops::RangeInclusive<usize> = 3..=64;
/// Most entries of a user in all.
const ENTRIES_MAX: usize = 1000;
/// The longest that a DNS check may hold a request up.
const DNS_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// A fault in `bots:`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BotError {
    /// An entry that cannot be searched for.
    #[error("bots.lists.{list}: {entry:?} must be 3 to 64 printable ASCII characters")]
    Entry {
        /// The list's key.
        list: &'static str,
        /// As written.
        entry: String,
    },
    /// More than anybody needs.
    #[error("bots.lists: {0} entries; at most 1000")]
    TooMany(usize),
    /// Too long a wait for a request.
    #[error("bots.dns_timeout: must be above 0 and at most 5s")]
    DnsTimeout,
    /// The search could not be built.
    #[error("bots.lists: {0}")]
    Build(String),
}

/// What a user agent was found to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Listed {
    /// On the user's `deny` list; with the agent that it also names, if any.
    Deny(Option<Arc<KnownAgent>>),
    /// On the user's `allow` list.
    Allow,
    /// A known agent.
    Agent(Arc<KnownAgent>),
}

#[derive(Debug)]
enum Entry {
    Deny,
    Allow,
    Agent { agent: Arc<KnownAgent>, own: bool },
}

/// Who wins when a user agent names several: your own entry, the kind, the longer name.
type Rank = (bool, u8, usize);

/// All names, searched for in one pass.
#[derive(Debug)]
pub struct Lists {
    search: AhoCorasick,
    entries: Vec<Entry>,
    words: Vec<Cow<'static, str>>,
}

impl Lists {
    /// Compiles the table and the user's lists.
    pub fn new(config: &Bots) -> Result<Self, BotError> {
        if config.dns_timeout.0.is_zero() || config.dns_timeout.0 > DNS_TIMEOUT_MAX {
            return Err(BotError::DnsTimeout);
        }
        let mut words: Vec<Cow<'static, str>> = Vec::new();
        let mut entries = Vec::new();
        for (list, name, entry) in own_entries(&config.lists) {
            let printable = name.bytes().all(|b| matches!(b, b' '..=b'~')) && name.trim() == name;
            if !ENTRY_BYTES.contains(&name.len()) || !printable {
                return Err(BotError::Entry { list, entry: name.to_owned() });
            }
            words.push(name.to_owned().into());
            entries.push(entry);
        }
        if entries.len() > ENTRIES_MAX {
            return Err(BotError::TooMany(entries.len()));
        }
        for (name, kind, domains) in TABLE {
            words.push((*name).into());
            let agent = Arc::new(KnownAgent { name: (*name).into(), kind: *kind, domains });
            entries.push(Entry::Agent { agent, own: false });
        }
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(words.iter().map(|w| w.as_bytes()))
            .map_err(|e| BotError::Build(e.to_string()))?;
        Ok(Lists { search, entries, words })
    }

    /// What the user agent says it is. `deny` wins over `allow`, your own entries over the table; among the table's,
    /// the more unwelcome kind wins (a scanner that calls itself Googlebot as well is a scanner), then the longer name.
    pub fn find(&self, user_agent: &str) -> Option<Listed> {
        let bytes = user_agent.as_bytes();
        let text = bytes.get(..USER_AGENT_BYTES_MAX).unwrap_or(bytes);
        let (mut deny, mut allow) = (false, false);
        let mut best: Option<(Rank, &Arc<KnownAgent>)> = None;
        for m in self.search.find_overlapping_iter(text).filter(|m| is_word(text, m)) {
            match self.entries.get(m.pattern().as_usize()) {
                Some(Entry::Deny) => deny = true,
                Some(Entry::Allow) => allow = true,
                Some(Entry::Agent { agent, own }) => {
                    let rank = (*own, rank(agent.kind), self.words.get(m.pattern().as_usize()).map_or(0, |w| w.len()));
                    if best.as_ref().is_none_or(|(b, _)| rank > *b) {
                        best = Some((rank, agent));
                    }
                }
                None => {}
            }
        }
        let agent = best.map(|(_, agent)| agent.clone());
        match (deny, allow) {
            (true, _) => Some(Listed::Deny(agent)),
            (false, true) => Some(Listed::Allow),
            (false, false) => agent.map(Listed::Agent),
        }
    }
}

/// Names that a crawler carries on top of a tool's or an engine's rank above those.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::None => 0,
        Kind::Library => 1,
        Kind::Headless => 2,
        Kind::Monitor => 3,
        Kind::SearchEngine => 4,
        Kind::AiAssistant | Kind::AiCrawler | Kind::Seo => 5,
        Kind::Scanner => 6,
    }
}

/// Whether the match is no part of a longer word: `curl` is in `curl/8`, not in `curly`.
fn is_word(text: &[u8], m: &Match) -> bool {
    let at = |i: usize| text.get(i).copied().unwrap_or(b' ');
    let before = m.start().checked_sub(1).map_or(b' ', at);
    let (first, last, after) = (at(m.start()), at(m.end().saturating_sub(1)), at(m.end()));
    let joined_before = first.is_ascii_alphanumeric() && before.is_ascii_alphanumeric();
    let joined_after = last.is_ascii_alphanumeric() && after.is_ascii_alphabetic();
    !joined_before && !joined_after
}

fn own_entries(lists: &BotLists) -> impl Iterator<Item = (&'static str, &str, Entry)> {
    let agents: [(&'static str, Kind, &Vec<String>); 7] = [
        ("ai_crawlers", Kind::AiCrawler, &lists.ai_crawlers),
        ("ai_assistants", Kind::AiAssistant, &lists.ai_assistants),
        ("search_engines", Kind::SearchEngine, &lists.search_engines),
        ("seo", Kind::Seo, &lists.seo),
        ("monitors", Kind::Monitor, &lists.monitors),
        ("libraries", Kind::Library, &lists.libraries),
        ("scanners", Kind::Scanner, &lists.scanners),
    ];
    let agents = agents.into_iter().flat_map(|(list, kind, names)| {
        names.iter().map(move |name| {
            let agent = Arc::new(KnownAgent { name: name.clone().into(), kind, domains: &[] });
            (list, name.as_str(), Entry::Agent { agent, own: true })
        })
    });
    let allow = lists.allow.iter().map(|name| ("allow", name.as_str(), Entry::Allow));
    let deny = lists.deny.iter().map(|name| ("deny", name.as_str(), Entry::Deny));
    agents.chain(allow).chain(deny)
}
