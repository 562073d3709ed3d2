//! Every script that ships is loaded, and each of its hooks decides something.

use super::{Organs, names, request, response, roomy};
use crate::base::clock::Clock;
use crate::policy::decision::{AiCache, PromptDecision, PromptDirectives, RequestDecision};
use crate::policy::facts::{BotView, Oracle, PromptFacts, RequestFacts};
use crate::policy::{Names, Policy};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/policy")
}

fn shipped(file: &str, names: &Names) -> Policy {
    let source = fs::read_to_string(folder().join(file)).unwrap();
    Policy::load(&source, file, names, &roomy(), &Clock::system()).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>());
    })
}

fn with(organs: Organs, path: &str) -> Arc<RequestFacts> {
    Arc::new(RequestFacts { oracle: Arc::new(organs) as Arc<dyn Oracle>, ..request(path) })
}

fn prompt(text: &str) -> Arc<PromptFacts> {
    let chars = text.chars().count();
    Arc::new(PromptFacts { text: text.into(), chars, turns: 1, temperature: Some(0.0), ..PromptFacts::default() })
}

fn go_on(decision: PromptDecision) -> PromptDirectives {
    match decision {
        PromptDecision::Continue(d) => d,
        PromptDecision::Refuse(r) => panic!("{r:?}"),
    }
}

#[test]
fn every_shipped_script_loads_and_every_hook_of_it_runs() {
    let mut files = vec![folder().join("default.rhai")];
    files.extend(fs::read_dir(folder().join("examples")).unwrap().map(|f| f.unwrap().path()));
    assert!(files.len() >= 6);
    for file in files {
        let policy = shipped(file.to_str().unwrap(), &names());
        let req = with(Organs::default(), "/blog/a");
        policy.on_request(&req).unwrap();
        policy.on_prompt(&req, &prompt("hello")).unwrap();
        policy.on_origin_response(&req, &response(200)).unwrap();
        policy.on_response(&req, &response(200)).unwrap();
        policy.on_log(&req, &response(200), &super::entry()).unwrap();
    }
}

#[test]
fn the_default_policy_needs_no_configured_name() {
    shipped("default.rhai", &Names::default());
}

#[test]
fn the_default_policy_refuses_unverified_ai_crawlers_and_picks_tiers() {
    let policy = shipped("default.rhai", &names());
    let crawler = |verified| Organs {
        bot: BotView { kind: "ai_crawler".into(), verified, ..BotView::default() },
        ..Organs::default()
    };
    assert!(
        matches!(policy.on_request(&with(crawler(false), "/")).unwrap(), RequestDecision::Refuse(r) if r.status == 403)
    );
    assert!(matches!(policy.on_request(&with(crawler(true), "/")).unwrap(), RequestDecision::Continue(_)));
    let req = with(Organs::default(), "/v1/chat/completions");
    let d = go_on(policy.on_prompt(&req, &prompt("What is HTTP?")).unwrap());
    assert_eq!((d.tier.as_deref(), d.cache), (Some("cheap"), Some(AiCache::Semantic)));
    let d = go_on(policy.on_prompt(&req, &prompt("Prove it step by step")).unwrap());
    assert_eq!(d.tier.as_deref(), Some("standard"));
    let warm = PromptFacts { temperature: None, ..(*prompt("hi")).clone() };
    assert_eq!(go_on(policy.on_prompt(&req, &Arc::new(warm)).unwrap()).cache, Some(AiCache::Exact));
}

#[test]
fn the_account_example_asks_for_a_token_and_tells_the_app_who_it_is() {
    let policy = shipped("examples/jwt_account.rhai", &names());
    let ask = |claims, path| policy.on_request(&with(Organs { claims, ..Organs::default() }, path)).unwrap();
    assert!(matches!(ask(None, "/account/a"), RequestDecision::Refuse(r) if r.status == 401));
    let RequestDecision::Continue(d) = ask(Some(json!({"sub": "u1"})), "/account/a") else { panic!() };
    assert_eq!((d.request_headers.len(), d.notes[0].1.len()), (1, 12));
    assert!(
        matches!(ask(Some(json!({"sub": "u", "suspended": true})), "/account/a"), RequestDecision::Refuse(r) if r.status == 403)
    );
    assert!(matches!(ask(None, "/"), RequestDecision::Continue(_)));
}

#[test]
fn the_other_examples_decide_what_they_say() {
    let req = with(Organs::default(), "/checkout/a");
    let RequestDecision::Continue(d) = shipped("examples/ab_test.rhai", &names()).on_request(&req).unwrap() else {
        panic!()
    };
    assert_eq!(d.vary, req.arms());

    let d = shipped("examples/cache_rules.rhai", &names())
        .on_origin_response(&with(Organs::default(), "/blog/x"), &response(200));
    assert_eq!(d.unwrap().tags, ["blog"]);

    let tiers = shipped("examples/ai_tiers.rhai", &names());
    assert_eq!(
        go_on(tiers.on_prompt(&req, &prompt("hi")).unwrap()).tier.as_deref(),
        Some("best"),
        "an enterprise user"
    );
    let anyone = Arc::new(RequestFacts { user: None, ..request("/") });
    assert_eq!(go_on(tiers.on_prompt(&anyone, &prompt("hi")).unwrap()).threshold, Some(0.92));
    assert_eq!(go_on(tiers.on_prompt(&anyone, &prompt("news of today")).unwrap()).cache, Some(AiCache::Exact));

    let pretender = BotView { kind: "search_engine".into(), declared: true, ..BotView::default() };
    let outside = RequestFacts {
        ip: "192.0.2.1".parse().unwrap(),
        oracle: Arc::new(Organs { bot: pretender, ..Organs::default() }),
        ..request("/")
    };
    let d = shipped("examples/bots.rhai", &names()).on_request(&Arc::new(outside)).unwrap();
    assert!(matches!(d, RequestDecision::Refuse(r) if r.status == 403));
}
