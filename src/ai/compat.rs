//! Servers that speak OpenAI's dialect with a difference, as data: which of its words each of them does not know. What
//! they do not know is edited out of the request, and every other byte stays as the client wrote it. What they say
//! otherwise (`reasoning`, cached tokens in odd places, no `[DONE]`) is read everywhere and needs no entry here.

use super::catalog::Fault;
use super::dialect::chat::Dropped;
use super::dialect::wire::bearer;
use super::json::{Edit, Member, elements, spelt, splice, without};
use crate::config::ai::{self as yaml, Compat};
use crate::config::secret::Secret;
use http::HeaderName;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// One thing that a server does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quirk {
    MaxTokensOnly,
    NoStreamOptions,
    NoDeveloperRole,
    StringContent,
    NoParallelToolCalls,
    NoJsonSchema,
}

use Quirk::{MaxTokensOnly, NoDeveloperRole, NoJsonSchema, NoParallelToolCalls, NoStreamOptions, StringContent};

/// What is known of each server. A server without an entry takes everything that OpenAI's own does.
const ROWS: [(Compat, &[Quirk]); 9] = [
    // Chat templates know few roles.
    (Compat::Vllm, &[NoDeveloperRole]),
    (Compat::Ollama, &[MaxTokensOnly, NoDeveloperRole, NoParallelToolCalls]),
    (Compat::Llamacpp, &[MaxTokensOnly, NoDeveloperRole]),
    (Compat::Groq, &[NoDeveloperRole]),
    // Unknown members are errors there, and usage comes unasked.
    (Compat::Mistral, &[MaxTokensOnly, NoDeveloperRole, NoStreamOptions]),
    (Compat::Deepseek, &[MaxTokensOnly, NoDeveloperRole, StringContent, NoParallelToolCalls, NoJsonSchema]),
    (Compat::Xai, &[]),
    (Compat::Together, &[MaxTokensOnly, NoDeveloperRole, NoParallelToolCalls]),
    (Compat::Openrouter, &[]),
];

/// The name under which a schema that could not be asked for is told as dropped.
const SCHEMA: &str = "response_format.json_schema";
const PARALLEL: &str = "parallel_tool_calls";

/// What a server does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks(Vec<Quirk>);

impl Quirks {
    /// Those of the kind of server, with what the configuration says otherwise.
    pub fn of(compat: Option<Compat>, told: &yaml::Quirks) -> Quirks {
        let row = ROWS.iter().find(|(kind, _)| Some(*kind) == compat).map_or(&[][..], |(_, quirks)| quirks);
        let settings = [
            (MaxTokensOnly, told.max_tokens_only),
            (NoStreamOptions, told.no_stream_options),
            (NoDeveloperRole, told.no_developer_role),
            (StringContent, told.string_content),
            (NoParallelToolCalls, told.no_parallel_tool_calls),
            (NoJsonSchema, told.no_json_schema),
        ];
        Quirks(settings.iter().filter(|(q, set)| set.unwrap_or(row.contains(q))).map(|(q, _)| *q).collect())
    }

    /// Whether the server takes everything.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }

    /// What of a request's meaning is lost at this server.
    pub fn dropped(&self, request: &Map<String, Value>) -> Dropped {
        let mut out = Dropped::default();
        let kind = request.get("response_format").and_then(|f| f.get("type")).and_then(Value::as_str);
        if self.has(NoJsonSchema) && kind == Some("json_schema") {
            out.note(SCHEMA);
        }
        if self.has(NoParallelToolCalls) && request.get(PARALLEL) == Some(&Value::Bool(false)) {
            out.note(PARALLEL);
        }
        out
    }

    /// The request as this server takes it; a request that needs no edit, or that is no JSON object, as it is.
    pub fn fit<'a>(&self, body: &'a str) -> Cow<'a, str> {
        if self.is_none() {
            return Cow::Borrowed(body);
        }
        let Ok(members) = spelt(body) else { return Cow::Borrowed(body) };
        let mut edits = Vec::new();
        let mut out: Vec<&str> = Vec::new();
        if self.has(NoStreamOptions) {
            out.push("stream_options");
        }
        if self.has(NoParallelToolCalls) {
            out.push(PARALLEL);
        }
        if self.has(MaxTokensOnly) && limit(body, &members, &mut edits) {
            out.push("max_completion_tokens");
        }
        if self.has(NoJsonSchema) {
            edits.extend(plain_json(body, &members));
        }
        if self.has(NoDeveloperRole) || self.has(StringContent) {
            self.messages(body, &members, &mut edits);
        }
        edits.extend(without(&members, &out));
        if edits.is_empty() { Cow::Borrowed(body) } else { splice(body, edits).into() }
    }

    fn messages(&self, body: &str, members: &[Member], edits: &mut Vec<Edit>) {
        let Some(list) = members.iter().find(|m| m.name == "messages") else { return };
        let all = body.get(list.value.clone()).and_then(|text| elements(text).ok()).unwrap_or_default();
        for message in all {
            let start = list.value.start + message.start;
            let Some(text) = body.get(start..list.value.start + message.end) else { continue };
            for m in spelt(text).unwrap_or_default() {
                let value = text.get(m.value.clone()).unwrap_or_default();
                let new = match m.name.as_str() {
                    "role" if self.has(NoDeveloperRole) && value == "\"developer\"" => Some("\"system\"".to_owned()),
                    "content" if self.has(StringContent) && value.starts_with('[') => joined(value),
                    _ => None,
                };
                let span = start + m.value.start..start + m.value.end;
                edits.extend(new.map(|text| Edit { span, text }));
            }
        }
    }
}

