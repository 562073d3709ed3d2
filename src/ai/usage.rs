//! Tokens of a call in disjoint buckets, so that nothing is counted or billed twice.

use serde_json::Value;

/// Token counts; every token is in exactly one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Text and image input that the provider had to read anew.
    pub uncached_in: u64,
    /// Input served by the provider's own prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache.
    pub cache_write: u64,
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
            audio_in,
            out_text: total_out - out_reasoning - audio_out,
            out_reasoning,
            audio_out,
        })
    }

    /// Each kind's name in metrics and its count.
    pub fn kinds(&self) -> [(&'static str, u64); 7] {
        [
            ("input", self.uncached_in),
            ("cached_input", self.cache_read),
            ("cache_write", self.cache_write),
            ("audio_input", self.audio_in),
            ("output", self.out_text),
            ("reasoning", self.out_reasoning),
            ("audio_output", self.audio_out),
        ]
    }

    /// All input tokens.
    pub fn input(&self) -> u64 {
        self.uncached_in + self.cache_read + self.cache_write + self.audio_in
    }

    /// All output tokens.
    pub fn output(&self) -> u64 {
        self.out_text + self.out_reasoning + self.audio_out
    }
}
