//! Who may use which model, and who pays: through the gateway, against a provider that counts.

use super::*;
use crate::ai::budget::{self, Book, Budgets};
use crate::config::apikey::Grant;
use crate::kv::Kv;

/// What the fixture's 20 and 10 tokens cost on model `a`, in billionths of a dollar.
const COST: u64 = 40_000;

struct Paid {
    world: World,
    book: Arc<Book>,
    budgets: Budgets,
}

impl Paid {
    /// The world of two models, with budgets; the route pays from `b`, and nothing is cached.
    fn new(mut world: World, yaml: &str) -> Paid {
        let tiers = "tiers: { cheap: [], best: [] }";
        let ai: Ai = serde_yaml::from_str(&format!("{{ {tiers}, budgets: {{ b: {yaml} }} }}")).unwrap();
        let budgets = budget::compile(&ai).unwrap();
        let book = Book::new(Arc::new(Kv::memory()), world.clock.clone());
        let bare = Arc::try_unwrap(world.gateway).ok().unwrap();
        world.gateway = Arc::new(bare.with_budgets(budgets.clone(), book.clone()));
        let options = AiRoute { tier: Some("cheap".into()), budgets: vec!["b".into()], ..AiRoute::default() };
        world.context.options = Arc::new(options);
        Paid { world, book, budgets }
    }

    /// Spent and reserved, in billionths of a dollar.
    fn balance(&self) -> (u64, u64) {
        let lines = self.book.lines(&self.budgets);
        let sum = |f: fn(&budget::Line) -> u64| lines.iter().map(f).sum();
        (sum(|l| l.balance.spent.nano_usd), sum(|l| l.balance.reserved.nano_usd))
    }
}

fn usd(nano: u64) -> String {
    format!("{{ limit_usd: {:.9}, period: total, key: route }}", nano as f64 / 1e9)
}

fn code(seen: &Seen) -> String {
    seen.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_at_once_exceed_a_budget_by_one_reservation_at_most() {
    let p = Provider::start([good()]).await;
    let limit = 20 * COST;
    let paid = Arc::new(Paid::new(world(&p, &p), &usd(limit)));
    let body = ask_with("a", "hi", r#","max_tokens":10"#);
    let reservation = {
        let estimate = tokens::reserve(&chat(&body));
        let rate = paid.world.gateway.catalog().models().find(|m| m.name == "a").unwrap().rate(0).unwrap();
        rate.at_most(estimate.input, estimate.output.unwrap()).nano_usd
    };
    assert!(reservation >= COST, "the fixture costs no more than is reserved: {reservation}");
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let (paid, body) = (paid.clone(), body.clone());
            tokio::spawn(async move {
                let seen = paid.world.ask(&body).await;
                let (spent, reserved) = paid.balance();
                assert!(spent + reserved < limit + reservation, "{spent} {reserved}");
                seen.status
            })
        })
        .collect();
    let mut answered = 0;
    for call in calls {
        match call.await.unwrap() {
            200 => answered += 1,
            status => assert_eq!(status, 429),
        }
    }
    let (spent, reserved) = paid.balance();
    assert_eq!((spent, reserved), (answered * COST, 0), "what was answered was paid, nothing stays reserved");
    assert_eq!(p.calls() as u64, answered);
    assert!(answered >= 4 && spent <= limit + reservation, "{answered} {spent}");
    // What was reserved and not spent is there for later calls, down to the last cent.
    while paid.world.ask(&body).await.status == 200 {}
    let (spent, _) = paid.balance();
    assert!((limit..limit + reservation).contains(&spent), "{spent}");
}

#[tokio::test]
async fn an_exhausted_budget_is_told_in_the_clients_dialect_and_not_retried() {
    let p = Provider::start([good()]).await;
    let paid = Paid::new(world(&p, &p), "{ limit_usd: 0, period: month, key: route }");
    let seen = paid.world.ask(&ask_with("a", "hi", "")).await;
    assert_eq!((seen.status, code(&seen).as_str(), p.calls()), (429, "budget_exhausted", 0));
    assert_eq!(seen.header("x-should-retry"), "false");
    assert!(seen.text.contains("until 20"), "{}", seen.text);
}

