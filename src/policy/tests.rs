//! Tests of the policy brain: what hooks decide, and what they share.

mod attacks;
mod faults;
mod shipped;

use super::decision::{AiCache, CacheUse, HeaderOp, PromptDecision, RequestDecision, Storing};
use super::facts::{BotView, LogFacts, Memo, Oracle, PromptFacts, RequestFacts, ResponseFacts};
use super::hook::Hook;
use super::{Limits, Names, Policy};
use crate::base::clock::Clock;
use crate::base::reply::Body;
use crate::base::source::Source;
use crate::base::units::Money;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Organs that answer as a test says, and count how often they are asked.
#[derive(Default)]
struct Organs {
    claims: Option<Value>,
    bot: BotView,
    asked: AtomicUsize,
}

impl Oracle for Organs {
    fn jwt(&self, name: &str, _: &RequestFacts) -> Option<Value> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.claims.clone().filter(|_| name == "main")
    }
    fn bot(&self, _: &RequestFacts) -> BotView {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.bot.clone()
    }
    fn assign(&self, _: &str, unit: &str, arms: &[(String, u32)]) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let n = unit.bytes().map(usize::from).sum::<usize>() % arms.len();
        arms[n].0.clone()
    }
}

fn names() -> Names {
    let set = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Names {
        tiers: set(&["cheap", "standard", "best"]),
        models: set(&["small", "large"]),
        guards: set(&["strict"]),
        upstreams: set(&["shop", "shop-v2"]),
        auth: set(&["main"]),
    }
}

/// Generous limits: tests run many at once on few cores.
fn roomy() -> Limits {
    Limits { max_time: Duration::from_secs(5), ..Limits::default() }
}

fn load(source: &str) -> Policy {
    match Policy::load(source, "policy.rhai", &names(), &roomy(), &Clock::system()) {
        Ok(policy) => policy,
        Err(faults) => panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>()),
    }
}

fn request(path: &str) -> RequestFacts {
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "a/b"), ("accept", "c/d"), ("cookie", "a=1; sid=\"x=y\""), ("user-agent", "curl")]
    {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    RequestFacts {
        id: "id-1".into(),
        method: Method::GET,
        scheme: "https",
        host: "shop.example.com".into(),
        path: path.into(),
        query: "q=a+b%21&flag&q=2".into(),
        headers,
        ip: "10.1.2.3".parse().unwrap(),
        tls: true,
        http_version: "2",
        route: "app".into(),
        key: Some(json!({ "name": "alice", "team": "web", "metadata": { "plan": "gold" } })),
        user: Some(json!({"sub": "u1", "plan": "enterprise"})),
        unit: "visitor".into(),
        oracle: Arc::new(Organs::default()),
        memo: Memo::default(),
    }
}

fn response(status: u16) -> Arc<ResponseFacts> {
    let headers = HeaderMap::from_iter([(HeaderName::from_static("etag"), HeaderValue::from_static("\"1\""))]);
    Arc::new(ResponseFacts { status, headers, age: None, source: Source::Origin, cache: "miss" })
}

fn entry() -> Arc<LogFacts> {
    Arc::new(LogFacts {
        duration: Duration::from_micros(1500),
        bytes: 10,
        source: Source::Provider,
        reason: "ok",
        cost: Money::from_usd(0.25),
        tokens: 7,
    })
}

