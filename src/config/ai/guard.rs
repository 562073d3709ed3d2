//! Guards of model calls: what may not reach a provider as it is, and what may not come back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A named set of guards. Every part is optional; a guard that cannot run refuses the call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guards {
    /// Personal data and secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pii: Option<Pii>,
    /// Attempts to overrule the instructions, in what users and tools say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<Injection>,
    /// Words and patterns that may not be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Deny>,
    /// Whether answers keep to the JSON schema that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<OutputSchema>,
}

/// Which way the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What clients send.
    Input,
    /// What models answer.
    Output,
}

/// Recognisers of personal data and secrets: patterns with checksums where the kind has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pii {
    /// What is looked for; everything when left out.
    #[serde(default = "all_kinds")]
    pub kinds: Vec<PiiKind>,
    /// What happens to it.
    pub action: PiiAction,
    /// Where it is looked for; in the input when left out.
    #[serde(default = "input_only")]
    pub on: Vec<Side>,
}

/// A kind of personal data or secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PiiKind {
    /// PEM private keys.
    PrivateKey,
    /// JSON web tokens with a header that decodes.
    Jwt,
    /// AWS access key ids, and secret access keys where they are called so.
    AwsKey,
    /// Tokens of well-known services by prefix and length.
    ApiKey,
    /// Bank accounts: country, length and check digits (ISO 13616).
    Iban,
    /// Payment cards: issuer, length and Luhn's check digit.
    CreditCard,
    /// Mail addresses.
    Email,
    /// US social security numbers.
    UsSsn,
    /// German tax identification numbers.
    DeTaxId,
    /// IPv4 and IPv6 addresses, beside loopback and unspecified ones.
    Ip,
    /// Phone numbers: international ones, North American ones, and others where a word says so.
    Phone,
}

impl PiiKind {
    /// Every kind; where two claim the same text, the earlier one has it.
    pub const ALL: [PiiKind; 11] = [
        PiiKind::PrivateKey,
        PiiKind::Jwt,
        PiiKind::AwsKey,
        PiiKind::ApiKey,
        PiiKind::Iban,
        PiiKind::CreditCard,
        PiiKind::Email,
        PiiKind::UsSsn,
        PiiKind::DeTaxId,
        PiiKind::Ip,
        PiiKind::Phone,
    ];

    /// The one spelling used in YAML, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            PiiKind::PrivateKey => "private_key",
            PiiKind::Jwt => "jwt",
            PiiKind::AwsKey => "aws_key",
            PiiKind::ApiKey => "api_key",
            PiiKind::Iban => "iban",
            PiiKind::CreditCard => "credit_card",
            PiiKind::Email => "email",
            PiiKind::UsSsn => "us_ssn",
            PiiKind::DeTaxId => "de_tax_id",
            PiiKind::Ip => "ip",
            PiiKind::Phone => "phone",
        }
    }
}

/// What happens to personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PiiAction {
    /// The call is refused; an answer is withheld.
    Deny,
    /// `[EMAIL]` stands in its place.
    Redact,
    /// The provider sees `<EMAIL_1>` in its place and the client gets its own value back in the answer. What a model
    /// says on its own is redacted, if `on` has `output`.
    MaskAndRestore,
}

/// What happens to a prompt that looks like an attack, or that holds a word of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is refused.
    #[default]
    Deny,
    /// It passes, and header, log and metrics tell.
    Flag,
}

/// Heuristics over what users and tools say: phrases that overrule instructions, change roles or ask for the system
/// prompt, forged delimiters, hidden characters, encoded text.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Injection {
    /// What happens at the threshold.
    pub action: Verdict,
    /// The score from which a prompt counts as an attack, above 0.0 and up to 1.0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
}

impl Default for Injection {
    fn default() -> Self {
        Injection { action: Verdict::Deny, threshold: 0.6 }
    }
}

/// Words and patterns that may not be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Whole words or phrases, whatever their case.
    #[serde(default)]
    pub words: Vec<String>,
    /// A file with more of them, one to a line; lines that begin with `#` are comments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words_file: Option<String>,
    /// Regular expressions, matched in linear time; no match may be longer than 256 bytes in a streamed answer.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// What happens to a text that holds one.
    #[serde(default)]
    pub action: Verdict,
    /// Where they are looked for; in the input when left out.
    #[serde(default = "input_only")]
    pub on: Vec<Side>,
}

/// The check of JSON answers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSchema {
    /// What happens to an answer that does not keep to it.
    #[serde(default)]
    pub action: SchemaAction,
    /// The JSON schema of every answer; without one only requests that bring their own (`json_schema`) are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// What happens to an answer that does not keep to its schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaAction {
    /// The next model is asked while nothing has been sent; a stream ends with an error.
    #[default]
    Retry,
    /// The answer is withheld.
    Deny,
}

fn all_kinds() -> Vec<PiiKind> {
    PiiKind::ALL.to_vec()
}

fn input_only() -> Vec<Side> {
    vec![Side::Input]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_parses_and_defaults_fill_in() {
        let g: Guards = serde_yaml::from_str(
            "{ pii: { action: mask_and_restore }, injection: {}, deny: { words: [x] }, output_schema: {} }",
        )
        .unwrap();
        let pii = g.pii.unwrap();
        assert_eq!((pii.kinds.len(), pii.on), (11, vec![Side::Input]));
        assert_eq!(g.injection.unwrap(), Injection { action: Verdict::Deny, threshold: 0.6 });
        assert_eq!(g.output_schema.unwrap().action, SchemaAction::Retry);
    }

    #[test]
    fn unknown_kinds_and_keys_are_refused() {
        for bad in ["{ pii: { action: deny, kinds: [emial] } }", "{ pii: {} }", "{ injektion: {} }"] {
            assert!(serde_yaml::from_str::<Guards>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_is_spelled_as_in_yaml() {
        for kind in PiiKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
