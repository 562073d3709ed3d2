//! Tokens of a call in disjoint buckets, so that nothing is counted or billed twice.

use serde_json::{Map, Value, json};

/// Token counts; every token is in exactly one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Text and image input that the provider had to read anew.
    pub uncached_in: u64,
    /// Input served by the provider's own prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache for its ordinary time (at Anthropic five minutes).
    pub cache_write: u64,
    /// Input written to it for an hour.
    pub cache_write_1h: u64,
    /// Audio input.
    pub audio_in: u64,
    /// Visible output.
    pub out_text: u64,
    /// Hidden reasoning output.
    pub out_reasoning: u64,
    /// Audio output.
    pub audio_out: u64,
}

impl Usage {
    /// From OpenAI's `usage` object, whose totals include the details: `prompt_tokens` contains the cached tokens,
    /// `completion_tokens` the reasoning. `None` when it holds no counts.
    pub fn from_openai(usage: &Value) -> Option<Usage> {
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
        let first = |paths: &[&str]| paths.iter().find_map(|p| count(p)).unwrap_or(0);
        let total_in = count("/prompt_tokens")?;
        let total_out = count("/completion_tokens").unwrap_or(0);
        // Some compatible servers report cached tokens beside the totals instead of in the details.
        let cached = ["/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens", "/cached_tokens"];
        let cache_read = first(&cached).min(total_in);
        let cache_write = first(&["/prompt_tokens_details/cache_write_tokens"]).min(total_in - cache_read);
        let audio_in = first(&["/prompt_tokens_details/audio_tokens"]).min(total_in - cache_read - cache_write);
        let out_reasoning = first(&["/completion_tokens_details/reasoning_tokens"]).min(total_out);
        let audio_out = first(&["/completion_tokens_details/audio_tokens"]).min(total_out - out_reasoning);
        Some(Usage {
            uncached_in: total_in - cache_read - cache_write - audio_in,
            cache_read,
            cache_write,
            cache_write_1h: 0,
            audio_in,
            out_text: total_out - out_reasoning - audio_out,
            out_reasoning,
            audio_out,
        })
    }

    /// From the `usage` of OpenAI's Responses, whose totals include the details, too. `None` when it holds no counts.
    pub fn from_responses(usage: &Value) -> Option<Usage> {
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
        let total_in = count("/input_tokens")?;
        let total_out = count("/output_tokens").unwrap_or(0);
        let cache_read = count("/input_tokens_details/cached_tokens").unwrap_or(0).min(total_in);
        let written = count("/input_tokens_details/cache_write_tokens").unwrap_or(0).min(total_in - cache_read);
        let out_reasoning = count("/output_tokens_details/reasoning_tokens").unwrap_or(0).min(total_out);
        Some(Usage {
            uncached_in: total_in - cache_read - written,
            cache_read,
            cache_write: written,
            out_text: total_out - out_reasoning,
            out_reasoning,
            ..Usage::default()
        })
    }

    /// From Anthropic's `usage` object, whose counts of input are disjoint: `input_tokens` holds neither what was read
    /// from the cache nor what was written to it. `None` when it holds no counts.
    pub fn from_anthropic(usage: &Value) -> Option<Usage> {
        Usage::from_anthropic_fields(usage.as_object()?)
    }

    /// The same from its members, as a stream tells them one after the other.
    pub fn from_anthropic_fields(usage: &Map<String, Value>) -> Option<Usage> {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let within = |name: &str, part: &str| usage.get(name).and_then(|v| v.get(part)).and_then(Value::as_u64);
        if count("input_tokens").is_none() && count("output_tokens").is_none() {
            return None;
        }
        let told_5m = within("cache_creation", "ephemeral_5m_input_tokens");
        let told_1h = within("cache_creation", "ephemeral_1h_input_tokens").unwrap_or(0);
        let written = count("cache_creation_input_tokens");
        let written = written.unwrap_or(told_5m.unwrap_or(0).saturating_add(told_1h));
        let cache_write_1h = told_1h.min(written);
        let total_out = count("output_tokens").unwrap_or(0);
        let out_reasoning = within("output_tokens_details", "thinking_tokens").unwrap_or(0).min(total_out);
        Some(Usage {
            uncached_in: count("input_tokens").unwrap_or(0),
            cache_read: count("cache_read_input_tokens").unwrap_or(0),
            cache_write: written - cache_write_1h,
            cache_write_1h,
            out_text: total_out - out_reasoning,
            out_reasoning,
            ..Usage::default()
        })
    }

    /// From Gemini's `usageMetadata`: the prompt contains what was cached, thoughts stand beside the candidates, and
    /// what built-in tools read stands beside the prompt. `None` when it holds no counts.
    pub fn from_gemini(usage: &Value) -> Option<Usage> {
        Usage::from_gemini_fields(usage.as_object()?)
    }

