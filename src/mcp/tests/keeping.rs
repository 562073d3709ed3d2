//! What is kept and how much may be asked.

use super::*;

#[tokio::test]
async fn results_are_kept_by_tool_arguments_and_tenant() {
    let (url, seen) = server(tools).await;
    let mut config = route(&url, "tools: { deny: [rm] }");
    config.cache = serde_yaml::from_str("{ tools: { read_file: 60s } }").unwrap();
    let clock = Clock::manual();
    let mcp = open(&config, &clock);
    let count = || seen.lock().unwrap().len();
    let (_, first, _) = post(&mcp, "t", &call("read_file", json!({ "a": 1, "b": 2 }))).await;
    let mut again = call("read_file", json!({ "b": 2, "a": 1 }));
    again["id"] = json!("other");
    again["params"]["_meta"] = json!({ "progressToken": 3 });
    let (_, hit, asked) = post(&mcp, "t", &again).await;
    assert_eq!((count(), results(&asked)), (1, vec!["cached"]));
    assert_eq!((&hit["id"], &hit["result"]), (&json!("other"), &first["result"]));
    post(&mcp, "u", &again).await;
    assert_eq!(count(), 2, "another tenant");
    post(&mcp, "t", &call("read_file", json!({ "a": 2 }))).await;
    post(&mcp, "t", &call("search", json!({ "a": 1 }))).await;
    post(&mcp, "t", &call("search", json!({ "a": 1 }))).await;
    assert_eq!(count(), 5, "other arguments, and a tool whose results are not kept");
    clock.advance(Duration::from_secs(61));
    post(&mcp, "t", &again).await;
    assert_eq!(count(), 6, "the time is over");
    let failing = call("read_file", json!({ "fail": true }));
    let (_, _, asked) = post(&mcp, "t", &failing).await;
    assert_eq!(results(&asked), ["tool_error"]);
    post(&mcp, "t", &failing).await;
    assert_eq!(count(), 8, "errors are not kept");
}

#[tokio::test]
async fn tools_that_their_server_calls_read_only_can_be_kept_too() {
    let (url, seen) = server(tools).await;
    let mut config = route(&url, "");
    config.cache = serde_yaml::from_str("{ read_only: 60s }").unwrap();
    let mcp = open(&config, &Clock::system());
    post(&mcp, "t", &call("search", json!({}))).await;
    post(&mcp, "t", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
    for tool in ["search", "search", "rm", "rm"] {
        post(&mcp, "t", &call(tool, json!({}))).await;
    }
    assert_eq!(seen.lock().unwrap().len(), 5, "only the second search after the list was known");
}

#[tokio::test]
async fn a_tenant_has_its_own_number_of_calls() {
    let (url, seen) = server(tools).await;
    let mut config = route(&url, "");
    config.rate_limit = Some(McpRateLimit { calls: 2, per: Dur::secs(60) });
    let clock = Clock::manual();
    let mcp = open(&config, &clock);
    for expected in ["ok", "ok", "rate_limited"] {
        assert_eq!(results(&post(&mcp, "t", &call("rm", json!({}))).await.2), [expected]);
    }
    assert_eq!(results(&post(&mcp, "u", &call("rm", json!({}))).await.2), ["ok"]);
    clock.advance(Duration::from_secs(30));
    for expected in ["ok", "rate_limited"] {
        let (_, answer, asked) = post(&mcp, "t", &call("rm", json!({}))).await;
        assert_eq!(results(&asked), [expected], "{answer}");
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
}
