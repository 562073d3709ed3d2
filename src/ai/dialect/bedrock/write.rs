//! A request of the internal form, written for Converse; the model stands in the path.

use super::super::Target;
use super::super::anthropic::write::{sampling, stop_sequences, thinking};
use super::super::chat::{
    Block, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Unsupported, object, take,
    text_in,
};
use super::super::gemini::SIGNED;
use super::{Maker, tools};
use crate::base::ids::{hex, sha256_parts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The longest id of a call, and how much of a longer one is kept before its digest.
const ID_CHARS_MAX: usize = 64;
const ID_CHARS_KEPT: usize = 47;
/// The longest name of a document.
const NAME_CHARS_MAX: usize = 200;
/// Images by media type.
const IMAGES: [(&str, &str); 5] =
    [("image/png", "png"), ("image/jpeg", "jpeg"), ("image/jpg", "jpeg"), ("image/gif", "gif"), ("image/webp", "webp")];
/// Documents by media type.
const DOCUMENTS: [(&str, &str); 9] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("text/markdown", "md"),
];
/// Members of Converse that a client of another dialect may add under their own names.
const OWN: [&str; 2] = ["guardrailConfig", "requestMetadata"];
/// What else the model is asked, in its maker's words; a client may add to it under this name.
const ADDITIONAL: &str = "additionalModelRequestFields";

/// One request being written.
pub(super) struct Writer<'a> {
    /// Who made the model.
    pub maker: Maker,
    /// What was left out.
    pub dropped: &'a mut Dropped,
    /// Documents so far; each bears a name of its own.
    documents: Vec<String>,
}

/// The request's body.
pub fn request(r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    let mut w = Writer { maker: Maker::of(target.model), dropped, documents: Vec::new() };
    let (turns, mut rest) = (r.turns(), r.rest.clone());
    let mut system = w.texts(&r.system);
    let mut messages = w.messages(&turns, &mut system)?;
    if let Some(point) = w.cache_point(&mut rest)
        && let Some(Value::Array(last)) = messages.last_mut().and_then(|m| m.get_mut("content"))
    {
        last.push(point);
    }
    let mut out = object([("messages", messages.into())]);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    set("system", (!system.is_empty()).then(|| system.into()));
    let mut inference = Fields::new();
    let additional = w.additional(r, (&turns, target), &mut inference, &mut rest);
    set("inferenceConfig", (!inference.is_empty()).then_some(Value::Object(inference)));
    set("toolConfig", tools::config(r, &turns, &mut w)?);
    set(ADDITIONAL, (!additional.is_empty()).then_some(Value::Object(additional)));
    set("outputConfig", output_config(r.format.as_ref(), w.dropped));
    for name in OWN {
        set(name, take(&mut rest, name));
    }
    if r.user.is_some() {
        w.dropped.note("user");
    }
    w.dropped.rest(&rest);
    Ok(Value::Object(out))
}

