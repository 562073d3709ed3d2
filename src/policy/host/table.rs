//! The table itself: every fact, verb and function of the policy script, in the order of the reference.

use super::super::hook::{Hook, Hooks};
use super::{Entry, Form, Literal};

const REQUEST: Hooks = Hooks::of(&[Hook::OnRequest]);
const PROMPT: Hooks = Hooks::of(&[Hook::OnPrompt]);
const ORIGIN: Hooks = Hooks::of(&[Hook::OnOriginResponse]);
const LOG: Hooks = Hooks::of(&[Hook::OnLog]);
const WITH_RESPONSE: Hooks = Hooks::of(&[Hook::OnOriginResponse, Hook::OnResponse, Hook::OnLog]);
const HEADERS: Hooks = Hooks::of(&[Hook::OnRequest, Hook::OnOriginResponse, Hook::OnResponse]);
const REQUEST_AND_PROMPT: Hooks = Hooks::of(&[Hook::OnRequest, Hook::OnPrompt]);
const PROMPT_AND_ORIGIN: Hooks = Hooks::of(&[Hook::OnPrompt, Hook::OnOriginResponse]);

type Args = &'static [&'static str];

/// A property of `on`.
const fn prop(on: &'static str, name: &'static str, gives: &'static str, doc: &'static str) -> Entry {
    let hooks = match on.as_bytes() {
        b"prompt" => PROMPT,
        b"resp" => WITH_RESPONSE,
        b"entry" => LOG,
        _ => Hooks::ALL,
    };
    let group = match on.as_bytes() {
        b"prompt" => "The prompt",
        b"resp" => "The response",
        b"entry" => "The log entry",
        _ => "The request",
    };
    Entry { group, on, name, form: Form::Property, args: &[], gives, hooks, literal: None, doc }
}

/// A question to `on`.
const fn ask(on: &'static str, name: &'static str, args: Args, gives: &'static str, doc: &'static str) -> Entry {
    Entry { form: Form::Method, args, ..prop(on, name, gives, doc) }
}

/// A verb that starts a decision.
const fn start(name: &'static str, args: Args, hooks: Hooks, doc: &'static str) -> Entry {
    let group = "Verbs that start a decision";
    Entry { group, on: "", name, form: Form::Function, args, gives: "decision", hooks, literal: None, doc }
}

/// A verb that adds to a decision.
const fn step(name: &'static str, args: Args, hooks: Hooks, doc: &'static str) -> Entry {
    let group = "Verbs that add to a decision";
    Entry { group, on: "decision", name, form: Form::Method, args, gives: "decision", hooks, literal: None, doc }
}

/// A function of the library.
const fn func(group: &'static str, name: &'static str, args: Args, gives: &'static str, doc: &'static str) -> Entry {
    Entry { group, on: "", name, form: Form::Function, args, gives, hooks: Hooks::ALL, literal: None, doc }
}

impl Entry {
    /// The argument `at` is checked at load.
    const fn checked(mut self, at: usize, literal: Literal) -> Entry {
        self.literal = Some((at, literal));
        self
    }
}

