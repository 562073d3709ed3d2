//! Verdicts on real user agents and on headers that do not fit them.

use super::known::TABLE;
use super::*;
use crate::config::bots::Bots;
use http::{HeaderName, HeaderValue};
use lists::BotError;

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const SAFARI: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15";

fn lists(yaml: &str) -> Lists {
    Lists::new(&serde_yaml::from_str::<Bots>(yaml).unwrap()).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
}

/// What Chrome 131 sends when a person opens a page over TLS.
fn chrome() -> HeaderMap {
    headers(&[
        ("user-agent", CHROME),
        ("accept", "text/html,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.9"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("sec-ch-ua", "\"Google Chrome\";v=\"131\", \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\""),
        ("sec-ch-ua-platform", "\"Windows\""),
        ("sec-fetch-mode", "navigate"),
    ])
}

fn other(ua: &str) -> HeaderMap {
    headers(&[
        ("user-agent", ua),
        ("accept", "*/*"),
        ("accept-language", "en"),
        ("accept-encoding", "gzip"),
        ("sec-fetch-site", "none"),
    ])
}

fn judge(h: &HeaderMap) -> Verdict {
    verdict(&BotFacts { headers: h, version: Version::HTTP_2, tls: true }, &lists("{}"))
}

fn of(ua: &str) -> Verdict {
    judge(&headers(&[("user-agent", ua), ("accept", "*/*")]))
}

/// As seen in logs: user agent, kind, name.
const REAL: &[(&str, Kind, &str)] = &[
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        Kind::AiCrawler,
        "GPTBot",
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
        Kind::AiCrawler,
        "ClaudeBot",
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; +Claude-User@anthropic.com)",
        Kind::AiAssistant,
        "Claude-User",
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
        Kind::AiAssistant,
        "ChatGPT-User",
    ),
    ("Mozilla/5.0 (compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot)", Kind::SearchEngine, "OAI-SearchBot"),
    ("CCBot/2.0 (https://commoncrawl.org/faq/)", Kind::AiCrawler, "CCBot"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
        Kind::AiCrawler,
        "PerplexityBot",
    ),
    (
        "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
        Kind::AiCrawler,
        "Bytespider",
    ),
    (
        "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
        Kind::AiCrawler,
        "meta-externalagent",
    ),
    (
        "Mozilla/5.0 (compatible; Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)",
        Kind::AiCrawler,
        "Amazonbot",
    ),
    (
        "Mozilla/5.0 (Macintosh) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2 Safari/600.2.5 (Applebot/0.1; +http://www.apple.com/go/applebot)",
        Kind::SearchEngine,
        "Applebot",
    ),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Kind::SearchEngine, "Googlebot"),
    ("Googlebot-Image/1.0", Kind::SearchEngine, "Googlebot-Image"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0 Safari/537.36",
        Kind::SearchEngine,
        "bingbot",
    ),
    ("DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)", Kind::SearchEngine, "DuckDuckBot"),
    ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", Kind::SearchEngine, "YandexBot"),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", Kind::Seo, "AhrefsBot"),
    ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", Kind::Seo, "SemrushBot"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", Kind::Monitor, "facebookexternalhit"),
    ("curl/8.10.1", Kind::Library, "curl"),
    ("python-requests/2.32.3", Kind::Library, "python-requests"),
    ("Python-urllib/3.12", Kind::Library, "python-urllib"),
    ("OpenAI/Python 2.54.0", Kind::Library, "OpenAI/Python"),
    ("Go-http-client/2.0", Kind::Library, "Go-http-client"),
    ("Java/17.0.2", Kind::Library, "Java"),
    (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
        Kind::Headless,
        "HeadlessChrome",
    ),
    ("sqlmap/1.8#stable (https://sqlmap.org)", Kind::Scanner, "sqlmap"),
    ("Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:Port Check)", Kind::Scanner, "Nikto"),
];

#[test]
fn real_user_agents_get_their_kind_and_name() {
    for (ua, kind, name) in REAL {
        let v = of(ua);
        assert_eq!((v.kind, v.name(), v.declared), (*kind, Some(*name), true), "{ua}");
        assert_eq!(v.reasons, [Reason::Declared]);
    }
}

#[test]
fn every_row_of_the_table_is_found_by_itself_in_any_case() {
    assert!(TABLE.len() >= 60);
    let l = lists("{}");
    for (name, kind, domains) in TABLE {
        for ua in [format!("{name}/1.0"), format!("Mozilla/5.0 (compatible; {}; +x)", name.to_uppercase())] {
            let Some(Listed::Agent(a)) = l.find(&ua) else { panic!("{ua}") };
            assert_eq!((a.name.as_ref(), a.kind, a.domains), (*name, *kind, *domains), "{ua}");
        }
    }
    let mut names: Vec<_> = TABLE.iter().map(|(n, ..)| n.to_ascii_lowercase()).collect();
    names.sort();
    let rows = names.len();
    names.dedup();
    assert_eq!(names.len(), rows, "a name stands twice");
}

