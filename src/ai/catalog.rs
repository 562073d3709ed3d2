//! The models a gateway knows, compiled from the configuration, and the choice of the ones that may answer a prompt.

pub use super::choice::{Choice, Stage};
use super::compat::{Quirks, Variety};
use super::dialect::Dialect;
use super::error::AiError;
use super::names::{nearest, unknown};
use super::passthrough;
use super::price::{Rate, Tariff};
use super::prompt::Operation;
use super::sign::Signer;
use crate::base::ids::{hex, sha256_parts};
use crate::base::url::BaseUrl;
use crate::config::ai::{Ai, AiRoute, PriceList, Thinking, Tier};
use crate::config::secret::Secret;
use crate::fetch::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name by which a client leaves the choice to the route.
pub const AUTO: &str = "auto";

/// The limit on output tokens where the client sets none, the dialect needs one, and the configuration has none.
const MAX_TOKENS: u64 = 8192;

/// The largest weight of a model in a tier.
const WEIGHT_MAX: u32 = 1_000_000;

/// A provider, ready to be called.
pub struct Provider {
    /// Its name in the configuration.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it is and how long it may take.
    pub endpoint: Endpoint,
    /// Header fields of every call, the key among them (marked sensitive).
    pub headers: HeaderMap,
    /// What signs each call, where no key is sent.
    pub signer: Option<Signer>,
    /// A digest of the base URL and the configured header fields, for cache keys: another deployment answers
    /// differently. The key is left out, so that changing it leaves the caches as they are.
    pub digest: String,
    /// Whether a provider of OpenAI's chat completions takes Responses, too.
    pub responses: bool,
    /// How it differs from OpenAI's own.
    pub variety: Variety,
}

/// A model, ready to be called.
pub struct Model {
    /// Its name in the configuration.
    pub name: String,
    /// The provider's name for it.
    pub upstream: String,
    /// Who serves it.
    pub provider: Arc<Provider>,
    /// What it costs, where known.
    pub tariff: Tariff,
    /// The limit on output tokens where the client sets none and the dialect needs one.
    pub max_tokens: u64,
    /// How it is told to think.
    pub thinking: Thinking,
    /// How many tokens its context holds, where known.
    pub context_tokens: Option<u64>,
}

/// A model and what is spoken to it on behalf of one client.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// The model.
    pub model: &'a Model,
    /// What is spoken.
    pub dialect: Dialect,
}

impl Provider {
    /// What is spoken to this provider on behalf of a client of that dialect.
    pub fn speaks(&self, client: Dialect) -> Dialect {
        match (self.dialect, client) {
            (Dialect::Openai, Dialect::Completions) => client,
            (Dialect::Openai, Dialect::Responses) if self.responses => client,
            (own, _) => own,
        }
    }
}

impl Peer<'_> {
    /// Where the operation goes, below the provider's base URL; `None` where the provider has no such thing.
    pub fn path(&self, operation: Operation, stream: bool) -> Option<Cow<'static, str>> {
        let path = self.dialect.wire().path(operation, &self.model.upstream, stream)?;
        Some(self.model.provider.variety.path(path, &self.model.upstream))
    }

    /// What the server takes of a request in its dialect.
    pub fn quirks(&self) -> Option<&Quirks> {
        Some(&self.model.provider.variety.quirks).filter(|q| self.dialect == Dialect::Openai && !q.is_none())
    }
}

impl Model {
    /// What a call at this time costs, in seconds since 1970; `None` where unknown.
    pub fn rate(&self, unix_secs: u64) -> Option<Rate> {
        self.tariff.at(unix_secs).map(|v| v.rate)
    }

    /// The model as a client of that dialect reaches it.
    pub fn peer(&self, client: Dialect) -> Peer<'_> {
        Peer { model: self, dialect: self.provider.speaks(client) }
    }
}

/// A fault in the `ai:` section, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The YAML path, such as `ai.models.mid.provider`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// All models and tiers.
#[derive(Default)]
pub struct Catalog {
    pub(super) models: BTreeMap<String, Arc<Model>>,
    pub(super) tiers: BTreeMap<String, Stage>,
    /// Whether `auto` is a tier, too.
    auto: bool,
    /// Each provider as a model without a name, for requests that name none.
    bare: BTreeMap<String, Arc<Model>>,
}

