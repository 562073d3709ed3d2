//! Bills: the fixtures' answers cost what their comments reckon, whole and streamed, read as they are and translated;
//! prices that change on a day and with the length of the prompt.

use super::super::dialect::Dialect;
use super::super::dialect::chat::Dropped;
use super::super::price::{Rate, Tariff, parse_list};
use super::super::usage::Usage;
use super::*;
use crate::base::units::Money;
use crate::config::ai::Price;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bill {
    /// How the cost was reckoned, by hand.
    comment: String,
    dialect: String,
    price: Price,
    cost_nano_usd: u64,
    answer: Value,
    stream: Vec<Value>,
}

fn bills() -> Vec<(String, Dialect, Bill)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cost");
    let dialects = [Dialect::Openai, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock];
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut all: Vec<_> = files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let bill: Bill = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            assert!(bill.comment.contains("Nano-USD"), "{path:?}");
            let dialect = *dialects.iter().find(|d| d.as_str() == bill.dialect).expect("a dialect");
            (path.file_name().unwrap().to_string_lossy().into_owned(), dialect, bill)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(dialects.iter().all(|d| all.iter().any(|(_, of, _)| of == d)), "every dialect has a bill");
    all
}

#[test]
fn every_reader_of_every_dialect_comes_to_the_expected_bill() {
    for (name, dialect, bill) in bills() {
        let (wire, rate) = (dialect.wire(), Rate::new(&bill.price).unwrap());
        let check = |how: &str, usage: Option<Usage>| {
            let usage = usage.unwrap_or_else(|| panic!("{name}, {how}: no usage"));
            assert_eq!(rate.cost(&usage).nano_usd, bill.cost_nano_usd, "{name}, {how}: {usage:?}");
        };
        check("whole", wire.usage(&bill.answer));
        check("whole, translated", wire.read_answer(&bill.answer, &mut Dropped::default()).unwrap().usage);
        let mut reader = wire.reader();
        let mut recorder = wire.recorder(1 << 20);
        for event in &bill.stream {
            reader.read(event, &mut Vec::new()).unwrap();
            recorder.add(event, 0);
        }
        check("streamed, translated", reader.progress().usage);
        if dialect != Dialect::Bedrock {
            // No client speaks Bedrock: its streams are always translated.
            check("streamed", recorder.usage());
        }
    }
}

