//! Streams held back at their start, watched on their way, and kept alive for their client.

use super::routing::three;
use super::*;

const ROLE: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const TEXT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
const COMMENT: &str = ": still thinking\n\n";
const TIERS: &str = "tiers: { cheap: [a, b] }\n";

fn streamed(text: &str) -> String {
    ask_with("auto", text, r#","stream":true"#)
}

/// A provider that begins a stream and then sends this event every 20 ms, for as long as anybody listens.
async fn endless(begin: &str, event: &str) -> Provider {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = Provider { url: format!("http://{}/v1", listener.local_addr().unwrap()), seen: Arc::default() };
    let (log, begin, event) = (p.seen.clone(), format!("{SSE_HEAD}{begin}"), chunked(&[event]));
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            s.set_nodelay(true).unwrap();
            let request = read_request(&mut s).await.unwrap_or_default();
            log.lock().unwrap().push(request);
            let (begin, event) = (begin.clone(), event.clone());
            tokio::spawn(async move {
                let mut sent = s.write_all(begin.as_bytes()).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sent = s.write_all(event.as_bytes()).await;
                }
            });
        }
    });
    p
}

#[tokio::test]
async fn an_error_within_the_hold_goes_to_the_next_model_and_what_was_said_is_billed() {
    for (hold, events) in [
        ("300ms", &[ROLE, TEXT, ERROR][..]),
        ("64KiB", &[ROLE, TEXT, ERROR]),
        ("300ms", &[ROLE, TEXT, "data: nonsense\n\n"]),
        ("64KiB", &[TEXT]),
    ] {
        let (a, b) = (Provider::start([sse_reply(events)]).await, Provider::start([good()]).await);
        let w = three(&a, &b, &b, &format!("{TIERS}stream: {{ hold: {hold} }}"));
        let seen = w.ask(&streamed("hi")).await;
        assert!(seen.clean && seen.text.contains("Water") && !seen.text.contains("Hi"), "{hold}: {}", seen.text);
        assert_eq!((a.calls(), b.calls()), (1, 1));
        let lost: Vec<_> = seen.call.lost.iter().map(|l| (l.model.as_str(), l.cost.unwrap().nano_usd)).collect();
        assert_eq!(lost, [("a", 5000)]);
        let w = three(&a, &b, &b, TIERS);
        let seen = w.ask(&streamed("hi")).await;
        assert!(!seen.clean && seen.text.contains("Hi"), "without a hold it is the client's: {}", seen.text);
    }
}

#[tokio::test]
async fn a_held_stream_is_whole_and_its_hold_ends() {
    for hold in ["10s", "64KiB", "1B"] {
        let (a, b) = (Provider::start([sse_reply(&[ROLE, TEXT, STOP, DONE])]).await, Provider::start([good()]).await);
        let w = three(&a, &b, &b, &format!("{TIERS}stream: {{ hold: {hold} }}"));
        let seen = w.ask(&streamed("hi")).await;
        assert_eq!(seen.text, [ROLE, TEXT, STOP, DONE].concat(), "{hold}");
        assert!(seen.clean && seen.call.stored && seen.call.lost.is_empty());
    }
    let a = endless(&chunked(&[TEXT]), COMMENT).await;
    let w = three(&a, &a, &a, &format!("{TIERS}stream: {{ hold: 100ms }}"));
    let (reply, _) = w.reply_as(chat(&streamed("hi")), &exact_only(), &w.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!("the hold ends while the stream goes on") };
    assert!(String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()).starts_with(TEXT));
}

#[tokio::test]
async fn comments_do_not_keep_a_dead_answer_alive() {
    let a = endless(&chunked(&[TEXT]), COMMENT).await;
    let w = three(&a, &a, &a, &format!("{TIERS}stream: {{ idle: 200ms }}"));
    let seen = w.ask(&streamed("hi")).await;
    assert_eq!(seen.call.ending, Ending::Failed("idle_timeout"));
    assert!(!seen.clean && seen.text.contains("idle_timeout") && !seen.text.contains("[DONE]"), "{}", seen.text);
    assert_eq!(seen.call.usage.unwrap().output(), 1, "what was counted is billed");
}

#[tokio::test]
async fn comments_before_the_first_content_neither() {
    let (a, b) = (endless("", "event: ping\ndata: {\"type\": \"ping\"}\n\n").await, Provider::start([good()]).await);
    let w = three(&b, &b, &a, "tiers: { cheap: [c, b] }\nstream: { idle: 100ms }");
    let seen = w.ask(&streamed("hi")).await;
    assert_eq!((seen.clean, seen.call.attempts[0].outcome), (true, "idle_timeout"), "{}", seen.text);
    assert!(seen.text.contains("Water"));
}

#[tokio::test]
async fn a_stream_without_end_is_ended() {
    let a = endless("", TEXT).await;
    let w = three(&a, &a, &a, &format!("{TIERS}stream: {{ total: 250ms }}"));
    let seen = w.ask(&streamed("hi")).await;
    assert_eq!(seen.call.ending, Ending::Failed("stream_timeout"));
    assert!(!seen.clean && !seen.call.stored && seen.text.contains("Hi"));
}

#[tokio::test]
async fn the_client_gets_signs_of_life_while_the_model_thinks() {
    let (gone, _left) = mpsc::unbounded_channel();
    let head = format!("{SSE_HEAD}{}", chunked(&[ROLE, TEXT]));
    let a = Provider::start([Act::Hang(vec![head], gone)]).await;
    let w = three(&a, &a, &a, &format!("{TIERS}stream: {{ ping: 100ms }}"));
    let (reply, record) = w.reply_as(chat(&streamed("hi")), &exact_only(), &w.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!() };
    assert_eq!(stream.next().await.unwrap().unwrap(), [ROLE, TEXT].concat());
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap(), ": ping\n\n");
    }
    drop(stream);
    assert_eq!(record.read().ending, Ending::ClientGone);
}

#[tokio::test]
async fn a_client_that_takes_its_time_is_not_the_providers_silence() {
    let a = Provider::start([sse_reply(&[ROLE, TEXT, STOP, DONE])]).await;
    let w = three(&a, &a, &a, &format!("{TIERS}stream: {{ idle: 100ms, ping: 100ms }}"));
    let (reply, record) = w.reply_as(chat(&streamed("hi")), &exact_only(), &w.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!() };
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(String::from_utf8(all).unwrap(), [ROLE, TEXT, STOP, DONE].concat());
    assert_eq!(record.read().ending, Ending::Complete);
}
