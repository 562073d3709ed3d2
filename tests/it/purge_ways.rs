//! The ways to ask for a purge besides the admin port: the method, the script, the command; and where tags come from.

use crate::harness::client::{ask, get_host};
use crate::harness::edge::Setup;
use crate::harness::origin::{Origin, nobody, reply};
use crate::harness::secure::H2;
use crate::harness::wait_until;
use crate::purge::{CACHING, edge, from, numbered, purge};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_method_purge_is_for_those_whom_the_route_names() {
    let origin = numbered().await;
    let yaml = "
server: { trusted_proxies: [127.0.0.1] }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
listeners: { web: { address: \"127.0.0.1:0\", protocols: [h1, h2] } }
routes:
  - { match: { host: shut.test }, upstream: app, cache: true }
  - { match: { host: plain.test }, upstream: app }
  - { upstream: app, cache: { key: { query: { exclude: [utm] } }, purge_from: [10.0.0.0/8, 127.0.0.1] } }
";
    let yaml =
        yaml.replace("server: {", "server: { threads: 2, grace_period: 100ms, admin: { listen: \"127.0.0.1:0\" },");
    let edge = Setup::bare(&yaml).put("ORIGIN", origin.address).start().await;
    let send = |host: &'static str, target: &'static str, fields: &'static [(&str, &str)]| {
        let all = [&[("Host", host)], fields].concat();
        let web = edge.web();
        async move { ask(web, "PURGE", target, &all, b"").await }
    };
    for (host, target) in [("a.test", "/x/1"), ("a.test", "/x/2"), ("b.test", "/x/1")] {
        get_host(edge.web(), host, target).await;
    }
    let asked = origin.hits();
    for (host, fields, status, reason) in [
        ("shut.test", &[][..], 405, "purge_not_enabled"),
        ("plain.test", &[], 405, "purge_not_enabled"),
        ("a.test", &[("X-Forwarded-For", "192.0.2.1")], 403, "purge_forbidden"),
        ("a.test", &[("Origin", "http://a.test")], 403, "purge_forbidden"),
        ("a.test", &[("Cache-Tag", " ,")], 400, "bad_purge"),
    ] {
        let answer = send(host, "/x/1", fields).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{host} {fields:?}: {answer:?}");
    }
    assert_eq!(origin.hits(), asked, "no PURGE reaches an origin");
    assert_eq!(from(&edge, "a.test", "/x/1").await, "http_cache");
    let answer = send("a.test", "/x/1?utm=z", &[("X-Forwarded-For", "10.1.2.3")]).await;
    assert_eq!((answer.status, answer.json()["purged"]["url"].as_u64()), (200, Some(1)), "{}", answer.text());
    assert_eq!(from(&edge, "a.test", "/x/1").await, "origin", "the key's own rules count");
    assert_eq!(from(&edge, "a.test", "/x/2").await, "http_cache");
    // Softly, by each name of the field.
    for field in [&[("X-Soft-Purge", "1")], &[("Fastly-Soft-Purge", "1")]] {
        assert_eq!(send("a.test", "/x/2", field).await.status, 200);
        get_host(edge.web(), "a.test", "/x/2").await;
        assert_eq!(origin.last().header("if-none-match"), "\"1\"");
    }
    // Tags, within the host.
    assert_eq!(send("a.test", "/", &[("Surrogate-Key", "none x")]).await.status, 200);
    assert_eq!(from(&edge, "a.test", "/x/2").await, "origin");
    assert_eq!(from(&edge, "b.test", "/x/1").await, "http_cache", "a neighbour's tags are its own");
    let h2 = H2::clear(edge.web()).await;
    let request = http::Request::builder().method("PURGE").uri("http://a.test/x/2").body(()).unwrap();
    assert_eq!(h2.ask(request, b"").await.head.status, 200);
    assert_eq!(from(&edge, "a.test", "/x/2").await, "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_tags_and_purges() {
    let origin = Origin::start(|seen| {
        let fields = [("cache-control", "max-age=600"), ("etag", "\"e\"")];
        let known = seen.header("if-none-match") == "\"e\"";
        reply(if known { 304 } else { 200 }, &fields, if known { String::new() } else { seen.number.to_string() })
    })
    .await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
policy: { script: policy.rhai }
routes:
  - { match: { path: /api/* }, upstream: app, policy: true }
  - { upstream: app, cache: true, policy: true }
";
    let script = "
fn on_origin_response(req, resp) { next().tag(\"shop\") }
fn on_log(req, resp, entry) {
    if req.method == \"POST\" && resp.status == 200 {
        return if req.path == \"/api/soft\" { next().purge_tag(\"shop\", \"soft\") } else { next().purge_tag(\"shop\") };
    }
    next()
}
";
    let setup = Setup::new(yaml).put("ORIGIN", origin.address).file("policy.rhai", script);
    let edge = setup.start().await;
    for (path, conditional) in [("/api/soft", true), ("/api/hard", false)] {
        edge.get("/page").await;
        let first = edge.get("/page").await;
        assert_eq!((first.source(), first.count("surrogate-key")), ("http_cache", 0));
        edge.ask("POST", path, &[], b"x").await;
        let asked = origin.hits();
        wait_until("the purge", async || {
            edge.get("/page").await;
            origin.hits() > asked
        })
        .await;
        assert_eq!(!origin.last().header("if-none-match").is_empty(), conditional, "{path}");
    }
    assert_eq!(edge.metric("sluicegate_purges_total", &["kind=\"tag\"", "by=\"script\""]).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_from_the_fields_of_the_route_and_are_sent_on_only_where_it_says_so() {
    let origin = Origin::start(|seen| {
        let many = vec!["t"; 600].iter().enumerate().map(|(i, t)| format!("{t}{i}")).collect::<Vec<_>>().join(",");
        let tags = if seen.target == "/many" { many } else { "one,two".to_owned() };
        let fields = [("cache-control", "max-age=600"), ("cache-tag", tags.as_str()), ("x-tags", "mine")];
        reply(200, &fields, "x")
    })
    .await;
    let plain = edge(&origin, "true").await;
    let own = edge(&origin, "{ tags_from: [x-tags], send_tags: true }").await;
    for _ in 0..2 {
        let answer = plain.get("/").await;
        assert_eq!((answer.count("cache-tag"), answer.header("x-tags")), (0, "mine"));
        let answer = own.get("/").await;
        assert_eq!((answer.header("cache-tag"), answer.header("x-tags")), ("one,two", "mine"));
    }
    purge(&own, json!({ "tag": "one" })).await;
    assert_eq!(own.get("/").await.source(), "http_cache", "not a field of this route");
    purge(&own, json!({ "tag": "mine" })).await;
    assert_eq!(own.get("/").await.source(), "origin");
    for _ in 0..2 {
        let answer = plain.get("/many").await;
        assert_eq!(answer.source(), "origin", "what could not be purged by all its tags is not stored");
        assert_eq!(answer.count("cache-tag"), 0);
    }
    for (cache, fault) in [
        ("{ tags_from: [\"a b\"] }", "routes[0].cache.tags_from[0]: \"a b\" is no field name"),
        ("{ purge_from: [10.0.0.0/33] }", "routes[0].cache.purge_from[0]: \"10.0.0.0/33\" is no address or network"),
    ] {
        let refused = Setup::new(CACHING).put("ORIGIN", origin.address).put("CACHE", cache).try_start().await;
        let said = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(said.contains(fault), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_purges_and_says_so() {
    let origin = numbered().await;
    let edge = edge(&origin, "true").await;
    let run = |args: &[&str], admin: String| {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        async move {
            let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
                .args(["purge", "--admin", &admin])
                .args(args)
                .env_remove("SLUICEGATE_ADMIN_TOKEN")
                .output()
                .await
                .unwrap();
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
        }
    };
    let admin = || format!("http://{}", edge.admin());
    get_host(edge.web(), "a.test", "/x").await;
    let (code, out, err) = run(&["http://a.test/x", "--tag", "x", "y"], admin()).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("purged: 1 url, 2 tag in main (generation "), "{out}");
    assert_eq!(from(&edge, "a.test", "/x").await, "origin");
    let (code, out, _) = run(&["--soft", "--all", "--store", "main"], admin()).await;
    assert!(code == 0 && out.starts_with("purged softly: 1 all in main"), "{out}");
    let (code, _, err) = run(&["--host", "a:1"], admin()).await;
    assert!(code == 1 && err.contains("400 \"a:1\" is not a host"), "{code} {err}");
    assert_eq!(run(&[], admin()).await.0, 2);
    let nobody = format!("http://{}", nobody());
    assert_eq!(run(&["--all"], nobody).await.0, 3);
}