impl Catalog {
    /// Compiles the section; all faults are reported together. `keys` holds the resolved `api_key` per provider.
    pub fn compile(ai: &Ai, prices: &PriceList, keys: &BTreeMap<String, Secret>) -> Result<Catalog, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut providers = BTreeMap::new();
        for (name, p) in &ai.providers {
            match compile_provider(name, p, keys.get(name)) {
                Ok(compiled) => drop(providers.insert(name.clone(), Arc::new(compiled))),
                Err(fault) => faults.push(fault),
            }
        }
        let mut catalog = Catalog::default();
        for (name, m) in &ai.models {
            let path = format!("ai.models.{name}");
            if name == AUTO || ai.tiers.contains_key(name) {
                let message = format!("the name {name:?} is taken by a tier or reserved; choose another");
                faults.push(Fault { path: path.clone(), message });
            }
            let tariff = match m.price.as_ref().map(Rate::new) {
                Some(Some(rate)) => Tariff::fixed(rate),
                Some(None) => {
                    let message = "a price is US dollars per million tokens, 0 to 1000000; long_context has above_tokens of 1 or more and factors of 1 to 100";
                    faults.push(Fault { path: format!("{path}.price"), message: message.to_owned() });
                    Tariff::default()
                }
                None => Tariff::of_list(prices, &m.model),
            };
            if let Some(provider) = providers.get(&m.provider) {
                if !provider.variety.names(&m.model) {
                    let message =
                        "a deployment's name has letters, digits, hyphens, points and low lines only".to_owned();
                    faults.push(Fault { path: format!("{path}.model"), message });
                }
                faults.extend(model_faults(&path, m, provider.dialect));
                let (max_tokens, thinking) = (m.max_tokens.unwrap_or(MAX_TOKENS), m.thinking.unwrap_or_default());
                let (name, upstream, provider) = (name.clone(), m.model.clone(), provider.clone());
                let context_tokens = m.context_tokens;
                let model = Model { name, upstream, provider, tariff, max_tokens, thinking, context_tokens };
                catalog.models.insert(model.name.clone(), Arc::new(model));
            } else if !ai.providers.contains_key(&m.provider) {
                let path = format!("{path}.provider");
                faults.push(Fault { path, message: unknown("provider", &m.provider, ai.providers.keys()) });
            }
        }
        catalog.bare = providers.values().map(|p| (p.name.clone(), Arc::new(bare(p)))).collect();
        catalog.compile_tiers(ai, &mut faults);
        catalog.compile_auto(ai, &mut faults);
        if faults.is_empty() { Ok(catalog) } else { Err(faults) }
    }

    fn compile_tiers(&mut self, ai: &Ai, faults: &mut Vec<Fault>) {
        for (name, tier) in &ai.tiers {
            let (path, members) = (format!("ai.tiers.{name}"), tier.members());
            if members.is_empty() || name == AUTO {
                let message = "a tier has a name other than \"auto\" and at least one model".to_owned();
                faults.push(Fault { path: path.clone(), message });
            }
            let mut stage = Stage { strategy: tier.strategy(), hedge: tier.hedge(), ..Stage::default() };
            stage.tier = Some(name.clone());
            let inside = if matches!(tier, Tier::List(_)) { "" } else { ".models" };
            for (i, (model, weight)) in members.into_iter().enumerate() {
                let place = || format!("{path}{inside}[{i}]");
                if !(1..=WEIGHT_MAX).contains(&weight) {
                    faults.push(Fault { path: place(), message: format!("a weight is 1 to {WEIGHT_MAX}") });
                }
                if !ai.models.contains_key(model) {
                    let message = unknown("model", model, ai.models.keys());
                    faults.push(Fault { path: place(), message });
                }
                if let Some(model) = self.models.get(model) {
                    stage.models.push(model.clone());
                    stage.weights.push(weight);
                }
            }
            self.tiers.insert(name.clone(), stage);
        }
    }

    fn compile_auto(&mut self, ai: &Ai, faults: &mut Vec<Fault>) {
        let Some(auto) = &ai.auto else { return };
        self.auto = true;
        for (i, step) in auto.tiers.iter().enumerate().filter(|(_, s)| !ai.tiers.contains_key(&s.tier)) {
            let message = unknown("tier", &step.tier, ai.tiers.keys());
            faults.push(Fault { path: format!("ai.auto.tiers[{i}].tier"), message });
        }
        let own = auto.faults().into_iter();
        faults.extend(own.map(|(place, message)| Fault { path: format!("ai.auto.{place}"), message }));
    }

    /// Checks a route's names; faults are relative to the route's `ai:` block.
    pub fn check_route(&self, route: &AiRoute) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut tier = |path: String, name: &String| {
            if !self.tiers.contains_key(name) {
                faults.push(Fault { path, message: unknown("tier", name, self.tiers.keys()) });
            }
        };
        if let Some(name) = route.tier.as_ref().filter(|name| *name != AUTO) {
            tier("tier".to_owned(), name);
        }
        let cascade = route.cascade.iter().flat_map(|c| &c.tiers);
        cascade.enumerate().for_each(|(i, name)| tier(format!("cascade.tiers[{i}]"), name));
        for (i, name) in route.fallback.iter().enumerate() {
            tier(format!("fallback[{i}]"), name);
        }
        if route.tier.as_deref() == Some(AUTO) && !self.auto {
            let message = "which tiers \"auto\" stands for is said in `ai.auto`, and there is none".to_owned();
            faults.push(Fault { path: "tier".to_owned(), message });
        }
        for (i, name) in route.models.iter().enumerate().filter(|(_, n)| !self.knows(n)) {
            let message = unknown("model or tier", name, self.names());
            faults.push(Fault { path: format!("models[{i}]"), message });
        }
        faults.extend(route.passthrough.iter().flat_map(|p| passthrough::check(self, p)));
        faults
    }

    /// Provider names.
    pub(super) fn providers(&self) -> impl Iterator<Item = &String> {
        self.bare.keys()
    }

    /// A provider as a model without a name.
    pub(super) fn bare(&self, provider: &str) -> Option<&Arc<Model>> {
        self.bare.get(provider)
    }

    /// Model names.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// Tier names that a script may use: `auto` among them where it stands for some.
    pub fn script_tiers(&self) -> impl Iterator<Item = String> {
        self.tiers.keys().cloned().chain(self.auto.then(|| AUTO.to_owned()))
    }

    /// Tier names.
    pub fn tiers(&self) -> impl Iterator<Item = &String> {
        self.tiers.keys()
    }

    /// Whether `name` is a model or a tier.
    pub fn knows(&self, name: &str) -> bool {
        self.models.contains_key(name) || self.tiers.contains_key(name)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.models.keys().chain(self.tiers.keys())
    }

    /// A tier's models, in its order; none where there is no such tier.
    pub fn in_tier(&self, name: &str) -> &[Arc<Model>] {
        self.tiers.get(name).map_or(&[], |stage| &stage.models)
    }

    /// Names that clients of the route may use.
    pub fn offered<'a>(&'a self, route: &'a AiRoute) -> impl Iterator<Item = &'a String> {
        self.names().filter(|n| route.models.is_empty() || route.models.contains(n))
    }

    pub(super) fn offer(&self, route: &AiRoute) -> String {
        let names: Vec<&str> = self.offered(route).take(12).map(String::as_str).collect();
        format!("use one of: {}", names.join(", "))
    }

    /// There is no such model on the route; the message suggests one.
    pub(super) fn no_model(&self, name: &str, route: &AiRoute) -> AiError {
        let shown: String = name.chars().take(64).collect();
        let hint = nearest(name, self.offered(route)).map_or(String::new(), |n| format!(" Did you mean {n:?}?"));
        AiError::NoModel(format!("no model or tier {shown:?} on this route.{hint} {}", self.offer(route)))
    }
}

