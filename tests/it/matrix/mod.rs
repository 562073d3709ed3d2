//! The matrix: every official SDK against a provider of every dialect, played by a scripted server that reads every
//! request strictly. What does not work is a hole, and every hole stands in README.md.

mod anthropic;
mod asked;
mod bedrock;
mod gemini;
mod holes;
mod openai;
mod responses;
mod script;
mod server;
mod sessions;
mod sigv4;

use crate::harness::edge::{Edge, Setup};
use crate::harness::wait_until;
use holes::Cells;
use server::Provider;
use sessions::CLIENTS;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest that the whole matrix may take.
const TIME_MAX: Duration = Duration::from_secs(90);

/// A provider that refuses the key is left alone for a while, so that scenario has models of its own.
const YAML: &str = "
ai:
  health: { failures: 1000000, share: 100%, cool_down: 1ms, cool_down_max: 1ms }
  providers:
    openai: { dialect: openai, base_url: \"http://$OPENAI/v1\", api_key: \"file:$DIR/openai\" }
    azure:
      dialect: openai
      base_url: \"http://$AZURE\"
      azure: { api_version: \"2024-10-21\" }
      api_key: \"file:$DIR/azure\"
    responses: { dialect: openai_responses, base_url: \"http://$RESPONSES/v1\", api_key: \"file:$DIR/responses\" }
    anthropic: { dialect: anthropic, base_url: \"http://$ANTHROPIC/v1\", api_key: \"file:$DIR/anthropic\" }
    gemini: { dialect: gemini, base_url: \"http://$GEMINI/v1beta\", api_key: \"file:$DIR/gemini\" }
    bedrock:
      dialect: bedrock
      base_url: \"http://$BEDROCK\"
      aws: { region: $REGION, access_key: \"file:$DIR/access\", secret_key: \"file:$DIR/bedrock\" }
  models:
    openai: &openai { provider: openai, model: up-openai }
    openai-barred: *openai
    azure: &azure { provider: azure, model: up-azure }
    azure-barred: *azure
    responses: &responses { provider: responses, model: up-responses }
    responses-barred: *responses
    anthropic: &anthropic { provider: anthropic, model: up-anthropic }
    anthropic-barred: *anthropic
    gemini: &gemini { provider: gemini, model: up-gemini }
    gemini-barred: *gemini
    bedrock: &bedrock { provider: bedrock, model: \"up-bedrock:0\" }
    bedrock-barred: *bedrock
routes: [ { match: { path: /* }, ai: {} } ]
";

/// The providers by name.
type Providers = BTreeMap<&'static str, Provider>;

async fn providers() -> Providers {
    BTreeMap::from([
        ("openai", Provider::start(openai::Openai { azure: false }).await),
        ("azure", Provider::start(openai::Openai { azure: true }).await),
        ("responses", Provider::start(responses::Responses).await),
        ("anthropic", Provider::start(anthropic::Anthropic).await),
        ("gemini", Provider::start(gemini::Gemini).await),
        ("bedrock", Provider::start(bedrock::Bedrock).await),
    ])
}

async fn edge(providers: &Providers) -> Edge {
    let mut setup = Setup::new(YAML).put("REGION", sigv4::REGION).file("access", sigv4::ACCESS_KEY);
    for (name, provider) in providers {
        let key = if *name == "bedrock" { sigv4::SECRET_KEY.to_owned() } else { format!("sk-{name}\n") };
        setup = setup.put(&name.to_uppercase(), provider.origin.address).file(name, &key);
    }
    setup.start().await
}

/// What the providers know better than the clients: requests that were not valid, and streams that nobody stopped.
async fn seen_by_providers(providers: &Providers, cells: &mut Cells) {
    for (name, provider) in providers {
        for (run, scenario, why) in provider.faults.lock().unwrap().iter() {
            assert!(CLIENTS.iter().any(|c| c.name == run), "{name} got a request of nobody: {why}");
            cells.fault(run, name, scenario, why);
        }
        for client in CLIENTS {
            if cells.works(client.name, name, "cancel") {
                let what = format!("{name} to notice that {} left", client.name);
                wait_until(&what, async || provider.given_up(client.name) > 0).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_talks_to_every_provider_or_the_readme_says_so() {
    let started = Instant::now();
    let providers = providers().await;
    let edge = edge(&providers).await;
    let names: Vec<&str> = providers.keys().copied().collect();
    let mut cells = sessions::run(edge.web(), &names).await;
    seen_by_providers(&providers, &mut cells).await;
    println!("{}", cells.table(&names));
    println!("{:.1} s", started.elapsed().as_secs_f64());
    holes::compare(&cells);
    assert!(started.elapsed() < TIME_MAX, "the matrix takes too long: {:?}", started.elapsed());
}