#[test]
fn names_are_whole_words() {
    for ua in ["curly/1", "Mozilla/5.0 (Javanese)", "xGPTBot/1", "mygotten", "sqlmapper"] {
        assert!(!of(ua).declared, "{ua}");
    }
    assert_eq!(of("Mozilla/5.0 (compatible; Googlebot/2.1) sqlmap/1.8").kind, Kind::Scanner);
}

#[test]
fn only_the_first_512_bytes_are_read() {
    let pad = |n: usize| format!("{}GPTBot/1", "x ".repeat(n / 2));
    assert!(of(&pad(504)).declared);
    assert!(!of(&pad(512)).declared);
    assert_eq!(of(&format!("GPTBot {}", "x".repeat(100_000))).kind, Kind::AiCrawler);
}

#[test]
fn a_persons_browser_scores_nothing() {
    for h in [chrome(), other(FIREFOX), other(SAFARI)] {
        let v = judge(&h);
        assert_eq!((v.kind, v.score, v.reasons.as_slice()), (Kind::None, 0, [].as_slice()), "{h:?}");
        assert!(!v.declared && v.agent.is_none() && v.verified.is_none());
    }
    let lists = lists("{}");
    let bare =
        headers(&[("user-agent", CHROME), ("accept", "*/*"), ("accept-language", "en"), ("accept-encoding", "gzip")]);
    let plain = BotFacts { headers: &bare, version: Version::HTTP_11, tls: false };
    assert_eq!(verdict(&plain, &lists).score, 0, "hints are not sent without TLS");
}

#[test]
fn what_a_browser_would_not_leave_out_counts() {
    for (field, reason) in [
        ("accept", Reason::NoAccept),
        ("accept-language", Reason::NoAcceptLanguage),
        ("accept-encoding", Reason::NoAcceptEncoding),
        ("sec-ch-ua", Reason::NoClientHints),
        ("sec-fetch-mode", Reason::NoFetchMetadata),
    ] {
        let mut h = chrome();
        h.remove(field);
        let v = judge(&h);
        assert_eq!(v.reasons, [reason], "{field}");
        assert!((20..50).contains(&v.score), "{field}: {}", v.score);
    }
    let v = judge(&headers(&[("user-agent", CHROME)]));
    assert_eq!(v.score, 100, "a script with a copied user agent");
    let old = verdict(&BotFacts { headers: &chrome(), version: Version::HTTP_10, tls: true }, &lists("{}"));
    assert_eq!(old.reasons, [Reason::OldHttp]);
}

#[test]
fn handshakes_preflights_and_old_browsers_are_not_wronged() {
    let common = [("user-agent", CHROME), ("accept-language", "en"), ("accept-encoding", "gzip")];
    let mut websocket = headers(&common);
    websocket.insert("upgrade", HeaderValue::from_static("websocket"));
    assert_eq!(judge(&websocket).score, 0);
    let mut preflight = headers(&common);
    preflight.insert("accept", HeaderValue::from_static("*/*"));
    preflight.insert("sec-fetch-mode", HeaderValue::from_static("cors"));
    preflight.insert("access-control-request-method", HeaderValue::from_static("PUT"));
    assert_eq!(judge(&preflight).score, 0);
    let mut old = headers(&common);
    old.insert("user-agent", HeaderValue::from_str(&CHROME.replace("131", "70")).unwrap());
    old.insert("accept", HeaderValue::from_static("*/*"));
    assert_eq!(judge(&old).score, 0);
    let mut view = old.clone();
    let ua = "Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.0.0 Mobile Safari/537.36";
    view.insert("user-agent", HeaderValue::from_static(ua));
    assert_eq!(judge(&view).score, 0);
}

#[test]
fn hints_that_contradict_the_user_agent_count() {
    let with = |name: &'static str, value: &'static str| {
        let mut h = chrome();
        h.insert(name, HeaderValue::from_static(value));
        judge(&h)
    };
    assert_eq!(with("sec-ch-ua", "\"Chromium\";v=\"99\"").reasons, [Reason::HintsDisagree]);
    assert_eq!(with("sec-ch-ua-platform", "\"macOS\"").reasons, [Reason::HintsDisagree]);
    assert_eq!(with("sec-ch-ua-platform", "\"Linux\"").reasons, []);
    let v = with("sec-ch-ua", "\"HeadlessChrome\";v=\"131\", \"Chromium\";v=\"131\"");
    assert_eq!((v.kind, v.declared, v.reasons.as_slice()), (Kind::Headless, false, [Reason::HeadlessHint].as_slice()));
    let mut firefox = other(FIREFOX);
    firefox.insert("sec-ch-ua", HeaderValue::from_static("\"Chromium\";v=\"131\""));
    assert_eq!(judge(&firefox).reasons, [Reason::HintsDisagree]);
    // A phone that was asked to show the desktop site.
    let mut desktop = chrome();
    let ua = CHROME.replace("Windows NT 10.0; Win64; x64", "X11; Linux x86_64");
    desktop.insert("user-agent", HeaderValue::from_str(&ua).unwrap());
    desktop.insert("sec-ch-ua-platform", HeaderValue::from_static("\"Android\""));
    assert_eq!(judge(&desktop).reasons, []);
}

