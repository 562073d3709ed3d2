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

const YAML: &str = "
ai:
  providers:
    openai: { dialect: openai, base_url: \"http://$OPENAI/v1\", api_key: \"file:$DIR/openai\" }
    responses: { dialect: openai_responses, base_url: \"http://$RESPONSES/v1\", api_key: \"file:$DIR/responses\" }
    anthropic: { dialect: anthropic, base_url: \"http://$ANTHROPIC/v1\", api_key: \"file:$DIR/anthropic\" }
    gemini: { dialect: gemini, base_url: \"http://$GEMINI/v1beta\", api_key: \"file:$DIR/gemini\" }
  models:
    openai: { provider: openai, model: up-openai }
    responses: { provider: responses, model: up-responses }
    anthropic: { provider: anthropic, model: up-anthropic }
    gemini: { provider: gemini, model: up-gemini }
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
    let mut setup = Setup::new(YAML);
    for (name, provider) in providers {
        setup = setup.put(&name.to_uppercase(), provider.origin.address).file(name, &format!("sk-{name}\n"));
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
    let names: Vec<&str> =
        providers.keys().copied().filter(|n| YAML.contains(&format!("\n    {n}: {{ provider"))).collect();
    let mut cells = sessions::run(edge.web(), &names).await;
    seen_by_providers(&providers, &mut cells).await;
    println!("{}", cells.table(&names));
    println!("{:.1} s", started.elapsed().as_secs_f64());
    holes::compare(&cells);
    assert!(started.elapsed() < TIME_MAX, "the matrix takes too long: {:?}", started.elapsed());
}
