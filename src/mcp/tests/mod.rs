//! Tests of the MCP organ: rules, limits and kept results, around a scripted server that counts.

mod keeping;

use super::*;
use crate::base::reply::Chunks;
use crate::base::units::Dur;
use crate::config::mcp::McpRateLimit;
use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Script = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A server on a raw socket, and the requests that reached it.
async fn server(script: impl Fn(&str) -> String + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (script, seen): (Script, Arc<Mutex<Vec<String>>>) = (Arc::new(script), Arc::default());
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            let (script, log) = (script.clone(), log.clone());
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let text = String::from_utf8_lossy(&all).into_owned();
                    let lower = text.to_ascii_lowercase();
                    let length = lower.split("content-length: ").nth(1);
                    let length = length.map_or(0, |r| r.split("\r\n").next().unwrap().parse::<usize>().unwrap());
                    if text.find("\r\n\r\n").is_some_and(|end| all.len() >= end + 4 + length) {
                        log.lock().unwrap().push(text.clone());
                        let _ = s.write_all(script(&text).as_bytes()).await;
                        return;
                    }
                    let mut buf = [0; 4096];
                    match s.read(&mut buf).await {
                        Ok(n @ 1..) => all.extend_from_slice(&buf[..n]),
                        _ => return,
                    }
                }
            });
        }
    });
    (url, seen)
}

fn http_json(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s1\r\nset-cookie: a=b\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn http_events(events: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{events}",
        events.len()
    )
}

/// A server with the tools `search` (reads), `read_file` and `rm`; its answers count up.
fn tools(text: &str) -> String {
    let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_default();
    let one = |m: &Value| match m["method"].as_str() {
        Some("tools/list") => json!({ "jsonrpc": "2.0", "id": m["id"], "result": { "tools": [
            { "name": "search", "annotations": { "readOnlyHint": true } }, { "name": "read_file" }, { "name": "rm" },
        ], "nextCursor": "c" } }),
        Some("tools/call") if m["params"]["arguments"]["fail"] == true => {
            json!({ "jsonrpc": "2.0", "id": m["id"], "result": { "content": [], "isError": true } })
        }
        _ => {
            json!({ "jsonrpc": "2.0", "id": m["id"], "result": { "content": [{ "type": "text", "text": m.to_string() }] } })
        }
    };
    match &body {
        Value::Array(all) => http_json(&all.iter().map(one).collect()),
        one_only => http_json(&one(one_only)),
    }
}

fn route(url: &str, rest: &str) -> McpRoute {
    serde_yaml::from_str(&format!("{{ servers: {{ docs: {{ url: '{url}', {rest} }} }} }}")).unwrap()
}

fn open(config: &McpRoute, clock: &Clock) -> Mcp {
    let keys = BTreeMap::from([("docs".to_owned(), Secret::new("sk-canary".to_owned()))]);
    Mcp::compile(config, &keys, Arc::new(State::new(config, clock)), Fetcher::new())
        .map_err(|f| panic!("{f:?}"))
        .ok()
        .unwrap()
}

async fn post(mcp: &Mcp, tenant: &str, body: &Value) -> (StatusCode, Value, Asked) {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    headers.insert(header::AUTHORIZATION, "Bearer client-canary".parse().unwrap());
    headers.insert(header::COOKIE, "client-canary".parse().unwrap());
    headers.insert(SESSION, "s1".parse().unwrap());
    let record = Arc::new(Record::default());
    let server = mcp.admit(&Method::POST, "/mcp", &headers).map_err(|r| panic!("{r:?}")).ok().unwrap();
    let asking = Asking { method: &Method::POST, headers: &headers, body: body.to_string().into(), tenant };
    let reply = mcp.answer(server, asking, &record).await;
    let status = reply.status;
    let body = serde_json::from_slice(&body_of(reply).await).unwrap_or_default();
    (status, body, record.read())
}

async fn body_of(reply: Reply) -> Vec<u8> {
    use crate::base::reply::Body;
    match reply.body {
        Body::Empty => Vec::new(),
        Body::Full(b) => b.to_vec(),
        Body::Stream(mut s) => drain(s.as_mut()).await,
    }
}

