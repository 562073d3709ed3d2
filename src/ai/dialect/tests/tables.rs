//! Which dialects are translated into which, and that every one of them has its tables.

use super::{Dialect, inputs};
use std::collections::BTreeSet;
use std::path::Path;

/// Client to provider.
pub const REQUESTS: [(Dialect, Dialect); 15] = [
    (Dialect::Openai, Dialect::Anthropic),
    (Dialect::Anthropic, Dialect::Openai),
    (Dialect::Openai, Dialect::Gemini),
    (Dialect::Anthropic, Dialect::Gemini),
    (Dialect::Gemini, Dialect::Openai),
    (Dialect::Gemini, Dialect::Anthropic),
    (Dialect::Responses, Dialect::Openai),
    (Dialect::Responses, Dialect::Anthropic),
    (Dialect::Responses, Dialect::Gemini),
    (Dialect::Openai, Dialect::Responses),
    (Dialect::Anthropic, Dialect::Responses),
    (Dialect::Completions, Dialect::Anthropic),
    (Dialect::Completions, Dialect::Responses),
    (Dialect::Openai, Dialect::Bedrock),
    (Dialect::Anthropic, Dialect::Bedrock),
];
/// Provider to client.
pub const ANSWERS: [(Dialect, Dialect); 15] = [
    (Dialect::Openai, Dialect::Anthropic),
    (Dialect::Anthropic, Dialect::Openai),
    (Dialect::Gemini, Dialect::Openai),
    (Dialect::Gemini, Dialect::Anthropic),
    (Dialect::Openai, Dialect::Gemini),
    (Dialect::Anthropic, Dialect::Gemini),
    (Dialect::Responses, Dialect::Openai),
    (Dialect::Responses, Dialect::Anthropic),
    (Dialect::Openai, Dialect::Responses),
    (Dialect::Anthropic, Dialect::Responses),
    (Dialect::Gemini, Dialect::Responses),
    (Dialect::Anthropic, Dialect::Completions),
    (Dialect::Responses, Dialect::Completions),
    (Dialect::Bedrock, Dialect::Openai),
    (Dialect::Bedrock, Dialect::Anthropic),
];

/// Every dialect with the folder of its code, and whether clients and providers speak it.
const ALL: [(Dialect, &str, bool, bool); 6] = [
    (Dialect::Openai, "openai_chat", true, true),
    (Dialect::Completions, "openai_chat", true, false),
    (Dialect::Responses, "openai_responses", true, true),
    (Dialect::Anthropic, "anthropic", true, true),
    (Dialect::Gemini, "gemini", true, true),
    (Dialect::Bedrock, "bedrock", false, true),
];

/// The names of the folders in a folder of the package.
fn folders(dir: &str) -> BTreeSet<String> {
    let all = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.is_dir()).map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// What a dialect's own folder must hold: what its clients ask, what its providers answer, with tools among both.
/// What other dialects make of it is compared, file by file, wherever the two stand in the lists above.
#[test]
fn every_dialect_has_requests_answers_streams_errors_and_tool_calls() {
    for (dialect, _, client, provider) in ALL {
        let mut kinds = Vec::new();
        if client {
            kinds.push("request-");
            assert!(REQUESTS.iter().any(|p| p.0 == dialect), "no request of {dialect:?} is translated");
            assert!(ANSWERS.iter().any(|p| p.1 == dialect), "no answer is translated for {dialect:?}");
        }
        if provider {
            kinds.extend(["answer-", "stream-", "error-"]);
            assert!(REQUESTS.iter().any(|p| p.1 == dialect), "no request is translated for {dialect:?}");
            assert!(ANSWERS.iter().any(|p| p.0 == dialect), "no stream of {dialect:?} is cut at every byte");
        }
        for kind in kinds {
            let found = inputs(dialect, kind);
            let tools = found.iter().any(|(path, _)| path.to_string_lossy().contains("-tools."));
            // Legacy completions know no tools, and errors are without them.
            let none = dialect == Dialect::Completions || kind == "error-";
            assert!(tools || none, "{dialect:?} has no {kind}tools: {found:?}");
        }
    }
}

#[test]
fn every_dialect_is_in_the_list() {
    let known: BTreeSet<String> = ALL.iter().map(|d| d.0.as_str().to_owned()).collect();
    assert_eq!(folders("tests/fixtures/ai"), known);
    let mut modules: BTreeSet<String> = ALL.iter().map(|d| d.1.to_owned()).collect();
    modules.insert("tests".to_owned());
    assert_eq!(folders("src/ai/dialect"), modules);
}
