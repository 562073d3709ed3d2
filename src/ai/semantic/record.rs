//! What is kept of an answer, as JSON text in the store.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

/// Changes when entries of older versions cannot be read any more; those are then ignored until they expire.
const VERSION: u32 = 1;

/// A complete answer of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The complete JSON answer, in the dialect of the client that asked.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub body: Bytes,
    /// The model that answered.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// What the call cost, billionths of a US dollar.
    pub cost_nano_usd: u64,
    /// What the provider took, in seconds.
    pub seconds: f64,
}

/// An entry: the text that was asked, and the answer.
#[derive(Deserialize)]
pub(super) struct Record {
    v: u32,
    pub(super) text: String,
    pub(super) answer: StoredAnswer,
}

impl Record {
    /// `None` for what this version cannot read.
    pub(super) fn read(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok().filter(|r: &Record| r.v == VERSION)
    }
}

/// `None` when the answer is not text.
pub(super) fn write(text: &str, answer: StoredAnswer) -> Option<String> {
    #[derive(Serialize)]
    struct Written<'a> {
        v: u32,
        text: &'a str,
        answer: StoredAnswer,
    }
    serde_json::to_string(&Written { v: VERSION, text, answer }).ok()
}

fn as_text<S: Serializer>(body: &Bytes, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(std::str::from_utf8(body).map_err(ser::Error::custom)?)
}

fn from_text<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
    String::deserialize(d).map(Bytes::from)
}