/// Renames the limit on output tokens. Where the old name stands beside the new one it takes the new one's value, and
/// the new one is to go: true.
fn limit(body: &str, members: &[Member], edits: &mut Vec<Edit>) -> bool {
    let named = |name: &str| members.iter().find(|m| m.name == name);
    let Some(new) = named("max_completion_tokens") else { return false };
    match named("max_tokens") {
        Some(_) if body.get(new.value.clone()) == Some("null") => true,
        Some(old) => {
            let text = body.get(new.value.clone()).unwrap_or_default().to_owned();
            edits.push(Edit { span: old.value.clone(), text });
            true
        }
        None => {
            edits.push(Edit { span: new.key.clone(), text: "\"max_tokens\"".to_owned() });
            false
        }
    }
}

fn plain_json(body: &str, members: &[Member]) -> Option<Edit> {
    let format = members.iter().find(|m| m.name == "response_format")?;
    let inner = body.get(format.value.clone())?;
    let kind = spelt(inner).ok()?.into_iter().find(|m| m.name == "type")?;
    let schema = inner.get(kind.value) == Some("\"json_schema\"");
    schema.then(|| Edit { span: format.value.clone(), text: r#"{"type":"json_object"}"#.to_owned() })
}

/// A list of texts as one JSON string; `None` when there is anything else among them.
fn joined(list: &str) -> Option<String> {
    let parts: Vec<Value> = serde_json::from_str(list).ok()?;
    let text = |p: &Value| {
        let is_text = p.get("type").and_then(Value::as_str) == Some("text");
        p.get("text").and_then(Value::as_str).filter(|_| is_text).map(str::to_owned)
    };
    let texts: Vec<String> = parts.iter().map(text).collect::<Option<_>>()?;
    Some(Value::from(texts.join("\n")).to_string())
}

/// Azure's field for keys.
const AZURE_KEY: HeaderName = HeaderName::from_static("api-key");

/// How a provider of OpenAI's dialect differs from OpenAI's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variety {
    /// What it does not know.
    pub quirks: Quirks,
    /// Azure's way of addressing.
    pub azure: Option<yaml::Azure>,
}

impl Variety {
    /// Compiles a provider's keys; the fault's path is the key's name.
    pub fn compile(p: &yaml::Provider) -> Result<Variety, Fault> {
        let fault = |path: &str, message: &str| Err(Fault { path: path.to_owned(), message: message.to_owned() });
        let quirks = Quirks::of(p.compat, &p.quirks);
        let set = [
            ("azure", p.azure.is_some()),
            ("compat", p.compat.is_some()),
            ("quirks", p.quirks != yaml::Quirks::default()),
        ];
        if let (false, Some((key, _))) = (p.dialect == yaml::Dialect::Openai, set.iter().find(|(_, set)| *set)) {
            return fault(key, "means something for providers of the dialect openai only");
        }
        let version = p.azure.as_ref().and_then(|a| a.api_version.as_deref());
        if version.is_some_and(|v| v.is_empty() || !v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            return fault("azure.api_version", "a version is a date, such as 2024-10-21 or 2025-01-01-preview");
        }
        Ok(Variety { quirks, azure: p.azure.clone() })
    }

    /// What distinguishes its answers from another's; empty for a plain provider.
    pub fn told(&self) -> String {
        if *self == Variety::default() { String::new() } else { format!("{self:?}") }
    }

    /// Where a call goes: Azure names the deployment in the path, unless it has no versions.
    pub fn path<'a>(&self, path: Cow<'a, str>, model: &str) -> Cow<'a, str> {
        let Some(azure) = &self.azure else { return path };
        match &azure.api_version {
            None => format!("/openai/v1{path}").into(),
            // Responses belong to the resource, and name the deployment in their body.
            Some(version) if path == "/responses" => format!("/openai/responses?api-version={version}").into(),
            Some(version) => format!("/openai/deployments/{model}{path}?api-version={version}").into(),
        }
    }

    /// Azure's credential; `None` for a provider that is not Azure's.
    pub fn credential(&self, key: &Secret) -> Option<(HeaderName, String)> {
        let azure = self.azure.as_ref()?;
        Some(match azure.auth {
            yaml::AzureAuth::ApiKey => (AZURE_KEY, key.expose().to_owned()),
            yaml::AzureAuth::Bearer => bearer(key),
        })
    }

    /// A model's name that cannot stand in such a path is a fault.
    pub fn names(&self, model: &str) -> bool {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        self.azure.is_none() || !model.is_empty() && model.bytes().all(fits)
    }
}