#[test]
fn missing_and_unknown_user_agents() {
    assert_eq!(judge(&HeaderMap::new()).reasons, [Reason::NoUserAgent, Reason::NoAccept]);
    assert_eq!(judge(&headers(&[("user-agent", "  ")])).score, 80);
    let v = of("my-script/1.0");
    assert_eq!((v.kind, v.reasons.as_slice()), (Kind::None, [Reason::UnknownUserAgent].as_slice()));
    let mut binary = HeaderMap::new();
    binary.insert("user-agent", HeaderValue::from_bytes(b"GPT\xffBot").unwrap());
    assert_eq!(judge(&binary).reasons[0], Reason::NoUserAgent);
}

#[test]
fn your_lists_win_over_the_table() {
    let l = lists(
        "lists: { ai_crawlers: [AcmeBot], ai_assistants: [AcmeUser], search_engines: [curl], seo: [AcmeSeo],
          monitors: [AcmeProbe], libraries: [AcmeLib], scanners: [AcmeScan], allow: [Trusty], deny: [python-requests, BadThing] }",
    );
    let of = |ua: &str| {
        let h = headers(&[("user-agent", ua)]);
        verdict(&BotFacts { headers: &h, version: Version::HTTP_11, tls: false }, &l)
    };
    for (ua, kind) in [
        ("acmebot/2", Kind::AiCrawler),
        ("AcmeUser", Kind::AiAssistant),
        ("curl/8", Kind::SearchEngine),
        ("AcmeSeo", Kind::Seo),
        ("AcmeProbe", Kind::Monitor),
        ("AcmeLib/1 Go-http-client/1.1", Kind::Library),
        ("AcmeScan", Kind::Scanner),
    ] {
        assert_eq!(of(ua).kind, kind, "{ua}");
    }
    let allowed = of("GPTBot Trusty/1");
    assert_eq!(
        (allowed.kind, allowed.score, allowed.reasons.as_slice()),
        (Kind::None, 0, [Reason::AllowListed].as_slice())
    );
    let denied = of("python-requests/2 Trusty/1");
    assert_eq!((denied.kind, denied.score), (Kind::Library, 100));
    assert_eq!(denied.reasons, [Reason::Declared, Reason::DenyListed]);
    assert_eq!(of("BadThing/1").reasons, [Reason::DenyListed]);
    assert_eq!(of("BadThing/1").score, 100);
}

#[test]
fn faults_of_the_configuration() {
    let fault = |yaml: &str| Lists::new(&serde_yaml::from_str::<Bots>(yaml).unwrap()).unwrap_err();
    let e = fault("lists: { deny: [ok-name, ab] }");
    assert_eq!(e.to_string(), "bots.lists.deny: \"ab\" must be 3 to 64 printable ASCII characters");
    assert!(matches!(fault("lists: { allow: ['Bücher'] }"), BotError::Entry { list: "allow", .. }));
    assert!(matches!(fault("lists: { allow: [' padded '] }"), BotError::Entry { .. }));
    assert_eq!(fault("dns_timeout: 6s"), BotError::DnsTimeout);
    assert_eq!(fault("dns_timeout: 0s"), BotError::DnsTimeout);
    let many = (0..1001).map(|i| format!("bot{i}")).collect();
    let mut config = Bots::default();
    config.lists.seo = many;
    assert_eq!(Lists::new(&config).unwrap_err(), BotError::TooMany(1001));
}

#[test]
fn dns_settles_who_it_is() {
    let google = of("Mozilla/5.0 (compatible; Googlebot/2.1)");
    let proven = google.clone().verified_by_dns(Some(true));
    assert_eq!((proven.verified, proven.score, proven.reasons[1]), (Some(true), 0, Reason::DnsVerified));
    let impostor = google.clone().verified_by_dns(Some(false));
    assert_eq!((impostor.verified, impostor.score, impostor.reasons[1]), (Some(false), 100, Reason::DnsRefuted));
    assert_eq!(google.clone().verified_by_dns(None), google);
}

#[test]
fn any_headers_are_survived() {
    let l = lists("{}");
    proptest::proptest!(|(ua in "\\PC{0,600}", ch in "\\PC{0,100}")| {
        let mut h = chrome();
        if let Ok(v) = HeaderValue::from_str(&ua) { h.insert("user-agent", v); }
        if let Ok(v) = HeaderValue::from_str(&ch) { h.insert("sec-ch-ua", v); }
        let v = verdict(&BotFacts { headers: &h, version: Version::HTTP_2, tls: true }, &l);
        proptest::prop_assert!(v.score <= 100);
    });
}
