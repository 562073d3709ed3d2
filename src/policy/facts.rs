//! What a hook may look at: plain facts that the spine fills in, and the questions that organs answer once per request.

use crate::ai::score::{self, Signals};
use crate::base::source::Source;
use crate::base::units::Money;
use http::{HeaderMap, Method};
use rhai::{Dynamic, ImmutableString};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The organs behind the lazy facts. Answers must come at once, from memory: hooks never wait.
pub trait Oracle: Send + Sync {
    /// The verified claims that auth rule `name` finds in the request; `None` when missing or invalid.
    fn jwt(&self, name: &str, req: &RequestFacts) -> Option<Value>;
    /// What the bot organ thinks of the client.
    fn bot(&self, req: &RequestFacts) -> BotView;
    /// The arm of `experiment` for the visitor `unit`; the same question gives the same answer.
    fn assign(&self, experiment: &str, unit: &str, arms: &[(String, u32)]) -> String;
}

/// The bot organ's verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BotView {
    /// Class: `human`, `search_engine`, `ai_crawler` …; empty when nothing is known.
    pub kind: Cow<'static, str>,
    /// The bot's own name; empty when it did not say.
    pub name: Cow<'static, str>,
    /// It says that it is a bot.
    pub declared: bool,
    /// Its claim was confirmed (address, forward-confirmed reverse DNS).
    pub verified: bool,
    /// 0 (surely a person) to 100 (surely a bot).
    pub score: u8,
    /// Why, as snake_case words.
    pub reasons: Vec<Cow<'static, str>>,
}

/// One request, as the script's `req`. Made once per request by the spine and shared by all hooks.
pub struct RequestFacts {
    /// The request id.
    pub id: String,
    /// The method.
    pub method: Method,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// The normalised host, without port.
    pub host: String,
    /// The normalised path.
    pub path: String,
    /// The query without its question mark; empty when there is none.
    pub query: String,
    /// The client's header fields.
    pub headers: HeaderMap,
    /// The client's address, from trusted hops.
    pub ip: IpAddr,
    /// Did the client come over TLS?
    pub tls: bool,
    /// `1.0`, `1.1` or `2`.
    pub http_version: &'static str,
    /// The route's name.
    pub route: String,
    /// The verified claims of the route's own auth rule, if it has one.
    pub user: Option<Value>,
    /// The virtual key that the route's own auth rule found, if it did: `name`, `team`, `metadata`.
    pub key: Option<Value>,
    /// What makes a visitor the same visitor (the sticky cookie's value, else the client address).
    pub unit: String,
    /// Who answers the lazy questions.
    pub oracle: Arc<dyn Oracle>,
    /// Answers already given; start with `Memo::default()`.
    pub memo: Memo,
}

impl RequestFacts {
    /// The bot verdict, asked for once.
    pub fn bot(&self) -> &Arc<BotView> {
        self.memo.bot.get_or_init(|| Arc::new(self.oracle.bot(self)))
    }

    /// The arm of `experiment`, assigned on first use and the same ever after within this request.
    pub fn assign(&self, experiment: &str, arms: &[(String, u32)]) -> String {
        if let Some(arm) = self.arm(experiment) {
            return arm;
        }
        let arm = self.oracle.assign(experiment, &self.unit, arms);
        self.memo.locked().arms.push((experiment.to_owned(), arm.clone()));
        arm
    }

    /// The arm already assigned for `experiment`.
    pub fn arm(&self, experiment: &str) -> Option<String> {
        find(&self.memo.locked().arms, experiment)
    }

    /// Every arm assigned so far, as (experiment, arm): what the spine makes sticky and logs.
    pub fn arms(&self) -> Vec<(String, String)> {
        self.memo.locked().arms.clone()
    }

    /// A note left by an earlier hook.
    pub fn note(&self, key: &str) -> Option<String> {
        find(&self.memo.locked().notes, key)
    }