async fn drain(s: &mut dyn Chunks) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(Ok(piece)) = s.next().await {
        out.extend_from_slice(&piece);
    }
    out
}

use record::Asked;

fn call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

fn results(asked: &Asked) -> Vec<&'static str> {
    asked.calls.iter().map(|c| c.result).collect()
}

#[tokio::test]
async fn tools_that_are_not_allowed_are_neither_seen_nor_called() {
    let (url, seen) = server(tools).await;
    let mcp = open(&route(&url, "tools: { allow: [search, 'r*'], deny: [rm] }"), &Clock::system());
    let list = json!({ "jsonrpc": "2.0", "id": "l", "method": "tools/list" });
    let (_, answer, _) = post(&mcp, "t", &list).await;
    let names: Vec<_> = answer["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["search", "read_file"]);
    assert_eq!(answer["result"]["nextCursor"], "c");
    let (status, answer, asked) = post(&mcp, "t", &call("rm", json!({}))).await;
    assert_eq!((status.as_u16(), answer["error"]["code"].as_i64(), &answer["id"]), (200, Some(-32602), &json!(7)));
    assert_eq!(asked.calls, [record::ToolCall { tool: "other".into(), result: "refused" }]);
    let (_, answer, asked) = post(&mcp, "t", &call("read_file", json!({}))).await;
    assert!(answer["result"].is_object());
    assert_eq!(asked.calls, [record::ToolCall { tool: "read_file".into(), result: "ok" }]);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_call_that_hides_its_tool_is_refused() {
    let (url, seen) = server(tools).await;
    let mcp = open(&route(&url, "tools: { allow: [search] }"), &Clock::system());
    for params in [json!({ "name": ["rm"] }), json!([{ "name": "rm" }]), json!(null), json!({ "Name": "rm" })] {
        let (_, answer, _) =
            post(&mcp, "t", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await;
        assert_eq!(answer["error"]["code"], -32602, "{params}");
    }
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","name":"rm"}}"#;
    let server = mcp.servers["docs"].clone();
    for body in [twice, "{", "7", "[]", "[7]", &"[".repeat(100)] {
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        let asking = Asking { method: &Method::POST, headers: &headers, body, tenant: "t" };
        let reply = mcp.answer(&server, asking, &Arc::new(Record::default())).await;
        assert_eq!((reply.status.as_u16(), reply.reason), (400, "invalid_message"));
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn fields_that_repeat_the_message_must_say_the_same() {
    let (url, seen) = server(tools).await;
    let mcp = open(&route(&url, ""), &Clock::system());
    let server = mcp.servers["docs"].clone();
    for (method, name, passes) in
        [("tools/call", "=?base64?c8Op?=", true), ("tools/call", "rm", false), ("tools/list", "=?base64?c8Op?=", false)]
    {
        let mut headers = HeaderMap::new();
        headers.insert(METHOD, method.parse().unwrap());
        headers.insert(NAME, name.parse().unwrap());
        headers.insert(HeaderName::from_static("mcp-param-region"), "eu".parse().unwrap());
        let body = Bytes::from(call("sé", json!({})).to_string());
        let asking = Asking { method: &Method::POST, headers: &headers, body, tenant: "t" };
        let reply = mcp.answer(&server, asking, &Arc::default()).await;
        assert_eq!(reply.status == StatusCode::OK, passes, "{method} {name}");
    }
    let text = seen.lock().unwrap().last().unwrap().clone();
    assert!(text.contains("mcp-name: =?base64?c8Op?=") && text.contains("mcp-param-region: eu"), "{text}");
}

#[tokio::test]
async fn a_question_back_is_not_kept() {
    let (url, seen) =
        server(|_| http_json(&json!({ "jsonrpc": "2.0", "id": 7, "result": { "resultType": "input_required" } })))
            .await;
    let mut config = route(&url, "");
    config.cache = serde_yaml::from_str("{ tools: { search: 60s } }").unwrap();
    let mcp = open(&config, &Clock::system());
    for _ in 0..2 {
        post(&mcp, "t", &call("search", json!({}))).await;
    }
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn of_a_list_the_server_gets_what_is_allowed() {
    let (url, seen) = server(tools).await;
    let mcp = open(&route(&url, "tools: { deny: [rm] }"), &Clock::system());
    let mut quiet = call("rm", json!({}));
    quiet.as_object_mut().unwrap().remove("id");
    let mut other = call("search", json!({}));
    other["id"] = json!(8);
    let (_, answer, asked) = post(&mcp, "t", &json!([call("rm", json!({})), other, quiet])).await;
    let ids: Vec<_> = answer.as_array().unwrap().iter().map(|a| (a["id"].clone(), a["error"].is_object())).collect();
    assert_eq!(ids, [(json!(7), true), (json!(8), false)]);
    assert_eq!(results(&asked), ["refused", "ok", "refused"]);
    assert!(!seen.lock().unwrap()[0].contains("\"rm\""));
    let (status, answer, _) = post(&mcp, "t", &json!([call("rm", json!({}))])).await;
    assert_eq!((status.as_u16(), answer.as_array().unwrap().len()), (200, 1));
}

#[tokio::test]
async fn the_server_gets_the_gateways_credentials_and_never_the_clients() {
    let (url, seen) = server(tools).await;
    let mcp = open(&route(&url, "headers: { x-team: a }"), &Clock::system());
    post(&mcp, "t", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).await;
    let text = seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(text.starts_with("post /mcp http/1.1\r\n"), "{text}");
    assert!(text.contains("authorization: bearer sk-canary\r\n") && !text.contains("client-canary"), "{text}");
    assert!(text.contains("x-team: a\r\n") && text.contains("mcp-session-id: s1\r\n"));
    assert!(text.contains("accept: application/json, text/event-stream\r\n"));
    let config = route(&url, "auth: passthrough");
    let mcp = Mcp::compile(&config, &BTreeMap::new(), Arc::new(State::new(&config, &Clock::system())), Fetcher::new());
    post(&mcp.map_err(|f| panic!("{f:?}")).ok().unwrap(), "t", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
        .await;
    let text = seen.lock().unwrap()[1].to_ascii_lowercase();
    assert!(text.contains("authorization: bearer client-canary\r\n") && !text.contains("cookie"), "{text}");
}

#[tokio::test]
async fn a_stream_is_filtered_and_its_result_kept() {
    let (url, seen) = server(|text| {
        if text.contains("tools/call") {
            let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
            let done = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"done"}]}}"#;
            return http_events(&format!("id: 1\r\ndata: {progress}\r\n\r\n: ping\n\nid: 2\ndata: {done}\n\n"));
        }
        http_events("id: 9\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"tools\":[{\"name\":\"rm\"},{\"name\":\"search\"}]}}\n\n")
    })
    .await;
    let mut config = route(&url, "tools: { deny: [rm] }");
    config.cache = serde_yaml::from_str("{ tools: { search: 60s } }").unwrap();
    let mcp = open(&config, &Clock::system());
    let server = mcp.servers["docs"].clone();
    let record = Arc::new(Record::default());
    let headers = HeaderMap::new();
    let ask = async |body: Value| {
        let asking = Asking { method: &Method::POST, headers: &headers, body: body.to_string().into(), tenant: "t" };
        String::from_utf8(body_of(mcp.answer(&server, asking, &record).await).await).unwrap()
    };
    let list = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
    assert!(
        list.starts_with("id: 9\nevent: message\ndata: {") && !list.contains("rm") && list.contains("search"),
        "{list}"
    );
    let first = ask(call("search", json!({}))).await;
    assert!(first.starts_with("id: 1\r\ndata: {") && first.contains(": ping\n\n") && first.contains("done"), "{first}");
    let second = ask(call("search", json!({}))).await;
    assert_eq!(serde_json::from_str::<Value>(&second).unwrap()["result"]["content"][0]["text"], "done");
    assert_eq!((seen.lock().unwrap().len(), results(&record.read())), (2, vec!["ok", "cached"]));
}

#[tokio::test]
async fn what_a_server_does_wrong_is_told_and_never_passed_unseen() {
    for (answer, status, reason) in [
        ("HTTP/1.1 401 X\r\nwww-authenticate: Bearer x\r\ncontent-length: 9\r\n\r\nsk-canary", 502, "mcp_garbage"),
        ("HTTP/1.1 302 X\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", 502, "mcp_garbage"),
        ("HTTP/1.1 404 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", 404, "mcp_error"),
        ("HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n{", 502, "mcp_garbage"),
        ("HTTP/1.1 200 X\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\nabc", 502, "mcp_garbage"),
        ("", 502, "cut"),
    ] {
        let (url, _) = server(move |_| answer.to_owned()).await;
        let mcp = open(&route(&url, ""), &Clock::system());
        let server = mcp.servers["docs"].clone();
        let (headers, body) = (HeaderMap::new(), Bytes::from(call("a", json!({})).to_string()));
        let record = Arc::new(Record::default());
        let asking = Asking { method: &Method::POST, headers: &headers, body, tenant: "t" };
        let reply = mcp.answer(&server, asking, &record).await;
        assert_eq!((reply.status.as_u16(), reply.reason), (status, reason), "{answer}");
        assert!(!reply.headers.contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(results(&record.read()), [if reason == "cut" { "unreachable" } else { "error" }]);
        assert!(!String::from_utf8_lossy(&body_of(reply).await).contains("canary"));
    }
    let (url, _) = server(|_| http_events("data: {\"a\":1,\"a\":2}\n\n")).await;
    let mcp = open(&route(&url, ""), &Clock::system());
    let server = mcp.servers["docs"].clone();
    let headers = HeaderMap::new();
    let asking = Asking { method: &Method::GET, headers: &headers, body: Bytes::new(), tenant: "t" };
    let crate::base::reply::Body::Stream(mut s) = mcp.answer(&server, asking, &Arc::default()).await.body else {
        panic!()
    };
    assert!(s.next().await.unwrap().is_err());
}

#[test]
fn heads_are_judged_before_anything_is_read() {
    let mut config = route("http://x/mcp", "");
    config.origins = vec!["https://App.example".to_owned()];
    let one = open(&config, &Clock::system());
    let judged = |mcp: &Mcp, method: Method, path: &str, fields: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (n, v) in fields {
            headers.append(n.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        }
        mcp.admit(&method, path, &headers).map_or_else(|r| r.status.as_u16(), |_| 200)
    };
    let json = ("content-type", "application/json; charset=utf-8");
    assert_eq!(judged(&one, Method::POST, "/a", &[json]), 200);
    assert_eq!(judged(&one, Method::POST, "/a", &[]), 415);
    assert_eq!(judged(&one, Method::GET, "/a", &[]), 200);
    assert_eq!(judged(&one, Method::PUT, "/a", &[]), 405);
    assert_eq!(judged(&one, Method::POST, "/a", &[json, ("origin", "https://app.example")]), 200);
    assert_eq!(judged(&one, Method::POST, "/a", &[json, ("origin", "http://evil.example")]), 403);
    assert_eq!(judged(&one, Method::GET, "/a", &[("origin", "null")]), 403);
    let two = "{ servers: { docs: { url: 'http://x/mcp' }, mail: { url: 'http://y/mcp' } } }";
    let two = open(&serde_yaml::from_str(two).unwrap(), &Clock::system());
    assert_eq!(judged(&two, Method::GET, "/mcp/mail", &[]), 200);
    assert_eq!(judged(&two, Method::GET, "/mcp", &[]), 404);
}

#[test]
fn faults_are_named_with_their_places() {
    let config: McpRoute = serde_yaml::from_str(
        "{ servers: { a: { url: 'ftp://x', tools: { allow: ['[a'] }, headers: { 'a b': c }, idle: 0s } }, \
         rate_limit: { calls: 0, per: 1m }, cache: {}, max_answer: 0 }",
    )
    .unwrap();
    let state = Arc::new(State::new(&config, &Clock::system()));
    let faults = Mcp::compile(&config, &BTreeMap::new(), state, Fetcher::new()).err().unwrap();
    let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
    let expected = [
        "rate_limit",
        "cache",
        "max_answer",
        "servers.a.url",
        "servers.a.headers.a b",
        "servers.a.tools.allow[0]",
        "servers.a.timeouts",
    ];
    assert_eq!(paths, expected);
}
