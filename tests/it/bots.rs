//! Bots: what the script sees of a client that says, or shows, that it is no person.

use crate::harness::edge::{Edge, Setup};

const BROWSER: &[(&str, &str)] = &[
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9"),
    ("Accept-Encoding", "gzip, deflate, br"),
];
const SCRIPT: &str = r#"
fn on_request(req) {
    if req.bot.kind == "ai_crawler" { return deny(403, "see /robots.txt"); }
    respond(200, to_json(#{ kind: req.bot.kind, name: req.bot.name, declared: req.bot.declared, score: req.bot.score, reasons: req.bot.reasons }), "application/json")
}"#;

async fn gate(bots: &str) -> Edge {
    let yaml = format!(
        "{bots}policy: {{ script: policy.rhai }}\nroutes: [ {{ respond: {{ status: 200 }}, policy: true }} ]\n"
    );
    Setup::new(&yaml).file("policy.rhai", SCRIPT).start().await
}

async fn agent(edge: &Edge, agent: &str) -> crate::harness::client::Response {
    edge.ask("GET", "/", &[("User-Agent", agent), ("Accept", "*/*")], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ai_crawlers_are_refused_and_people_are_not() {
    let edge = gate("").await;
    for crawler in [
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
        "CCBot/2.0 (https://commoncrawl.org/faq/)",
    ] {
        let answer = agent(&edge, crawler).await;
        assert_eq!((answer.status, answer.source(), answer.reason()), (403, "policy", "policy_deny"), "{crawler}");
    }
    let person = edge.ask("GET", "/", BROWSER, b"").await;
    assert_eq!(person.status, 200);
    let verdict = person.json();
    assert!(verdict["score"].as_u64().unwrap() < 50, "{verdict}");
    assert_eq!(verdict["declared"], false, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_marks_of_a_browser_scores_higher_and_says_why() {
    let edge = gate("").await;
    let bare = edge.get("/").await.json();
    let person = edge.ask("GET", "/", BROWSER, b"").await.json();
    assert!(bare["score"].as_u64() > person["score"].as_u64(), "{bare} {person}");
    assert!(!bare["reasons"].as_array().unwrap().is_empty(), "{bare}");
    let tool = agent(&edge, "curl/8.5.0").await.json();
    assert!(tool["score"].as_u64() > person["score"].as_u64(), "{tool}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_the_configuration_count() {
    let edge = gate("bots: { lists: { ai_crawlers: [FooTrainer], allow: [OurProbe] } }\n").await;
    assert_eq!(agent(&edge, "FooTrainer/3.1").await.status, 403);
    let ours = agent(&edge, "OurProbe/1.0").await.json();
    assert_eq!(ours["score"], 0, "{ours}");
}