    /// The same from its members.
    pub fn from_gemini_fields(usage: &Map<String, Value>) -> Option<Usage> {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let audio = |name: &str| {
            let details = usage.get(name).and_then(Value::as_array).into_iter().flatten();
            let of = details.filter(|d| d.get("modality").and_then(Value::as_str) == Some("AUDIO"));
            of.filter_map(|d| d.get("tokenCount").and_then(Value::as_u64)).fold(0, u64::saturating_add)
        };
        let prompt = count("promptTokenCount")?;
        let cache_read = count("cachedContentTokenCount").unwrap_or(0).min(prompt);
        let audio_in = audio("promptTokensDetails").min(prompt - cache_read);
        let said = count("candidatesTokenCount").unwrap_or(0);
        let audio_out = audio("candidatesTokensDetails").min(said);
        let fresh = prompt - cache_read - audio_in;
        Some(Usage {
            uncached_in: fresh.saturating_add(count("toolUsePromptTokenCount").unwrap_or(0)),
            cache_read,
            audio_in,
            out_text: said - audio_out,
            out_reasoning: count("thoughtsTokenCount").unwrap_or(0),
            audio_out,
            ..Usage::default()
        })
    }

    /// From Bedrock's `usage`, whose counts of input are disjoint; how long what was written to the cache stays there is
    /// told beside them. Thinking is not told apart. `None` when it holds no counts.
    pub fn from_bedrock(usage: &Value) -> Option<Usage> {
        let count = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
        let details = usage.get("cacheDetails").and_then(Value::as_array).into_iter().flatten();
        let sum = |ttl: &str| {
            let of = details.clone().filter(|d| d.get("ttl").and_then(Value::as_str) == Some(ttl));
            of.filter_map(|d| count(d, "inputTokens")).fold(0, u64::saturating_add)
        };
        let (told_5m, told_1h) = (sum("5m"), sum("1h"));
        let written = count(usage, "cacheWriteInputTokens").unwrap_or_else(|| told_5m.saturating_add(told_1h));
        let cache_write_1h = told_1h.min(written);
        Some(Usage {
            uncached_in: count(usage, "inputTokens")?,
            cache_read: count(usage, "cacheReadInputTokens").unwrap_or(0),
            cache_write: written - cache_write_1h,
            cache_write_1h,
            out_text: count(usage, "outputTokens").unwrap_or(0),
            ..Usage::default()
        })
    }

    /// As OpenAI's clients read it: the totals contain the details.
    pub fn to_openai(&self) -> Value {
        json!({
            "prompt_tokens": self.input(),
            "completion_tokens": self.output(),
            "total_tokens": self.input().saturating_add(self.output()),
            "prompt_tokens_details": {
                "cached_tokens": self.cache_read,
                "cache_write_tokens": self.cache_write.saturating_add(self.cache_write_1h),
                "audio_tokens": self.audio_in,
            },
            "completion_tokens_details": { "reasoning_tokens": self.out_reasoning, "audio_tokens": self.audio_out },
        })
    }

    /// As clients of OpenAI's Responses read it: the totals contain the details.
    pub fn to_responses(&self) -> Value {
        json!({
            "input_tokens": self.input(),
            "input_tokens_details": {
                "cached_tokens": self.cache_read,
                "cache_write_tokens": self.cache_write.saturating_add(self.cache_write_1h),
            },
            "output_tokens": self.output(),
            "output_tokens_details": { "reasoning_tokens": self.out_reasoning },
            "total_tokens": self.input().saturating_add(self.output()),
        })
    }

    /// As Anthropic's clients read it: the counts of input are disjoint.
    pub fn to_anthropic(&self) -> Value {
        json!({
            "input_tokens": self.uncached_in.saturating_add(self.audio_in),
            "cache_creation_input_tokens": self.cache_write.saturating_add(self.cache_write_1h),
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write,
                "ephemeral_1h_input_tokens": self.cache_write_1h,
            },
            "output_tokens": self.output(),
            "output_tokens_details": { "thinking_tokens": self.out_reasoning },
        })
    }

    /// As Gemini's clients read it: thoughts stand beside the candidates.
    pub fn to_gemini(&self) -> Value {
        let details = |all: u64, audio: u64| {
            json!([
                { "modality": "TEXT", "tokenCount": all.saturating_sub(audio) },
                { "modality": "AUDIO", "tokenCount": audio },
            ])
        };
        let said = self.out_text.saturating_add(self.audio_out);
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        set("promptTokenCount", self.input().into());
        set("candidatesTokenCount", said.into());
        set("totalTokenCount", self.input().saturating_add(self.output()).into());
        if self.cache_read > 0 {
            set("cachedContentTokenCount", self.cache_read.into());
        }
        if self.out_reasoning > 0 {
            set("thoughtsTokenCount", self.out_reasoning.into());
        }
        if self.audio_in > 0 {
            set("promptTokensDetails", details(self.input(), self.audio_in));
        }
        if self.audio_out > 0 {
            set("candidatesTokensDetails", details(said, self.audio_out));
        }
        Value::Object(out)
    }

    /// Each kind's name in metrics and its count.
    pub fn kinds(&self) -> [(&'static str, u64); 8] {
        [
            ("input", self.uncached_in),
            ("cached_input", self.cache_read),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_input", self.audio_in),
            ("output", self.out_text),
            ("reasoning", self.out_reasoning),
            ("audio_output", self.audio_out),
        ]
    }

    /// All input tokens.
    pub fn input(&self) -> u64 {
        let parts = [self.uncached_in, self.cache_read, self.cache_write, self.cache_write_1h, self.audio_in];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// All output tokens.
    pub fn output(&self) -> u64 {
        self.out_text + self.out_reasoning + self.audio_out
    }
}
