//! Whose a signature of thinking is. Only the provider that signed can read it, and the others refuse it: those of
//! Gemini and OpenAI bear a mark wherever a client keeps them, Anthropic's stand as they are.

use super::{gemini, openai_responses};

/// Whether Anthropic made it, as far as can be told.
pub fn is_anthropics(signature: &str) -> bool {
    !signature.starts_with(gemini::SIGNED) && !signature.starts_with(openai_responses::SIGNED)
}