impl Writer<'_> {
    /// Instructions: text, and marks of what is to be cached.
    fn texts(&mut self, blocks: &[Block]) -> Vec<Value> {
        let mut out = Vec::new();
        for b in blocks {
            let point = self.rest(&b.rest);
            match &b.part {
                Part::Text(text) if !text.trim().is_empty() => out.push(json!({ "text": text })),
                _ => continue,
            }
            out.extend(point);
        }
        out
    }

    /// The turns, which alternate. Instructions among them go to the others.
    fn messages(&mut self, turns: &[Message], system: &mut Vec<Value>) -> Result<Vec<Value>, Unsupported> {
        let mut out: Vec<(&str, Vec<Value>)> = Vec::new();
        for m in turns {
            self.dropped.rest(&m.rest);
            let role = match m.role {
                Role::System => {
                    self.dropped.note("system_position");
                    system.extend(self.texts(&m.blocks));
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let content = self.content(m)?;
            match out.last_mut().filter(|(last, _)| *last == role) {
                _ if content.is_empty() => {}
                Some((_, before)) => before.extend(content),
                None => out.push((role, content)),
            }
        }
        Ok(out.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect())
    }

    fn content(&mut self, m: &Message) -> Result<Vec<Value>, Unsupported> {
        // Results stand before everything else, right behind the calls that they answer.
        let (results, others): (Vec<&Block>, Vec<&Block>) =
            m.blocks.iter().partition(|b| matches!(b.part, Part::Result(_)));
        let mut out = Vec::new();
        for b in results.into_iter().chain(others) {
            let mut point = self.rest(&b.rest);
            if let Part::Result(o) = &b.part {
                // A result holds no marks of its own: they stand behind it.
                for inner in &o.blocks {
                    point = self.rest(&inner.rest).or(point);
                }
            }
            if let Some(written) = self.block(&b.part)? {
                out.push(written);
                out.extend(point);
            }
        }
        Ok(out)
    }

    /// `None` for what cannot be said there: a blank text, and thinking that the model's maker has not signed.
    fn block(&mut self, part: &Part) -> Result<Option<Value>, Unsupported> {
        Ok(Some(match part {
            Part::Text(text) if text.trim().is_empty() => return Ok(None),
            Part::Text(text) => json!({ "text": text }),
            Part::Image(media) => json!({ "image": image(media)? }),
            Part::Document(media, title) => json!({ "document": self.document(media, title.as_deref())? }),
            Part::Reasoning(text, Some(signature)) if !signature.starts_with(SIGNED) => {
                json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": signature } } })
            }
            // Bytes in base64; another provider's need not be.
            Part::Redacted(data) if STANDARD.decode(data).is_ok() => {
                json!({ "reasoningContent": { "redactedContent": data } })
            }
            Part::Reasoning(..) | Part::Redacted(_) => {
                self.dropped.note("thinking");
                return Ok(None);
            }
            Part::Call(c) => {
                let input = super::super::anthropic::write::input(&c.arguments).ok_or_else(|| {
                    Unsupported::at("messages", format!("the arguments of the call {:?} are not a JSON object", c.id))
                })?;
                json!({ "toolUse": { "toolUseId": id(&c.id), "name": c.name, "input": input } })
            }
            Part::Result(o) => json!({ "toolResult": self.result(o)? }),
        }))
    }

    fn result(&mut self, o: &Outcome) -> Result<Value, Unsupported> {
        let mut content = Vec::new();
        for b in &o.blocks {
            match &b.part {
                Part::Text(_) | Part::Image(_) | Part::Document(..) => content.extend(self.block(&b.part)?),
                _ => return Err(Unsupported::at("messages", "a block out of place in a tool's result")),
            }
        }
        let mut out = object([("toolUseId", id(&o.id).into()), ("content", content.into())]);
        // Not every model takes a status, and success is what its absence means.
        out.extend(o.failed.then(|| ("status".to_owned(), "error".into())));
        Ok(Value::Object(out))
    }

    fn document(&mut self, media: &Media, title: Option<&str>) -> Result<Value, Unsupported> {
        let (format, bytes) = match media {
            Media::Plain(text) => ("txt", STANDARD.encode(text)),
            Media::Inline(kind, data) => (format(kind, &DOCUMENTS)?, data.clone()),
            Media::Url(_) => return Err(by_url("document")),
        };
        let name = self.name(title.unwrap_or_default());
        Ok(json!({ "format": format, "name": name, "source": { "bytes": bytes } }))
    }

    /// A document's name: of these letters only, no two blanks in a row, and none twice.
    fn name(&mut self, title: &str) -> String {
        let fit = |c: char| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
        let fit: String = title.chars().take(NAME_CHARS_MAX - 8).map(fit).collect();
        let plain = fit.split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = if plain.is_empty() { "document".to_owned() } else { plain };
        let count = self.documents.iter().filter(|n| **n == plain).count();
        self.documents.push(plain.clone());
        if count == 0 { plain } else { format!("{plain} ({})", count + 1) }
    }

    /// Notes the members that have no place, except the mark of what is to be cached, which is a block of its own.
    pub(super) fn rest(&mut self, rest: &Fields) -> Option<Value> {
        let mut rest = rest.clone();
        let point = self.cache_point(&mut rest);
        self.dropped.rest(&rest);
        point
    }

    fn cache_point(&mut self, rest: &mut Fields) -> Option<Value> {
        let mark = rest.get("cache_control").filter(|m| text_in(m, "type") == Some("ephemeral"))?;
        let ttl = text_in(mark, "ttl").filter(|ttl| *ttl == "1h");
        let point = match (self.maker, ttl) {
            (Maker::Anthropic, Some(ttl)) => json!({ "cachePoint": { "type": "default", "ttl": ttl } }),
            (Maker::Anthropic, None) | (Maker::Amazon, _) => json!({ "cachePoint": { "type": "default" } }),
            // Others refuse a request with such a mark. It is named among what was dropped.
            _ => return None,
        };
        if ttl.is_some() && self.maker != Maker::Anthropic {
            self.dropped.note("cache_control.ttl");
        }
        rest.shift_remove("cache_control");
        Some(point)
    }

    /// `inferenceConfig`, and what Converse has no member for.
    fn additional(
        &mut self,
        r: &Request,
        (turns, target): (&[Message], &Target<'_>),
        inference: &mut Fields,
        rest: &mut Fields,
    ) -> Fields {
        let mut more = Fields::new();
        let claude = self.maker == Maker::Anthropic;
        let limit = r.max_tokens.unwrap_or(target.max_tokens);
        let thinks = if claude { thinking(r, turns, (limit, target.thinking), self.dropped) } else { None };
        let (temperature, top_p) =
            if claude { sampling(r, thinks.is_some(), self.dropped) } else { self.within_one(r) };
        let budgeted = thinks.as_ref().is_some_and(|(how, _)| how.get("budget_tokens").is_some());
        // A budget must stay below the limit, which therefore has to be told.
        let limit = r.max_tokens.or(budgeted.then_some(limit));
        inference.extend(limit.map(|n| ("maxTokens".to_owned(), n.into())));
        inference.extend(temperature.map(|t| ("temperature".to_owned(), t.into())));
        inference.extend(top_p.map(|p| ("topP".to_owned(), p.into())));
        inference.extend(stop_sequences(&r.stop, self.dropped).map(|s| ("stopSequences".to_owned(), s)));
        match (self.maker, &r.reasoning) {
            (Maker::Anthropic, _) => {
                let (how, effort) = thinks.unzip();
                more.extend(how.map(|how| ("thinking".to_owned(), how)));
                more.extend(effort.flatten().map(|e| ("output_config".to_owned(), json!({ "effort": e }))));
            }
            (Maker::Openai, Some(Reasoning::Effort(e))) => {
                let effort = match e.as_str() {
                    "minimal" | "low" => "low",
                    "medium" => "medium",
                    _ => "high",
                };
                more.insert("reasoning_effort".to_owned(), effort.into());
            }
            (_, None | Some(Reasoning::Off)) => {}
            _ => self.dropped.note("reasoning_effort"),
        }
        match (self.maker, r.top_k) {
            (_, None) => {}
            (Maker::Anthropic | Maker::Mistral, Some(k)) => drop(more.insert("top_k".to_owned(), k.into())),
            (Maker::Amazon, Some(k)) => drop(more.insert("inferenceConfig".to_owned(), json!({ "topK": k }))),
            _ => self.dropped.note("top_k"),
        }
        if let Some(Value::Object(own)) = rest.get_mut(ADDITIONAL).filter(|v| v.is_object()).map(Value::take) {
            rest.shift_remove(ADDITIONAL);
            more.extend(own);
        }
        more
    }

    /// Temperatures end at 1 there.
    fn within_one(&mut self, r: &Request) -> (Option<f64>, Option<f64>) {
        if r.temperature.is_some_and(|t| t > 1.0) {
            self.dropped.note("temperature");
        }
        (r.temperature.filter(|t| *t <= 1.0), r.top_p)
    }
}

/// A call's id in the letters and of the length that are allowed. Call and result are spelt alike, so they still
/// belong together.
fn id(id: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "_.:-".contains(c) { c } else { '_' };
    let plain: String = id.chars().map(fit).collect();
    if plain.len() <= ID_CHARS_MAX {
        return plain;
    }
    let digest = hex(&sha256_parts([id.as_bytes()]));
    let kept: String = plain.chars().take(ID_CHARS_KEPT).collect();
    let short: String = digest.chars().take(ID_CHARS_MAX - ID_CHARS_KEPT - 1).collect();
    format!("{kept}.{short}")
}

fn image(media: &Media) -> Result<Value, Unsupported> {
    match media {
        Media::Inline(kind, data) => Ok(json!({ "format": format(kind, &IMAGES)?, "source": { "bytes": data } })),
        _ => Err(by_url("picture")),
    }
}

fn by_url(what: &str) -> Unsupported {
    Unsupported::at("messages", format!("a {what} by URL has no counterpart; send it in base64"))
}

fn format(kind: &str, known: &[(&str, &'static str)]) -> Result<&'static str, Unsupported> {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let found = known.iter().find(|(name, _)| *name == essence).map(|(_, format)| *format);
    found.ok_or_else(|| Unsupported::at("messages", format!("the media type {kind:?} has no counterpart")))
}

/// The form of the answer. The schema is a text of JSON there.
fn output_config(format: Option<&Format>, dropped: &mut Dropped) -> Option<Value> {
    match format? {
        Format::Schema(schema, name) => {
            let mut told = object([("schema", schema.to_string().into())]);
            told.extend(name.clone().map(|n| ("name".to_owned(), n.into())));
            Some(json!({ "textFormat": { "type": "json_schema", "structure": { "jsonSchema": told } } }))
        }
        // JSON without a schema cannot be asked for.
        Format::Json => {
            dropped.note("response_format");
            None
        }
    }
}