fn bare(provider: &Arc<Provider>) -> Model {
    Model {
        name: String::new(),
        upstream: String::new(),
        provider: provider.clone(),
        tariff: Tariff::default(),
        max_tokens: MAX_TOKENS,
        thinking: Thinking::default(),
        context_tokens: None,
    }
}

/// Faults in the keys of a model that have bounds, or mean something to one dialect only.
fn model_faults(path: &str, m: &crate::config::ai::Model, dialect: Dialect) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |key: &str, message: &str| {
        faults.push(Fault { path: format!("{path}.{key}"), message: message.to_owned() });
    };
    for (key, set) in [("max_tokens", m.max_tokens), ("context_tokens", m.context_tokens)] {
        if set == Some(0) {
            fault(key, "at least 1");
        }
    }
    if m.max_tokens.is_some() && dialect != Dialect::Anthropic {
        fault("max_tokens", "means something for providers of the dialect anthropic only");
    }
    if m.thinking.is_some() && !matches!(dialect, Dialect::Anthropic | Dialect::Bedrock) {
        fault("thinking", "means something for providers of the dialects anthropic and bedrock only");
    }
    faults
}

fn compile_provider(name: &str, p: &crate::config::ai::Provider, key: Option<&Secret>) -> Result<Provider, Fault> {
    let fault = |field: &str, message: String| Fault { path: format!("ai.providers.{name}.{field}"), message };
    let url = BaseUrl::parse(&p.base_url).map_err(|e| fault("base_url", e.to_string()))?;
    let mut headers = HeaderMap::new();
    for (field, value) in &p.headers {
        let bad = |what: &str| fault(&format!("headers.{field}"), format!("this is no valid header {what}"));
        let field = HeaderName::from_bytes(field.as_bytes()).map_err(|_| bad("name"))?;
        headers.insert(field, HeaderValue::from_str(value).map_err(|_| bad("value"))?);
    }
    let variety = Variety::compile(p).map_err(|f| fault(&f.path, f.message))?;
    let digest = digest(&url, &headers, &variety);
    let dialect = Dialect::from(p.dialect);
    if let Some(key) = key {
        let (field, value) = variety.credential(key).unwrap_or_else(|| dialect.wire().credential(key));
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| fault("api_key", "the key has characters that no header may carry".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(field, value);
    }
    let signer = p.aws.as_ref().map(Signer::of).transpose();
    let signer = signer.map_err(|(key, message)| fault(&format!("aws.{key}"), message))?;
    match (dialect, signer.is_some(), p.api_key.is_some()) {
        (Dialect::Bedrock, true, true) => return Err(fault("api_key", "leave it out where `aws` is set".to_owned())),
        (Dialect::Bedrock, false, false) => {
            return Err(fault("aws", "the dialect bedrock wants credentials here, or an `api_key`".to_owned()));
        }
        (Dialect::Bedrock, ..) | (_, false, _) => {}
        _ => return Err(fault("aws", "means something for the dialect bedrock only".to_owned())),
    }
    let t = &p.timeouts;
    let (connect, first_byte, between_bytes) = (t.connect.0, t.first_byte.0, t.between_bytes.0);
    if connect.is_zero() || first_byte.is_zero() || between_bytes.is_zero() {
        return Err(fault("timeouts", "a time limit must be longer than 0".to_owned()));
    }
    let endpoint = Endpoint { url, connect, first_byte, between_bytes };
    if p.responses && dialect != Dialect::Openai {
        return Err(fault("responses", "means something for providers of the dialect openai only".to_owned()));
    }
    Ok(Provider { name: name.to_owned(), dialect, responses: p.responses, endpoint, headers, signer, digest, variety })
}

fn digest(url: &BaseUrl, headers: &HeaderMap, variety: &Variety) -> String {
    let (scheme, authority) = (if url.tls { "https" } else { "http" }, url.authority());
    let mut parts = vec![scheme.as_bytes(), authority.as_bytes(), url.path.as_bytes()];
    let mut fields: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    fields.sort_unstable();
    parts.extend(fields.into_iter().flat_map(|(n, v)| [n.as_bytes(), v]));
    // A plain provider has none, so that its answers on disk stay found.
    let told = variety.told();
    parts.extend(Some(told.as_bytes()).filter(|t| !t.is_empty()));
    hex(&sha256_parts(parts))
}
