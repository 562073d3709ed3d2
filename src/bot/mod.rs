//! Who is a machine, who says so, and who pretends not to be.
//!
//! [`verdict`] reads headers only and is pure. A client that names itself (a crawler, a tool) gets its kind from a
//! table; one that claims to be a browser is held to what browsers send. Where an agent publishes its host names,
//! [`verify::DnsVerifier`] can prove or refute the claim, and [`Verdict::verified_by_dns`] takes the outcome in.

use http::{HeaderMap, Version};
use std::sync::Arc;

pub mod known;
pub mod lists;
mod signals;
pub mod verify;

use known::KnownAgent;
use lists::{Listed, Lists};

/// What sort of client this is by its own account; `None` when it claims to be a browser, or says nothing we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not a known automated agent.
    None,
    /// Indexes the web for search.
    SearchEngine,
    /// Collects text to train or feed models.
    AiCrawler,
    /// Fetches because a person asked a model about the page.
    AiAssistant,
    /// Audits sites and links for marketing.
    Seo,
    /// Watches availability, or fetches previews and feeds.
    Monitor,
    /// An HTTP library or command-line tool.
    Library,
    /// A browser without a person in front of it.
    Headless,
    /// A vulnerability scanner.
    Scanner,
}

impl Kind {
    /// Every kind, for metric registration.
    pub const ALL: [Kind; 9] = [
        Kind::None,
        Kind::SearchEngine,
        Kind::AiCrawler,
        Kind::AiAssistant,
        Kind::Seo,
        Kind::Monitor,
        Kind::Library,
        Kind::Headless,
        Kind::Scanner,
    ];

    /// The one spelling used in the policy script, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::SearchEngine => "search_engine",
            Kind::AiCrawler => "ai_crawler",
            Kind::AiAssistant => "ai_assistant",
            Kind::Seo => "seo",
            Kind::Monitor => "monitor",
            Kind::Library => "library",
            Kind::Headless => "headless",
            Kind::Scanner => "scanner",
        }
    }

    /// The score of a client that openly says it is of this kind: how unwelcome it usually is.
    fn score(self) -> u8 {
        match self {
            Kind::None => 0,
            Kind::SearchEngine | Kind::Monitor => 10,
            Kind::AiAssistant => 20,
            Kind::AiCrawler | Kind::Seo => 30,
            Kind::Library => 50,
            Kind::Headless => 80,
            Kind::Scanner => 100,
        }
    }
}

/// Why the verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The user agent names a known agent.
    Declared,
    /// The user agent is on your `allow` list.
    AllowListed,
    /// The user agent is on your `deny` list.
    DenyListed,
    /// There is no user agent, or an empty one.
    NoUserAgent,
    /// Neither a browser nor an agent we know.
    UnknownUserAgent,
    /// No `Accept`.
    NoAccept,
    /// A browser without `Accept-Language`.
    NoAcceptLanguage,
    /// A browser without `Accept-Encoding`.
    NoAcceptEncoding,
    /// A browser of today that speaks HTTP/1.0.
    OldHttp,
    /// Chrome over TLS without `Sec-CH-UA`.
    NoClientHints,
    /// A browser of today over TLS without `Sec-Fetch-*`.
    NoFetchMetadata,
    /// `Sec-CH-UA*` contradicts the user agent.
    HintsDisagree,
    /// `Sec-CH-UA` admits a headless browser.
    HeadlessHint,
    /// The address belongs to the agent that the client says it is.
    DnsVerified,
    /// The address does not belong to it: an impostor.
    DnsRefuted,
}

impl Reason {
    /// The one spelling used in the policy script and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Declared => "declared",
            Reason::AllowListed => "allow_listed",
            Reason::DenyListed => "deny_listed",
            Reason::NoUserAgent => "no_user_agent",
            Reason::UnknownUserAgent => "unknown_user_agent",
            Reason::NoAccept => "no_accept",
            Reason::NoAcceptLanguage => "no_accept_language",
            Reason::NoAcceptEncoding => "no_accept_encoding",
            Reason::OldHttp => "old_http",
            Reason::NoClientHints => "no_client_hints",
            Reason::NoFetchMetadata => "no_fetch_metadata",
            Reason::HintsDisagree => "hints_disagree",
            Reason::HeadlessHint => "headless_hint",
            Reason::DnsVerified => "dns_verified",
            Reason::DnsRefuted => "dns_refuted",
        }
    }
}

/// What is known of a request when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct BotFacts<'a> {
    /// The header fields as they came.
    pub headers: &'a HeaderMap,
    /// The protocol version.
    pub version: Version,
    /// Whether the client came over TLS: browsers send hints and fetch metadata only there.
    pub tls: bool,
}

/// What we make of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Its sort.
    pub kind: Kind,
    /// The agent it says it is.
    pub agent: Option<Arc<KnownAgent>>,
    /// Whether it names itself as an automated agent.
    pub declared: bool,
    /// Whether DNS bears the name out; `None`: not checked, or not to be had.
    pub verified: Option<bool>,
    /// 0 (a person's browser, as far as headers tell, or an honest search engine) to 100 (a scanner or an impostor).
    pub score: u8,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// The agent's name, if it is a known one.
    pub fn name(&self) -> Option<&str> {
        self.agent.as_deref().map(|a| a.name.as_ref())
    }

    /// Takes in what [`verify::DnsVerifier::verify`] found.
    pub fn verified_by_dns(mut self, outcome: Option<bool>) -> Self {
        self.verified = outcome;
        match outcome {
            Some(true) => {
                self.reasons.push(Reason::DnsVerified);
                self.score = self.score.saturating_sub(10);
            }
            Some(false) => {
                self.reasons.push(Reason::DnsRefuted);
                self.score = 100;
            }
            None => {}
        }
        self
    }

    fn plain(reason: Reason, score: u8) -> Self {
        Verdict { kind: Kind::None, agent: None, declared: false, verified: None, score, reasons: vec![reason] }
    }

    fn declared(agent: Arc<KnownAgent>) -> Self {
        Verdict {
            kind: agent.kind,
            score: agent.kind.score(),
            agent: Some(agent),
            declared: true,
            verified: None,
            reasons: vec![Reason::Declared],
        }
    }
}

/// Judges a client by its headers.
pub fn verdict(facts: &BotFacts<'_>, lists: &Lists) -> Verdict {
    let user_agent = signals::user_agent(facts.headers);
    match lists.find(user_agent) {
        Some(Listed::Deny(agent)) => {
            let mut v = agent.map_or_else(|| Verdict::plain(Reason::DenyListed, 100), Verdict::declared);
            v.score = 100;
            if v.declared {
                v.reasons.push(Reason::DenyListed);
            }
            v
        }
        Some(Listed::Allow) => Verdict::plain(Reason::AllowListed, 0),
        Some(Listed::Agent(agent)) => Verdict::declared(agent),
        None => signals::judge(facts, user_agent),
    }
}

#[cfg(test)]
mod tests;