    /// Keeps notes for later hooks; a later note of the same key wins.
    pub(super) fn keep_notes(&self, notes: &[(String, String)]) {
        if notes.is_empty() {
            return;
        }
        let known = &mut self.memo.locked().notes;
        for (key, value) in notes {
            known.retain(|(k, _)| k != key);
            known.push((key.clone(), value.clone()));
        }
    }

    /// The claims of auth rule `name`, verified once; `make` turns them into the script's form.
    pub(super) fn claims<E>(
        &self,
        name: &str,
        make: impl Fn(Option<Value>) -> Result<Dynamic, E>,
    ) -> Result<Dynamic, E> {
        let known = self.memo.locked().jwt.iter().find(|(n, _)| n == name).map(|(_, claims)| claims.clone());
        if let Some(claims) = known {
            return Ok(claims);
        }
        // The lock is not held while the oracle works.
        let claims = make(self.oracle.jwt(name, self))?;
        self.memo.locked().jwt.push((name.to_owned(), claims.clone()));
        Ok(claims)
    }
}

fn find(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
}

/// Answers given once per request. The lock is the request's own and never contended: a request's hooks run one by one.
#[derive(Default)]
pub struct Memo {
    bot: OnceLock<Arc<BotView>>,
    pub(super) user: OnceLock<Dynamic>,
    pub(super) key: OnceLock<Dynamic>,
    pub(super) path: OnceLock<ImmutableString>,
    pub(super) host: OnceLock<ImmutableString>,
    pub(super) method: OnceLock<ImmutableString>,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    jwt: Vec<(String, Dynamic)>,
    arms: Vec<(String, String)>,
    notes: Vec<(String, String)>,
}

impl Memo {
    fn locked(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model call, as the script's `prompt`.
#[derive(Clone, Debug, Default)]
pub struct PromptFacts {
    /// The last user turn's text.
    pub text: String,
    /// All system and developer text.
    pub system: String,
    /// The model or tier that was asked for.
    pub model: String,
    /// Characters of the last user turn.
    pub chars: usize,
    /// Characters of all messages.
    pub chars_in_all: usize,
    /// Images and other parts that are no text.
    pub parts: usize,
    /// Is JSON asked for?
    pub structured: bool,
    /// User turns.
    pub turns: usize,
    /// Tools offered to the model.
    pub tools: usize,
    /// Messages of every role.
    pub messages: usize,
    /// Is the answer to be streamed?
    pub stream: bool,
    /// Sampling temperature, if given.
    pub temperature: Option<f64>,
    /// Most tokens to answer with, if given.
    pub max_tokens: Option<u64>,
    /// How hard it looks, once somebody has asked.
    pub complexity: OnceLock<f64>,
}

impl PromptFacts {
    /// How hard it looks, 0 to 1; reckoned once.
    pub fn complexity(&self) -> f64 {
        *self.complexity.get_or_init(|| {
            let (text, chars, turns) = (self.text.as_str(), self.chars_in_all, self.turns);
            let (tools, parts, structured) = (self.tools, self.parts, self.structured);
            score::complexity(&Signals { text, chars, turns, tools, parts, structured })
        })
    }
}

/// An answer's head, as the script's `resp`.
#[derive(Clone, Debug)]
pub struct ResponseFacts {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// Its age in a cache; `None` when it is fresh from its source.
    pub age: Option<Duration>,
    /// Who answered.
    pub source: Source,
    /// What the HTTP cache did: `hit`, `miss`, `stale`, `bypass` …; empty when it had no part.
    pub cache: &'static str,
}

/// What is about to be logged, as the script's `entry`.
#[derive(Clone, Debug)]
pub struct LogFacts {
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// Body bytes sent.
    pub bytes: u64,
    /// Who answered.
    pub source: Source,
    /// Why; empty when there is nothing to say.
    pub reason: &'static str,
    /// What a model call cost.
    pub cost: Money,
    /// Tokens in and out of a model call.
    pub tokens: u64,
}