/// Everything a script can use.
pub const HOST: &[Entry] = &[
    prop("req", "id", "string", "the request id"),
    prop("req", "method", "string", "`GET`, `POST` …"),
    prop("req", "scheme", "string", "`http` or `https`"),
    prop("req", "host", "string", "the host asked for, lower case, without port"),
    prop("req", "path", "string", "the normalised path"),
    prop("req", "query", "string", "the query without `?`; empty when there is none"),
    prop("req", "ip", "string", "the client's address, from trusted hops"),
    prop("req", "tls", "bool", "did the client come over TLS?"),
    prop("req", "http_version", "string", "`1.0`, `1.1` or `2`"),
    prop("req", "route", "string", "the route's name"),
    prop("req", "user", "map or ()", "verified claims of the route's own auth rule"),
    prop("req", "key", "map or ()", "the virtual key that the route's own auth rule found: `name`, `team`, `metadata`"),
    prop("req", "bot", "bot", "the bot verdict"),
    ask("req", "header", &["name"], "string or ()", "a header field; several values are joined by `, `"),
    ask("req", "cookie", &["name"], "string or ()", "a cookie's value"),
    ask("req", "query_param", &["name"], "string or ()", "the first query parameter of that name, decoded"),
    ask("req", "jwt", &["auth"], "map or ()", "verified claims by an auth rule; `()` when missing or invalid")
        .checked(0, Literal::Auth),
    ask("req", "bucket", &["experiment", "arms"], "string", "the visitor's arm, sticky; arms as `#{a: 90, b: 10}`"),
    ask("req", "arm", &["experiment"], "string or ()", "the arm that `bucket` gave earlier in this request"),
    ask("req", "note", &["key"], "string or ()", "a note that an earlier hook left"),
    prop("bot", "kind", "string", "class of client, such as `ai_crawler`; empty when unknown"),
    prop("bot", "name", "string", "the bot's own name; empty when it gave none"),
    prop("bot", "declared", "bool", "it says that it is a bot"),
    prop("bot", "verified", "bool", "its claim was confirmed"),
    prop("bot", "score", "int", "0 (surely a person) to 100 (surely a bot)"),
    prop("bot", "reasons", "array", "why, as snake_case words"),
    prop("prompt", "text", "string", "the last user turn; its first 16 KiB"),
    prop("prompt", "system", "string", "all system text; its first 16 KiB"),
    prop("prompt", "model", "string", "the model or tier asked for"),
    prop("prompt", "chars", "int", "characters of the last user turn, uncut"),
    prop("prompt", "complexity", "float", "how hard it looks, 0.0 to 1.0: a guess from what can be counted"),
    prop("prompt", "turns", "int", "user turns"),
    prop("prompt", "tools", "int", "tools offered to the model"),
    prop("prompt", "messages", "int", "messages of every role"),
    prop("prompt", "stream", "bool", "is the answer to be streamed?"),
    prop("prompt", "temperature", "float", "sampling temperature; 1.0, the providers' default, when not given"),
    prop("prompt", "max_tokens", "int or ()", "most tokens to answer with, if given"),
    prop("resp", "status", "int", "the status code"),
    prop("resp", "age", "int", "seconds in a cache; 0 when fresh from its source"),
    prop("resp", "source", "string", "who answered: `origin`, `http_cache`, `provider` …"),
    prop("resp", "cache", "string", "what the HTTP cache did: `hit`, `miss`, `stale` …; empty when it had no part"),
    ask("resp", "header", &["name"], "string or ()", "a header field; several values are joined by `, `"),
    prop("entry", "duration_ms", "float", "first byte of the request to last byte of the answer"),
    prop("entry", "bytes", "int", "body bytes sent"),
    prop("entry", "source", "string", "who answered"),
    prop("entry", "reason", "string", "why, as a snake_case word; may be empty"),
    prop("entry", "cost_usd", "float", "what a model call cost"),
    prop("entry", "tokens", "int", "tokens in and out of a model call"),
    start("next", &[], Hooks::ALL, "go on as configured; returning nothing means the same"),
    start("pass", &[], REQUEST_AND_PROMPT, "go on without any cache"),
    start(
        "deny",
        &["status", "message"],
        REQUEST_AND_PROMPT,
        "refuse with 400 to 599; AI routes show it as an error of the client's dialect",
    )
    .checked(0, Literal::Status(400, 599)),
    start("respond", &["status", "body"], REQUEST, "answer at once with plain text")
        .checked(0, Literal::Status(200, 599)),
    start("respond", &["status", "body", "content_type"], REQUEST, "answer at once with this media type")
        .checked(0, Literal::Status(200, 599)),
    start("redirect", &["status", "url"], REQUEST, "301, 302, 303, 307 or 308").checked(0, Literal::Status(301, 308)),
    start("unauthorized", &["scheme"], REQUEST, "401 with `WWW-Authenticate: scheme`"),
    start("keep", &[], LOG, "write this log line"),
    start("skip", &[], LOG, "leave this log line out"),
    step("upstream", &["name"], REQUEST, "use another upstream").checked(0, Literal::Upstream),
    step("vary_on", &["name", "value"], REQUEST, "the pair joins the cache key"),
    step(
        "key_query",
        &["names"],
        REQUEST,
        "only these query parameters join the cache key; a purge by URL must name it with them alone",
    ),
    step("set_request_header", &["name", "value"], REQUEST, "as the upstream sees it; `()` leaves it as it is"),
    step("remove_request_header", &["name"], REQUEST, "as the upstream sees it"),
    step("set_header", &["name", "value"], HEADERS, "of the answer; `()` leaves it as it is"),
    step("remove_header", &["name"], HEADERS, "of the answer"),
    step("exact", &[], PROMPT, "use the exact cache only"),
    step("semantic", &[], PROMPT, "use the exact cache, then the semantic one"),
    step("tier", &["name"], PROMPT, "use this tier").checked(0, Literal::Tier),
    step("model", &["name"], PROMPT, "use this model; it wins over the tier").checked(0, Literal::Model),
    step("guard", &["name"], PROMPT, "use these guards, as far as the route's `guards_allowed` goes")
        .checked(0, Literal::Guard),
    step("threshold", &["similarity"], PROMPT, "least similarity of a semantic hit, 0.0 to 1.0; can only tighten"),
    step("ttl", &["time"], PROMPT_AND_ORIGIN, "how long the answer is fresh, such as `\"10m\"`")
        .checked(0, Literal::Time),
    step("stale_while_revalidate", &["time"], ORIGIN, "serve stale so long while a new answer is fetched")
        .checked(0, Literal::Time),
    step("stale_if_error", &["time"], ORIGIN, "serve stale so long when the origin fails").checked(0, Literal::Time),
    step("tag", &["name"], ORIGIN, "a tag to purge by"),
    step("no_store", &[], ORIGIN, "do not store this answer"),
    step("purge_tag", &["name"], LOG, "purge a tag in the HTTP caches, after the answer"),
    step("purge_tag", &["name", "how"], LOG, "the same; `\"soft\"` makes stale instead of removing"),
    step("note", &["key", "value"], Hooks::ALL, "for the log, and for `req.note` in later hooks"),
    func("Hash", "sha256", &["text"], "string", "SHA-256 in hex"),
    func("Hash", "hmac_sha256", &["key", "text"], "string", "HMAC-SHA-256 in hex"),
    func("Hash", "xxh3", &["text"], "string", "XXH3 (64 bit) in hex; fast, not secret"),
    func("Hash", "constant_eq", &["a", "b"], "bool", "equality whose time does not tell where texts differ"),
    func("Hash", "uuid", &[], "string", "a random UUID (version 4)"),
    func("Encoding", "hex_encode", &["text"], "string", "bytes of the text in hex"),
    func("Encoding", "hex_decode", &["text"], "string or ()", "`()` when it is no hex of UTF-8 text"),
    func("Encoding", "base64url_encode", &["text"], "string", "RFC 4648 §5, without padding"),
    func("Encoding", "base64url_decode", &["text"], "string or ()", "`()` when it is no base64url of UTF-8 text"),
    func("Encoding", "url_encode", &["text"], "string", "percent-encodes all but RFC 3986's unreserved characters"),
    func(
        "Encoding",
        "url_decode",
        &["text"],
        "string or ()",
        "`()` when an escape is broken or the result is no UTF-8",
    ),
    func("Encoding", "parse_json", &["text"], "any", "any JSON value; an error when it is none"),
    func("Encoding", "to_json", &["value"], "string", "a value as JSON"),
    func("Text", "matches", &["text", "regex"], "bool", "linear-time regular expression; the pattern is a literal")
        .checked(1, Literal::Regex),
    func(
        "Text",
        "glob",
        &["text", "pattern"],
        "bool",
        "`*` within a path segment, `**` across; the pattern is a literal",
    )
    .checked(1, Literal::Glob),
    func("Text", "replace", &["text", "old", "new"], "()", "replaces in place: `text.replace(old, new)`"),
    func("Guards", "pii_find", &["text"], "map", "personal data and secrets by kind, with counts: `#{email: 2}`"),
    func("Guards", "pii_redact", &["text"], "string", "the text with `[EMAIL]` and the like in their places"),
    func("Guards", "injection_score", &["text"], "float", "0.0 (nothing) towards 1.0: overrules the instructions"),
    func(
        "Network",
        "ip_in",
        &["ip", "network"],
        "bool",
        "is the address in the network? `\"10.0.0.0/8\"` is a literal",
    )
    .checked(1, Literal::Network),
    func("Time and chance", "now", &[], "int", "seconds since 1970 (UTC)"),
    func("Time and chance", "random", &[], "float", "0.0 to 1.0, not for secrets"),
    func("Telling", "log", &["text"], "()", "a line in the gateway's own log"),
];