/// Evaluates an expression over `req` inside a hook; its text comes back as a note.
fn eval(expression: &str, req: RequestFacts) -> String {
    let policy = load(&format!("fn on_request(req) {{ let v = {expression}; next().note(\"v\", to_json(v)) }}"));
    match policy.on_request(&Arc::new(req)) {
        Ok(RequestDecision::Continue(d)) => d.notes[0].1.clone(),
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn facts_of_the_request() {
    for (expression, expected) in [
        ("req.method", "\"GET\""),
        ("[req.path, req.host, req.scheme, req.route, req.id]", r#"["/a","shop.example.com","https","app","id-1"]"#),
        ("[req.ip, req.tls, req.http_version]", r#"["10.1.2.3",true,"2"]"#),
        ("req.header(\"Accept\")", "\"a/b, c/d\""),
        ("req.header(\"x-none\")", "null"),
        ("[req.cookie(\"a\"), req.cookie(\"sid\"), req.cookie(\"b\")]", r#"["1","x=y",null]"#),
        ("[req.query_param(\"q\"), req.query_param(\"flag\"), req.query_param(\"z\")]", r#"["a b!","",null]"#),
        ("req.user.plan", "\"enterprise\""),
        ("[req.key.name, req.key.team, req.key.metadata.plan]", r#"["alice","web","gold"]"#),
        ("req.jwt(\"main\")", "null"),
        ("req.arm(\"x\")", "null"),
    ] {
        assert_eq!(eval(expression, request("/a")), expected, "{expression}");
    }
}

#[test]
fn organs_are_asked_once_per_request_and_arms_stay() {
    let organs = Arc::new(Organs {
        claims: Some(json!({"sub": "u7", "n": 3})),
        bot: BotView { kind: "ai_crawler".into(), score: 95, reasons: vec!["declared".into()], ..BotView::default() },
        ..Organs::default()
    });
    let req = Arc::new(RequestFacts { oracle: Arc::clone(&organs) as Arc<dyn Oracle>, ..request("/") });
    let policy = load(
        r#"fn on_request(req) {
            let a = req.bucket("exp", #{ b: 1, a: 1 }) + req.bucket("exp", #{ c: 1 });
            next().note("all", `${a} ${req.jwt("main").sub} ${req.jwt("main").n + 1} ${req.bot.kind} ${req.bot.score} ${req.bot.reasons[0]}`)
        }
        fn on_response(req, resp) { next().set_header("x-arm", req.arm("exp")).set_header("x-note", req.note("all")) }"#,
    );
    let RequestDecision::Continue(d) = policy.on_request(&req).unwrap() else { panic!() };
    let (experiment, arm) = req.arms().remove(0);
    assert_eq!((experiment.as_str(), d.notes[0].1.clone()), ("exp", format!("{arm}{arm} u7 4 ai_crawler 95 declared")));
    assert_eq!(organs.asked.load(Ordering::SeqCst), 3, "one question each for jwt, bot, arm");
    let sent = policy.on_response(&req, &response(200)).unwrap();
    let set = |name, v: &str| HeaderOp::Set(HeaderName::from_static(name), HeaderValue::from_str(v).unwrap());
    assert_eq!(sent.headers, [set("x-arm", &arm), set("x-note", &d.notes[0].1)]);
}

#[test]
fn on_request_goes_on_with_directives_in_chained_and_in_statement_form() {
    for body in [
        r#"pass().upstream("shop-v2").vary_on("lang", "de").note("n", 1).set_request_header("x-a", "1").remove_header("server")"#,
        r#"let d = pass(); d.upstream("shop-v2"); d.vary_on("lang", "de"); d.note("n", 1);
           d.set_request_header("x-a", "1"); d.remove_header("server"); d"#,
    ] {
        let policy = load(&format!("fn on_request(req) {{ {body} }}"));
        let RequestDecision::Continue(d) = policy.on_request(&Arc::new(request("/"))).unwrap() else { panic!() };
        assert_eq!((d.cache, d.upstream.as_deref()), (CacheUse::Pass, Some("shop-v2")));
        assert_eq!((d.vary, d.notes), (vec![("lang".into(), "de".into())], vec![("n".into(), "1".into())]));
        assert_eq!(d.request_headers.len(), 1);
        assert_eq!(d.response_headers, [HeaderOp::Remove(HeaderName::from_static("server"))]);
    }
}

#[test]
fn on_request_chooses_the_query_parameters_of_the_key() {
    let decide = |body: &str| load(&format!("fn on_request(req) {{ {body} }}")).on_request(&Arc::new(request("/")));
    let RequestDecision::Continue(d) = decide(r#"next().key_query(["id", "page*"])"#).unwrap() else { panic!() };
    assert_eq!(d.key_query, Some(vec!["id".to_owned(), "page*".to_owned()]));
    let RequestDecision::Continue(d) = decide("next().key_query([])").unwrap() else { panic!() };
    assert_eq!(d.key_query, Some(Vec::new()), "no parameter counts");
    for (bad, why) in [("[1]", "a name is a text"), ("[\"\"]", "a name is a text")] {
        let e = decide(&format!("next().key_query({bad})")).unwrap_err();
        assert!(e.message.contains(why), "{bad}: {e}");
    }
    assert!(decide("let l = []; for i in 0..65 { l.push(`p${i}`) } next().key_query(l)").is_err());
}

#[test]
fn on_request_refuses_and_answers() {
    let decide =
        |body: &str| load(&format!("fn on_request(req) {{ {body} }}")).on_request(&Arc::new(request("/"))).unwrap();
    let RequestDecision::Refuse(r) = decide(r#"deny(403, "no").set_header("retry-after", 5).note("k", "v")"#) else {
        panic!()
    };
    assert_eq!(
        (r.status, r.message.as_str(), r.reason, r.notes.len()),
        (StatusCode::FORBIDDEN, "no", "policy_deny", 1)
    );
    let reply = r.into_reply();
    assert_eq!((reply.source, reply.headers["retry-after"].to_str().unwrap()), (Source::Policy, "5"));
    let RequestDecision::Refuse(r) = decide(r#"unauthorized("Bearer")"#) else { panic!() };
    assert_eq!((r.status, r.headers["www-authenticate"].to_str().unwrap()), (StatusCode::UNAUTHORIZED, "Bearer"));
    let RequestDecision::Reply(a) = decide(r#"respond(200, "{}", "application/json")"#) else { panic!() };
    assert_eq!(a.reply.headers["content-type"], "application/json");
    assert!(matches!(&a.reply.body, Body::Full(b) if b.as_ref() == b"{}"));
    let RequestDecision::Reply(a) = decide(r#"redirect(308, "https://x.example/")"#) else { panic!() };
    assert_eq!(
        (a.reply.headers["location"].to_str().unwrap(), a.reply.reason),
        ("https://x.example/", "policy_redirect")
    );
}

#[test]
fn on_prompt_chooses_cache_tier_and_model() {
    let policy = load(
        r#"fn on_prompt(req, prompt) {
            if prompt.text == "bad" { return deny(400, "no"); }
            if prompt.max_tokens != () { return pass().model("large"); }
            next().semantic().tier("cheap").threshold(0.9).ttl("10m").note("chars", prompt.chars)
        }"#,
    );
    let req = Arc::new(request("/v1"));
    let ask = |text: &str, max_tokens| {
        let prompt = PromptFacts { text: text.into(), chars: text.len(), max_tokens, ..PromptFacts::default() };
        policy.on_prompt(&req, &Arc::new(prompt)).unwrap()
    };
    let PromptDecision::Continue(d) = ask("hi", None) else { panic!() };
    assert_eq!((d.cache, d.tier.as_deref(), d.threshold), (Some(AiCache::Semantic), Some("cheap"), Some(0.9)));
    assert_eq!((d.ttl, d.notes[0].1.as_str()), (Some(Duration::from_secs(600)), "2"));
    let PromptDecision::Continue(d) = ask("hi", Some(5)) else { panic!() };
    assert_eq!((d.cache, d.model.as_deref()), (Some(AiCache::None), Some("large")));
    assert!(matches!(ask("bad", None), PromptDecision::Refuse(r) if r.status == StatusCode::BAD_REQUEST));
}

#[test]
fn the_stored_form_the_sent_form_and_the_log_line() {
    let policy = load(
        r#"fn on_origin_response(req, resp) {
            if resp.header("etag") == () { return next().no_store(); }
            next().ttl("1h").stale_while_revalidate("1d").stale_if_error("7d").tag("a").tag("b").set_header("x-c", resp.cache)
        }
        fn on_log(req, resp, entry) {
            if resp.status == 500 { return; }
            if entry.cost_usd > 0.2 && entry.duration_ms < 2.0 && entry.tokens == 7 { keep() } else { skip() }
        }"#,
    );
    let req = Arc::new(request("/"));
    let d = policy.on_origin_response(&req, &response(200)).unwrap();
    assert_eq!(
        (d.store, d.ttl, d.tags),
        (Storing::Default, Some(Duration::from_secs(3600)), vec!["a".into(), "b".into()])
    );
    assert_eq!(d.stale_if_error, Some(Duration::from_secs(7 * 86400)));
    assert_eq!(policy.on_log(&req, &response(200), &entry()).unwrap().keep, Some(true));
    assert_eq!(policy.on_log(&req, &response(500), &entry()).unwrap().keep, None, "nothing returned, nothing decided");
}

#[test]
fn hooks_that_are_not_defined_cost_nothing() {
    let policy = load("fn on_request(req) { }");
    assert!(policy.has(Hook::OnRequest) && !policy.has(Hook::OnPrompt));
    let req = Arc::new(request("/"));
    assert!(policy.on_response(&req, &response(200)).unwrap().headers.is_empty());
}

#[test]
fn constants_are_visible_in_functions_closures_and_branches() {
    let policy = load(
        r#"const LIMIT = 2; const LIST = ["x", "y"]; const DEEP = #{ a: LIMIT * 10 };
        fn helper(n) { n + LIMIT }
        fn on_request(req) {
            let big = [1, 2, 3].filter(|n| n >= LIMIT).len();
            if LIST.contains("y") { next().note("v", `${helper(1)} ${big} ${DEEP.a} ${LIST[0]}`) }
        }"#,
    );
    let RequestDecision::Continue(d) = policy.on_request(&Arc::new(request("/"))).unwrap() else { panic!() };
    assert_eq!(d.notes[0].1, "3 2 20 x");
}

#[test]
fn a_returned_value_that_is_no_decision_is_an_error_with_its_type() {
    let e = load("fn on_request(req) { 42 }").on_request(&Arc::new(request("/"))).unwrap_err();
    assert_eq!((e.as_str(), e.message.as_str()), ("bad_return", "returned i64, not a decision such as next()"));
}

#[test]
fn values_that_could_split_a_header_or_move_framing_are_refused_with_the_place() {
    for (verb, why) in [
        (r#"next().set_header("x-a", "a\r\nb: c")"#, "without line breaks"),
        (r#"next().set_header("x a", "a")"#, "is no field name"),
        (r#"next().set_header("Transfer-Encoding", "chunked")"#, "gateway's own business"),
        (r#"next().set_request_header("host", "evil")"#, "gateway's own business"),
        (r#"next().remove_header("content-length")"#, "gateway's own business"),
        (r#"redirect(302, "/\nset-cookie: a=b")"#, "without line breaks"),
        (r#"next().vary_on("a b", 1)"#, "a key is"),
        (r#"next().note("k", #{})"#, "the value is map"),
        (r#"deny(403, "a").upstream("shop")"#, "can follow an answer"),
    ] {
        let e = load(&format!("fn on_request(req) {{\n  {verb}\n}}")).on_request(&Arc::new(request("/"))).unwrap_err();
        assert!(e.message.contains(why) && e.place.starts_with("policy.rhai:2:"), "{verb}: {e}");
        assert_eq!(e.as_str(), "script_error");
    }
}

#[test]
fn one_policy_serves_64_threads_at_once() {
    let policy = Arc::new(load(
        r#"fn on_request(req) { let n = 0; for i in 0..50 { n += i } next().note("path", req.path).note("n", n) }"#,
    ));
    let threads = (0..64).map(|t| {
        let policy = Arc::clone(&policy);
        std::thread::spawn(move || {
            for i in 0..20 {
                let path = format!("/{t}/{i}");
                let RequestDecision::Continue(d) = policy.on_request(&Arc::new(request(&path))).unwrap() else {
                    panic!()
                };
                assert_eq!(d.notes, [("path".to_owned(), path), ("n".to_owned(), "1225".to_owned())]);
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn a_last_decision_counts_with_and_without_a_semicolon() {
    for body in [
        r#"deny(403, "no");"#,
        r#"deny(403, "no")"#,
        r#"if req.tls { deny(403, "no"); }"#,
        r#"return deny(403, "no");"#,
    ] {
        let decided = load(&format!("fn on_request(req) {{ {body} }}")).on_request(&Arc::new(request("/"))).unwrap();
        assert!(matches!(decided, RequestDecision::Refuse(_)), "{body}: {decided:?}");
    }
}