/// What the client asks, in each of three dialects.
fn prompts(stream: bool) -> [Prompt; 3] {
    let ask = |operation, body: &str| {
        let body = if stream { body.replacen('{', r#"{"stream":true,"#, 1) } else { body.to_owned() };
        prompt::parse(operation, Bytes::from(body), 1 << 20).unwrap()
    };
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    [
        ask(Operation::Chat, &format!(r#"{{"model":"m",{messages}}}"#)),
        ask(Operation::Messages, &format!(r#"{{"model":"m","max_tokens":9,{messages}}}"#)),
        ask(Operation::Responses, r#"{"model":"m","input":"hi"}"#),
    ]
}

#[tokio::test]
async fn the_bill_is_the_same_whoever_asks_and_however_it_is_delivered() {
    for (name, dialect, bill) in bills().into_iter().filter(|(_, d, _)| *d != Dialect::Bedrock) {
        let wire = dialect.wire();
        let events: Vec<String> = bill.stream.iter().map(|e| wire.framed(e)).chain([wire.close().to_owned()]).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).filter(|e| !e.is_empty()).collect();
        for stream in [false, true] {
            let act = if stream { sse_reply(&events) } else { json_reply(200, &bill.answer.to_string()) };
            let p = Provider::start([act]).await;
            let w = world_of(&format!(
                "{{ providers: {{ pb: {{ dialect: {dialect}, base_url: '{url}', api_key: env:X }} }}, models: {{ m: {{ provider: pb, model: up, price: {price} }} }}, tiers: {{ cheap: [m] }} }}",
                dialect = bill.dialect,
                url = p.url,
                price = serde_json::to_string(&bill.price).unwrap(),
            ));
            for prompt in prompts(stream) {
                let client = prompt.dialect;
                let fresh = AiDirectives { cache: Some(CacheMode::None), ..AiDirectives::default() };
                let seen = read(w.reply_as(prompt, &fresh, &w.context).await).await;
                assert_eq!(
                    (seen.status, seen.clean),
                    (200, true),
                    "{name} for {client:?}, stream {stream}: {}",
                    seen.text
                );
                let cost = seen.call.cost.map(|c| c.nano_usd);
                assert_eq!(
                    cost,
                    Some(bill.cost_nano_usd),
                    "{name} for {client:?}, stream {stream}: {:?}",
                    seen.call.usage
                );
                let priced = seen.call.priced.expect("where the price stands");
                assert_eq!((&*priced.version, priced.long), ("config", name.contains("long")));
                let read = seen.call.usage.unwrap().cache_read;
                let spared = read * 2_700 * if priced.long { 2 } else { 1 };
                assert_eq!(priced.prompt_cache, Money { nano_usd: spared }, "{name}");
            }
        }
    }
}

const LIST: &str = "
version: '2026-01-01'
models: { old: { input: 1 }, both: { input: 1, output: 2 } }
valid_from:
  '2026-07-01': { both: { input: 3, output: 4 }, new: { input: 5 } }
  '2026-12-01': { both: { input: 7 } }";

/// Seconds since 1970 of 2026-07-01T00:00:00Z.
const JULY: u64 = 1_782_864_000;

#[test]
fn the_price_of_the_day_of_the_call_counts() {
    let list = parse_list(LIST).unwrap();
    let at = |model: &str, when: u64| {
        let tariff = Tariff::of_list(&list, model);
        let cost = |v: &super::super::price::Version| {
            v.rate.cost(&Usage { uncached_in: 1_000_000, ..Usage::default() }).nano_usd / 1_000_000_000
        };
        tariff.at(when).map(|v| (cost(v), v.name.to_string()))
    };
    let first = "2026-01-01".to_owned();
    let second = "2026-01-01 from 2026-07-01".to_owned();
    assert_eq!(at("both", JULY - 1), Some((1, first.clone())));
    assert_eq!(at("both", JULY), Some((3, second.clone())));
    assert_eq!(at("both", u64::MAX), Some((7, "2026-01-01 from 2026-12-01".to_owned())));
    assert_eq!(at("old", JULY), Some((1, first)));
    // Not priced yet is unknown, and not 0.
    assert_eq!((at("new", JULY - 1), at("new", JULY)), (None, Some((5, second))));
    assert_eq!(at("nobody", JULY), None);
    assert!(!Tariff::of_list(&list, "nobody").is_known());
}

#[test]
fn a_list_with_a_day_that_is_none_or_absurd_factors_is_refused() {
    let fails = |yaml: &str| parse_list(yaml).unwrap_err().to_string();
    assert!(fails("{ version: x, models: {}, valid_from: { July: {} } }").contains("\"July\" is not a day"));
    assert!(fails("{ version: x, models: {}, valid_from: { '2026-02-30': {} } }").contains("2026-02-30"));
    let far = "{ version: x, models: {}, valid_from: { '2026-02-03': { m: { input: -1 } } } }";
    assert!(fails(far).contains("price of m"));
    for long in
        ["above_tokens: 0, input_times: 2, output_times: 2", "above_tokens: 1, input_times: 0.5, output_times: 2"]
    {
        let yaml = format!("{{ version: x, models: {{ m: {{ input: 1, long_context: {{ {long} }} }} }} }}");
        assert!(fails(&yaml).contains("long_context of m"), "{long}");
    }
}

#[test]
fn a_prompt_is_long_above_the_limit_and_not_at_it() {
    let yaml = "{ input: 1.25, output: 10, long_context: { above_tokens: 200000, input_times: 2, output_times: 1.5 } }";
    let rate = Rate::new(&serde_yaml::from_str(yaml).unwrap()).unwrap();
    let of = |uncached_in| Usage { uncached_in, out_text: 1, ..Usage::default() };
    assert_eq!(rate.cost(&of(200_000)).nano_usd, 200_000 * 1_250 + 10_000);
    assert_eq!(rate.cost(&of(200_001)).nano_usd, 200_001 * 2_500 + 15_000);
}