#[tokio::test]
async fn an_exhausted_budget_still_gets_what_is_cached() {
    let p = Provider::start([good()]).await;
    let mut paid = Paid::new(world(&p, &p), &usd(1));
    let cached = AiRoute { cache: Some("prompts".into()), ..(*paid.world.context.options).clone() };
    paid.world.context.options = Arc::new(cached);
    let body = ask_with("a", "hi", "");
    assert_eq!(paid.world.ask(&body).await.status, 200);
    assert_eq!(paid.world.ask(&body).await.source, Source::AiExact);
    assert_eq!(paid.world.ask(&ask_with("a", "else", "")).await.status, 429);
    assert_eq!((paid.balance(), p.calls()), ((COST, 0), 1));
}

#[tokio::test]
async fn an_exhausted_budget_may_turn_to_a_cheaper_tier_whose_answers_are_kept_apart() {
    let (a, b) = (Provider::start([good()]).await, Provider::start([good()]).await);
    let yaml = "{ limit_usd: 0.000000001, period: total, key: route, on_exhausted: 'tier:best', unpriced: allow }";
    let mut paid = Paid::new(world(&a, &b), yaml);
    let cached = AiRoute { cache: Some("prompts".into()), ..(*paid.world.context.options).clone() };
    paid.world.context.options = Arc::new(cached);
    for text in ["one", "two", "two"] {
        assert_eq!(paid.world.ask(&ask_with("a", text, "")).await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (1, 1), "the first paid by the budget, the second turned, the third cached");
    paid.book.reset(&paid.budgets["b"], None);
    assert_eq!(paid.world.ask(&ask_with("a", "two", "")).await.call.model.as_deref(), Some("a"), "asked anew");
}

#[tokio::test]
async fn a_call_that_fails_gives_its_reservation_back() {
    for act in [Act::Close, json_reply(400, r#"{"error":{"message":"no"}}"#), json_reply(200, "{}")] {
        let p = Provider::start([act]).await;
        let paid = Paid::new(world(&p, &p), &usd(1_000_000_000));
        assert_ne!(paid.world.ask(&ask_with("a", "hi", "")).await.status, 200);
        assert_eq!((paid.balance(), p.calls()), ((0, 0), 1));
    }
}

#[tokio::test]
async fn a_stream_cut_by_its_client_is_paid_as_far_as_it_came() {
    let chunk = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let (gone, mut left) = mpsc::unbounded_channel();
    let pieces = vec![format!("{SSE_HEAD}{}", chunked(&[&chunk("Hi"), &chunk(" there")]))];
    let p = Provider::start([Act::Hang(pieces, gone)]).await;
    let paid = Paid::new(world(&p, &p), &usd(1_000_000_000));
    let prompt = chat(&ask_with("a", "hi", r#","stream":true,"max_tokens":1000"#));
    let input = tokens::reserve(&prompt).input;
    let (reply, _) = paid.world.reply_as(prompt, &exact_only(), &paid.world.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!() };
    let mut text = String::new();
    while !text.contains("there") {
        text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(paid.balance().1 > 0);
    drop(stream);
    left.recv().await.unwrap();
    // The provider had not told: its input, and one token for each of the two events.
    assert_eq!(paid.balance(), (input * 1000 + 2 * 2000, 0));
}

#[tokio::test]
async fn a_call_left_while_the_model_thinks_pays_for_its_input() {
    let p = Provider::start([Act::Silent]).await;
    let paid = Arc::new(Paid::new(world(&p, &p), &usd(1_000_000_000).replace("route }", "route, unpriced: allow }")));
    let body = ask_with("a", "hi", r#","max_tokens":1000"#);
    let input = tokens::reserve(&chat(&body)).input;
    let call = {
        let paid = paid.clone();
        tokio::spawn(async move { paid.world.ask(&body).await })
    };
    until("the provider is asked", || p.calls() == 1).await;
    assert!(paid.balance().1 > 2_000_000);
    call.abort();
    assert!(call.await.is_err());
    assert_eq!(paid.balance(), (input * 1000, 0));
}

#[tokio::test]
async fn a_model_without_a_price_is_not_paid_from_a_strict_budget() {
    let p = Provider::start([good()]).await;
    let paid = Paid::new(world(&p, &p), &usd(1_000_000_000));
    let seen = paid.world.ask(&ask_with("b", "hi", "")).await;
    assert_eq!((seen.status, code(&seen).as_str(), p.calls()), (403, "model_unpriced", 0));
    // In a tier the others are still asked.
    assert_eq!(paid.world.ask(&ask_with("cheap", "hi", "")).await.call.model.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_budget_that_cannot_tell_who_pays_refuses() {
    let p = Provider::start([good()]).await;
    let mut paid = Paid::new(world(&p, &p), "{ limit_usd: 1, period: total, key: user }");
    let seen = paid.world.ask(&ask_with("a", "hi", "")).await;
    assert_eq!((seen.status, code(&seen).as_str(), p.calls()), (403, "budget_without_payer", 0));
    paid.world.context.caller.user = Some("ada".into());
    assert_eq!(paid.world.ask(&ask_with("a", "hi", "")).await.status, 200);
    assert_eq!(paid.book.lines(&paid.budgets)[0].subject, "user:ada");
}

fn holder(grants: &[Grant]) -> Caller {
    let grants = grants.iter().cloned().map(Arc::new).collect();
    Caller { key: Some("k".into()), team: None, user: None, grants }
}

fn models(names: &[&str]) -> Grant {
    Grant { models: names.iter().map(|n| (*n).to_owned()).collect(), ..Grant::default() }
}

#[tokio::test]
async fn a_key_reaches_only_its_models_whoever_chooses_them() {
    let (a, b) = (Provider::start([Act::Close]).await, Provider::start([good()]).await);
    let mut w = world(&a, &b);
    w.context.caller = holder(&[models(&["a"])]);
    let seen = w.ask(&ask_with("b", "hi", "")).await;
    assert_eq!((seen.status, code(&seen).as_str()), (403, "model_not_allowed"));
    let script = AiDirectives { model: Some("b".into()), ..exact_only() };
    assert_eq!(w.ask_as(&ask_with("a", "hi", ""), &script, &w.context).await.status, 403);
    // In a tier it reaches its own part of it, and no fallback leads further.
    let falling = AiRoute { tier: Some("cheap".into()), fallback: vec!["best".into()], ..AiRoute::default() };
    w.context.options = Arc::new(falling);
    assert_eq!(w.ask(&ask_with("auto", "hi", "")).await.status, 502);
    assert_eq!((a.calls(), b.calls()), (1, 0));
    // Both the key and its team must allow.
    w.context.caller = holder(&[models(&["a"]), models(&["b"])]);
    assert_eq!(w.ask(&ask_with("a", "hi", "")).await.status, 403);
    let team = Grant { tiers: vec!["best".into()], ..Grant::default() };
    w.context.caller = holder(&[Grant::default(), team]);
    assert_eq!(w.ask(&ask_with("b", "hi", "")).await.status, 200);
}

#[tokio::test]
async fn models_are_listed_as_far_as_the_key_may_use_them() {
    let p = Provider::start([good()]).await;
    let mut w = world(&p, &p);
    let listed = async |w: &World| {
        let prompt = prompt::parse(Operation::Models, Bytes::new(), 10).unwrap();
        let seen = read(w.reply_as(prompt, &exact_only(), &w.context).await).await;
        let json = seen.json();
        let ids = json["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(listed(&w).await, ["a", "b", "best", "cheap", "auto"]);
    w.context.caller = holder(&[models(&["a"])]);
    assert_eq!(listed(&w).await, ["a", "cheap", "auto"]);
    let mut one = prompt::parse(Operation::Model, Bytes::new(), 10).unwrap();
    one.facts.model = "b".into();
    assert_eq!(read(w.reply_as(one, &exact_only(), &w.context).await).await.status, 404);
}
