//! What the headers of a client that names no agent give away: browsers are held to what browsers send.
//!
//! Facts about browsers: client hints (`Sec-CH-UA`) are sent over TLS by Chromium since 89; fetch metadata
//! (`Sec-Fetch-*`) over TLS by Chromium since 80, Firefox since 90, Safari since 16.4. Neither goes with every kind of
//! request: a WebSocket handshake has no `Accept` and no hints, a CORS preflight no hints.

use super::{BotFacts, Kind, Reason, Verdict};
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, UPGRADE, USER_AGENT};
use http::{HeaderMap, Version};

/// The first major versions that are held to it, with room for odd builds.
const CHROME_HINTS: u32 = 95;
const CHROME_FETCH: u32 = 85;
const FIREFOX_FETCH: u32 = 95;
const SAFARI_FETCH: u32 = 17;

/// The user agent, or nothing where it is missing or no text.
pub fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).map_or("", str::trim)
}

/// Judges a client that names no agent we know.
pub fn judge(facts: &BotFacts<'_>, user_agent: &str) -> Verdict {
    let mut tally = Tally::default();
    let mut kind = Kind::None;
    if user_agent.is_empty() {
        tally.add(Reason::NoUserAgent, 60);
        tally.add_if(!facts.headers.contains_key(ACCEPT), Reason::NoAccept, 20);
    } else if let Some(browser) = Browser::of(user_agent) {
        browser.check(facts, user_agent, &mut tally);
        if tally.reasons.contains(&Reason::HeadlessHint) {
            kind = Kind::Headless;
        }
    } else {
        tally.add(Reason::UnknownUserAgent, 40);
        tally.add_if(!facts.headers.contains_key(ACCEPT), Reason::NoAccept, 10);
    }
    let score = u8::try_from(tally.score.min(100)).unwrap_or(100);
    Verdict { kind, agent: None, declared: false, verified: None, score, reasons: tally.reasons }
}

#[derive(Default)]
struct Tally {
    score: u32,
    reasons: Vec<Reason>,
}

impl Tally {
    fn add(&mut self, reason: Reason, score: u32) {
        self.score += score;
        self.reasons.push(reason);
    }

    fn add_if(&mut self, seen: bool, reason: Reason, score: u32) {
        if seen {
            self.add(reason, score);
        }
    }
}

/// A browser as a user agent claims it, with its major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Browser {
    /// Chromium and its many names, but for embedded web views.
    Chrome(u32),
    /// Firefox.
    Firefox(u32),
    /// Safari, and every browser on iOS.
    Safari(u32),
    /// Something else that begins like a browser.
    Other,
}

impl Browser {
    /// Reads the claim; `None` for what does not even look like a browser.
    pub fn of(ua: &str) -> Option<Self> {
        if !ua.starts_with("Mozilla/") && !ua.starts_with("Opera/") {
            return None;
        }
        // An Android web view may be told by its app to leave fields out.
        if ua.contains("; wv)") {
            return Some(Browser::Other);
        }
        Some(if let Some(v) = major(ua, "Chrome/") {
            Browser::Chrome(v)
        } else if let Some(v) = major(ua, "Firefox/") {
            Browser::Firefox(v)
        } else if let Some(v) = major(ua, "Version/").filter(|_| ua.contains("Safari/")) {
            Browser::Safari(v)
        } else {
            Browser::Other
        })
    }

    fn check(self, facts: &BotFacts<'_>, user_agent: &str, tally: &mut Tally) {
        let h = facts.headers;
        tally.add_if(matches!(facts.version, Version::HTTP_09 | Version::HTTP_10), Reason::OldHttp, 30);
        tally.add_if(!h.contains_key(ACCEPT_LANGUAGE), Reason::NoAcceptLanguage, 25);
        tally.add_if(!h.contains_key(ACCEPT_ENCODING), Reason::NoAcceptEncoding, 20);
        // An h2 WebSocket (RFC 8441) has no `Upgrade` but always this one.
        if h.contains_key(UPGRADE) || h.contains_key("sec-websocket-version") {
            return;
        }
        tally.add_if(!h.contains_key(ACCEPT), Reason::NoAccept, 25);
        if facts.tls {
            let preflight = h.contains_key("access-control-request-method");
            let hints = matches!(self, Browser::Chrome(v) if v >= CHROME_HINTS) && !preflight;
            tally.add_if(hints && !h.contains_key("sec-ch-ua"), Reason::NoClientHints, 30);
            tally.add_if(self.sends_fetch_metadata() && !has_fetch_metadata(h), Reason::NoFetchMetadata, 30);
        }
        let brands = text(h, "sec-ch-ua");
        tally.add_if(brands.contains("Headless"), Reason::HeadlessHint, 80);
        tally.add_if(self.contradicts(h, brands, user_agent), Reason::HintsDisagree, 40);
    }

    fn sends_fetch_metadata(self) -> bool {
        match self {
            Browser::Chrome(v) => v >= CHROME_FETCH,
            Browser::Firefox(v) => v >= FIREFOX_FETCH,
            Browser::Safari(v) => v >= SAFARI_FETCH,
            Browser::Other => false,
        }
    }

    /// Hints of another version or platform than the user agent's, or hints from a browser that has none.
    fn contradicts(self, h: &HeaderMap, brands: &str, user_agent: &str) -> bool {
        if brands.is_empty() {
            return false;
        }
        let version_differs = match self {
            Browser::Chrome(v) => {
                brands.contains("\"Chromium\"") && !brands.contains(&format!("\"Chromium\";v=\"{v}\""))
            }
            Browser::Firefox(_) | Browser::Safari(_) => true,
            Browser::Other => false,
        };
        let in_user_agent = match text(h, "sec-ch-ua-platform").trim_matches('"') {
            "Windows" => "Windows",
            "macOS" => "Mac OS X",
            "Android" => "Android",
            // Chrome OS and Linux user agents both begin with X11; others come and go.
            _ => "",
        };
        // A phone that asks for the desktop site says Linux in the user agent and Android in the hint.
        let platform_differs = !user_agent.contains(in_user_agent) && !user_agent.contains("X11; Linux");
        version_differs || platform_differs
    }
}

fn has_fetch_metadata(h: &HeaderMap) -> bool {
    h.contains_key("sec-fetch-mode") || h.contains_key("sec-fetch-site") || h.contains_key("sec-fetch-dest")
}

fn text<'a>(h: &'a HeaderMap, name: &str) -> &'a str {
    h.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// The number right after `product`.
fn major(ua: &str, product: &str) -> Option<u32> {
    let (_, rest) = ua.split_once(product)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}
