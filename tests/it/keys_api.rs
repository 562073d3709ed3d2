//! Virtual keys, limits and budgets over real sockets: who gets in, to which models, how often and for how much.

use crate::ai::CHAT;
use crate::harness::client::{Response, get};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play, chat};
use crate::harness::origin::{Origin, gate};
use crate::harness::token::{AUTH, SECRET, bearer};
use crate::harness::{client, wait_until};
use serde_json::{Value, json};
use sluicegate::auth::apikey::hash;

/// What the scripted provider's ten input tokens and two words cost, in billionths of a dollar.
const COST: u64 = 10 * 1000 + 2 * 2000;

pub const GATEWAY: &str = "
auth: { clients: { api_key: { store: keys.yaml } } }
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\", api_key: \"file:$DIR/provider-key\" } }
  models:
    small: { provider: p, model: small-1, price: { input: 1, output: 2 } }
    large: { provider: p, model: large-1, price: { input: 1, output: 2 } }
  tiers: { cheap: [small], best: [large] }
  caches: { exact: { exact: { ttl: 1h } } }
  budgets: { pocket: { limit_usd: 0.000014, period: month }, purse: { limit_usd: 1, period: total, key: team } }
  state: { path: state }
routes: [ { name: llm, match: { path: /v1/* }, auth: clients, ai: { tier: cheap, cache: exact } } ]
";

/// A file of keys in which the key of each name is `slg-` and the name.
fn keys(rows: &[(&str, &str)]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, more)| format!("  {name}: {{ hash: \"{}\"{more} }}", hash(&format!("slg-{name}"))))
        .collect();
    format!("keys:\n{}\nteams:\n  web: {{ budgets: [purse] }}\n", rows.join("\n"))
}

pub fn setup(llm: &Llm, rows: &[(&str, &str)]) -> Setup {
    Setup::new(GATEWAY).put("LLM", llm.url()).file("keys.yaml", &keys(rows)).file("provider-key", "sk-upstream")
}

async fn ask(edge: &Edge, key: &str, model: &str, text: &str) -> Response {
    edge.post(CHAT, &[("Authorization", &format!("Bearer slg-{key}"))], &chat(model, text)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_in_by_every_clients_field_and_never_reaches_the_provider() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, &[("alice", "")]).start().await;
    for (i, (field, value)) in
        [("Authorization", "Bearer slg-alice"), ("x-api-key", "slg-alice"), ("api-key", "slg-alice")].iter().enumerate()
    {
        let answer = edge.post(CHAT, &[(field, value)], &chat("small", &format!("hi {i}"))).await;
        assert_eq!(answer.status, 200, "{field} {answer:?}");
        let sent = llm.last();
        assert_eq!(sent.header("authorization"), "Bearer sk-upstream");
        assert!(sent.headers.iter().all(|(_, v)| !v.contains("slg-")), "{sent:?}");
    }
    let refused = ask(&edge, "mallory", "small", "hi").await;
    assert_eq!((refused.status, refused.source(), refused.reason()), (401, "auth", "key_unknown"));
    assert_eq!(refused.json()["error"]["code"], "key_unknown");
    assert!(refused.header("www-authenticate").starts_with("Bearer realm=\"clients\""));
    let message = json!({ "model": "small", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
    let refused = edge.post("/v1/messages", &[("x-api-key", "slg-mallory")], &message).await;
    assert_eq!(refused.json()["error"]["type"], "authentication_error", "in Anthropic's words: {refused:?}");
    assert_eq!((edge.post(CHAT, &[], &chat("small", "hi")).await.reason(), llm.calls()), ("key_missing", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_models_and_its_own_cached_answers() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, &[("alice", ", models: [small]"), ("bob", ", tiers: [best]")]).start().await;
    assert_eq!(ask(&edge, "alice", "small", "hi").await.source(), "provider");
    assert_eq!(ask(&edge, "alice", "auto", "hi").await.status, 200);
    let refused = ask(&edge, "alice", "large", "hi").await;
    assert_eq!((refused.status, refused.reason()), (403, "model_not_allowed"));
    assert_eq!(ask(&edge, "bob", "large", "hi").await.source(), "provider");
    let listed = edge.ask("GET", "/v1/models", &[("Authorization", "Bearer slg-bob")], b"").await.json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["large", "best"], "its route's own tier is not for it, so there is no auto");
    let two = setup(&llm, &[("alice", ""), ("bob", "")]).start().await;
    assert_eq!(ask(&two, "alice", "small", "same").await.source(), "provider");
    assert_eq!(ask(&two, "alice", "small", "same").await.source(), "ai_exact");
    assert_eq!(ask(&two, "bob", "small", "same").await.source(), "provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_team_may_share_cached_answers() {
    let llm = Llm::echo().await;
    let rows = [("alice", ", team: web"), ("bob", ", team: web"), ("carol", "")];
    let yaml = GATEWAY.replace("store: keys.yaml", "store: keys.yaml, tenant: team");
    let edge = Setup::new(&yaml).put("LLM", llm.url()).file("keys.yaml", &keys(&rows)).file("provider-key", "x");
    let edge = edge.start().await;
    assert_eq!(ask(&edge, "alice", "small", "same").await.source(), "provider");
    assert_eq!(ask(&edge, "bob", "small", "same").await.source(), "ai_exact");
    assert_eq!(ask(&edge, "carol", "small", "same").await.source(), "provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_keys_is_read_and_a_faulty_one_changes_nothing() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, &[("alice", "")]).start().await;
    edge.write("keys.yaml", &keys(&[("alice", ", disabled: true"), ("bob", "")]));
    wait_until("bob to get in", async || ask(&edge, "bob", "small", "hi").await.status == 200).await;
    assert_eq!(ask(&edge, "alice", "small", "hi").await.reason(), "key_disabled");
    edge.write("keys.yaml", "keys: { bob: { hash: slg-in-clear } }");
    wait_until("the fault", async || edge.status().await["last_reload"]["ok"] == false).await;
    let faults = edge.status().await["last_reload"]["faults"].to_string();
    assert!(faults.contains("keys.bob.hash") && !faults.contains("in-clear"), "{faults}");
    assert_eq!(ask(&edge, "bob", "small", "hi").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_a_file_of_keys_that_mean_nothing_are_faults() {
    let llm = Llm::echo().await;
    let rows = [("alice", ", models: [smal]"), ("bob", ", tiers: [chaep]"), ("carol", ", budgets: [pokcet]")];
    let said = format!("{:#}", setup(&llm, &rows).try_start().await.err().unwrap());
    let two = GATEWAY.replace("auth: {", "auth: { others: { api_key: { store: more.yaml } },");
    let rows = keys(&[("alice", "")]);
    let setup = Setup::new(&two).put("LLM", llm.url()).file("provider-key", "x").file("keys.yaml", &rows);
    let other = format!("keys: {{ alice: {{ hash: \"{}\" }} }}", hash("another"));
    let twice = format!("{:#}", setup.file("more.yaml", &other).try_start().await.err().unwrap());
    assert!(twice.contains("keys.alice: the name is taken by"), "{twice}");
    for piece in ["keys.alice.models[0]", "did you mean \"small\"", "\"cheap\"", "keys.carol.budgets[0]", "\"pocket\""]
    {
        assert!(said.contains(piece), "{piece} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_tokens_a_minute_are_limited_by_key_and_survive_a_reload() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, &[("alice", ", rpm: 2"), ("bob", ", tpm: 1000"), ("carol", "")]).start().await;
    let first = ask(&edge, "alice", "small", "1").await;
    assert_eq!(first.header("ratelimit-policy"), "\"key\";q=2;w=60");
    assert!(first.header("ratelimit").starts_with("\"key\";r=1;t="), "{first:?}");
    let before = edge.status().await;
    edge.edit("sluicegate.yaml", "ttl: 1h", "ttl: 2h");
    edge.reloaded_since(&before).await;
    assert_eq!(ask(&edge, "alice", "small", "2").await.status, 200);
    let refused = ask(&edge, "alice", "small", "3").await;
    assert_eq!((refused.status, refused.reason()), (429, "rate_limited"));
    assert_eq!(refused.json()["error"]["code"], "rate_limited");
    assert!((1..=30).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{refused:?}");
    // The estimate takes the limit on output with it; what was not used comes back.
    let big = json!({ "model": "small", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 900 });
    let post = async || edge.post(CHAT, &[("Authorization", "Bearer slg-bob")], &big).await;
    let first = post().await;
    assert_eq!((first.status, post().await.source()), (200, "ai_exact"));
    let greedy = json!({ "model": "small", "messages": [{ "role": "user", "content": "y" }], "max_tokens": 990 });
    let refused = edge.post(CHAT, &[("Authorization", "Bearer slg-bob")], &greedy).await;
    assert_eq!((refused.status, refused.reason()), (429, "tokens_limited"), "{refused:?}");
    assert_eq!(ask(&edge, "carol", "small", "4").await.header("ratelimit"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_are_limited_until_the_stream_has_ended() {
    let open = gate();
    let llm = {
        let open = open.clone();
        Llm::start(move |_, _| Play::Late("hello".into(), open.clone())).await
    };
    let edge = setup(&llm, &[("alice", ", concurrency: 1")]).start().await;
    let waiting = async {
        wait_until("the first to be asked", async || llm.calls() == 1).await;
        let refused = ask(&edge, "alice", "small", "two").await;
        assert_eq!((refused.status, refused.reason()), (429, "concurrency_limited"));
        open.add_permits(1);
    };
    let (first, ()) = tokio::join!(ask(&edge, "alice", "small", "one"), waiting);
    assert_eq!(first.status, 200);
    open.add_permits(1);
    wait_until("there is room", async || ask(&edge, "alice", "small", "three").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_limits_addresses_before_it_looks_at_keys_and_hides_keys_from_its_origin() {
    let origin = Origin::fixed("inside").await;
    let yaml = "
auth: { clients: { api_key: { store: keys.yaml } } }
rate_limits: { guesses: { key: client_ip, rate: 3/h }, each: { key: api_key, rate: 100/min, burst: 2 } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
routes: [ { auth: clients, upstream: app, rate_limit: [guesses, each] } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).file("keys.yaml", &keys(&[("alice", "")])).start().await;
    let both = [("x-api-key", "slg-alice"), ("x-other", "kept")];
    let answer = edge.ask("GET", "/", &both, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "inside"));
    assert_eq!(answer.header("ratelimit-policy"), "\"guesses\";q=3;w=3600, \"each\";q=100;w=60");
    assert_eq!((origin.last().header("x-api-key"), origin.last().header("x-other")), ("", "kept"));
    for _ in 0..2 {
        assert_eq!(edge.ask("GET", "/", &[("x-api-key", "slg-guess")], b"").await.status, 401);
    }
    let refused = edge.ask("GET", "/", &[("x-api-key", "slg-guess")], b"").await;
    assert_eq!((refused.status, refused.reason(), origin.hits()), (429, "rate_limited", 1));
    assert!(refused.header("content-type").starts_with("text/plain"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_budgets_that_cannot_tell_whose_they_are_are_faults() {
    let yaml = "
auth: { clients: { api_key: { store: keys.yaml }, jwt: { jwks_url: \"http://127.0.0.1:1/k\" } } }
rate_limits: { none: { key: route }, key: { key: api_key, rate: 1/s }, user: { key: user, rate: 1/s } }
ai:
  providers: { p: { dialect: openai, base_url: \"http://127.0.0.1:1\" } }
  models: { m: { provider: p, model: m } }
  budgets: { mine: { limit_usd: 1, period: day } }
routes:
  - { match: { path: /a }, respond: {}, rate_limit: [key, user, nobody] }
  - { match: { path: /b }, ai: { budgets: [mine, yours] } }
";
    let fault = Setup::new(yaml).file("keys.yaml", "").try_start().await.err().unwrap();
    let said = format!("{fault:#}");
    for piece in [
        "auth.clients: give exactly one of jwt and api_key",
        "rate_limits.none",
        "routes[0].rate_limit: \"key\" counts by virtual keys",
        "\"user\" counts by users",
        "no rate limit \"nobody\"",
        "routes[1].ai.budgets[0]: \"mine\" is kept by virtual keys",
        "routes[1].ai.budgets[1]: no budget \"yours\"",
    ] {
        assert!(said.contains(piece), "{piece} in {said}");
    }
}

async fn admin_post(edge: &Edge, path: &str, body: Value) -> Response {
    client::post(edge.admin(), path, &[], &body).await
}

fn account<'a>(all: &'a Value, budget: &str, subject: &str) -> &'a Value {
    let accounts = all["budgets"][budget]["accounts"].as_array().unwrap();
    accounts.iter().find(|a| a["subject"] == subject).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_spent_told_and_begun_anew() {
    let llm = Llm::saying("hello there").await;
    let edge = setup(&llm, &[("alice", ", budgets: [pocket], team: web"), ("bob", ", team: web")]).start().await;
    assert_eq!(ask(&edge, "alice", "small", "one").await.status, 200);
    let refused = ask(&edge, "alice", "small", "two").await;
    assert_eq!((refused.status, refused.reason()), (429, "budget_exhausted"), "{refused:?}");
    assert_eq!((refused.json()["error"]["code"].as_str(), llm.calls()), (Some("budget_exhausted"), 1));
    assert_eq!(ask(&edge, "bob", "small", "two").await.status, 200, "the team's own is not exhausted");
    let told = get(edge.admin(), "/ai/budgets").await.json();
    assert_eq!(account(&told, "pocket", "key:alice")["spent_nano_usd"], COST);
    assert_eq!(account(&told, "pocket", "key:alice")["exhausted"], true);
    assert_eq!(account(&told, "purse", "team:web")["spent_nano_usd"], 2 * COST);
    assert_eq!(edge.metric("sluicegate_ai_budget_spent_nano_usd", &["purse"]).await, (2 * COST) as f64);
    assert_eq!(edge.metric("sluicegate_ai_budget_exhausted", &["pocket"]).await, 1.0);
    assert_eq!(edge.metric("sluicegate_reasons_total", &["budget_exhausted"]).await, 1.0);
    let keys = get(edge.admin(), "/ai/keys").await;
    assert_eq!(keys.json()["keys"]["clients"]["alice"]["may"]["budgets"][0], "pocket");
    assert!(!keys.text().contains("sha256"), "{keys:?}");
    let reset = |body| admin_post(&edge, "/ai/budgets/reset", body);
    assert_eq!(reset(json!({ "budget": "pokcet" })).await.status, 404);
    assert_eq!(reset(json!({ "budget": "pocket", "subject": "key:zoe" })).await.status, 404);
    assert_eq!(reset(json!({ "budgets": "pocket" })).await.status, 400);
    assert_eq!(reset(json!({ "budget": "pocket", "subject": "key:alice" })).await.json()["accounts"], 1);
    assert_eq!(ask(&edge, "alice", "small", "two").await.status, 200);
    assert_eq!(get(edge.admin(), "/ai/budgets/reset").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_tokens_have_budgets_and_limits_too() {
    let llm = Llm::saying("hello there").await;
    let yaml = format!(
        "{AUTH}{}",
        GATEWAY
            .replace(
                "auth: { clients: { api_key: { store: keys.yaml } } }",
                "rate_limits: { often: { key: user, rate: 3/h } }"
            )
            .replace("period: month }", "period: month, key: user }")
            .replace("auth: clients, ai: {", "auth: main, rate_limit: often, ai: { budgets: [pocket],")
    );
    let edge = Setup::new(&yaml).put("LLM", llm.url()).file("secret", SECRET).file("provider-key", "x").start().await;
    let post =
        async |who: &str, text: &str| edge.post(CHAT, &[("Authorization", &bearer(who))], &chat("small", text)).await;
    assert_eq!(post("ada", "one").await.status, 200);
    assert_eq!(post("ada", "two").await.reason(), "budget_exhausted");
    assert_eq!(post("bob", "two").await.status, 200);
    assert_eq!((post("ada", "one").await.source(), post("ada", "one").await.reason()), ("ai_exact", "rate_limited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_sees_the_key_but_not_the_secret() {
    let llm = Llm::echo().await;
    let yaml =
        format!("policy: {{ script: p.rhai }}\n{}", GATEWAY.replace("auth: clients,", "auth: clients, policy: true,"));
    let script = r#"fn on_request(req) {
        if req.key.metadata.plan == "free" { return deny(402, `${req.key.name} of ${req.key.team}`); }
        next()
    }"#;
    let rows = [("alice", ", team: web, metadata: { plan: free }"), ("bob", ", metadata: { plan: gold }")];
    let edge = Setup::new(&yaml).put("LLM", llm.url()).file("keys.yaml", &keys(&rows)).file("p.rhai", script);
    let edge = edge.file("provider-key", "x").start().await;
    let denied = ask(&edge, "alice", "small", "hi").await;
    assert_eq!((denied.status, denied.json()["error"]["message"].as_str()), (402, Some("alice of web")));
    assert_eq!(ask(&edge, "bob", "small", "hi").await.status, 200);
}
