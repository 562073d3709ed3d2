//! Streams: frame by frame, honest about their end, cancelled with their client.

use super::*;

const ROLE: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const TEXT: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn streamed(more: &str) -> String {
    ask_with("auto", "hi", &format!(r#","stream":true{more}"#))
}

#[tokio::test]
async fn frames_pass_byte_for_byte_and_the_unasked_usage_chunk_is_hidden() {
    let (w, p) = small_world([sse_reply(&[ROLE, ": ping\n\n", TEXT, STOP, USAGE, DONE])]).await;
    let seen = w.ask(&streamed("")).await;
    assert_eq!(seen.text, [ROLE, ": ping\n\n", TEXT, STOP, DONE].concat());
    assert!(seen.clean && body_of(&p.seen()[0]).contains(r#""stream_options":{"include_usage":true}"#));
    assert_eq!(seen.call.usage.unwrap().input(), 3);
    assert_eq!(seen.call.cost.unwrap().nano_usd, 5000);
    assert!(seen.call.stored && seen.call.first_content.is_some());
    assert_eq!(seen.call.ending, Ending::Complete);
    let (w, _p) = small_world([sse_reply(&[ROLE, TEXT, STOP, USAGE, DONE])]).await;
    let asked = w.ask(&streamed(r#","stream_options":{"include_usage":true}"#)).await;
    assert!(asked.text.contains("prompt_tokens"));
}

#[tokio::test]
async fn quirks_of_compatible_servers_are_met() {
    let usage_with_choice = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":4}}\n\n";
    let (w, _p) = small_world([sse_reply(&[TEXT, usage_with_choice])]).await;
    let seen = w.ask(&streamed("")).await;
    assert_eq!(seen.text, [TEXT, usage_with_choice, DONE].concat(), "the missing [DONE] is added");
    assert!(seen.clean && seen.call.stored && seen.call.usage.unwrap().input() == 4);
    let azure = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
    let (w, _p) = small_world([sse_reply(&[azure, TEXT, STOP, "data: [DONE]\n"])]).await;
    assert_eq!(w.ask(&streamed("")).await.text, [azure, TEXT, STOP, DONE].concat());
    let (w, p) = small_world([good()]).await;
    let whole = w.ask(&streamed("")).await;
    assert_eq!(whole.header("content-type"), "text/event-stream; charset=utf-8");
    assert!(whole.text.ends_with(DONE) && whole.text.contains("Water "));
    assert_eq!(w.ask(&ask_with("auto", "hi", "")).await.json()["id"], "chatcmpl-fixture-1");
    assert_eq!(p.calls(), 1);
}

#[tokio::test]
async fn an_error_before_the_first_content_goes_to_the_next_model() {
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
    let cases = [
        sse_reply(&[error]),
        sse_reply(&[ROLE, error]),
        sse_reply(&[DONE]),
        sse_reply(&["data: nonsense\n\n"]),
        sse_reply(&[ROLE]),
        Act::Say(vec![SSE_HEAD.to_owned()]),
        Act::Say(vec![format!("{SSE_HEAD}{}", chunked(&[ROLE]))]),
    ];
    for bad in cases {
        let (bad, fine) = (Provider::start([bad]).await, Provider::start([sse_reply(&[TEXT, STOP, DONE])]).await);
        let seen = world(&bad, &fine).ask(&streamed("")).await;
        assert_eq!((seen.status, seen.text.as_str()), (200, [TEXT, STOP, DONE].concat().as_str()));
        assert_eq!((bad.calls(), fine.calls(), seen.clean), (1, 1, true));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event_and_is_never_stored() {
    let cut = |frames: &[&str]| Act::Say(vec![format!("{SSE_HEAD}{}", chunked(frames))]);
    let cases = [
        (cut(&[TEXT]), "cut"),
        (cut(&[TEXT, STOP]), "cut"),
        (sse_reply(&[TEXT]), "cut"),
        (sse_reply(&[TEXT, "data: {\"ch\n\n"]), "provider_garbage"),
        (
            Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[TEXT]))], mpsc::unbounded_channel().0),
            "between_bytes_timeout",
        ),
    ];
    for (act, reason) in cases {
        let (bad, fine) = (Provider::start([act]).await, Provider::start([good()]).await);
        let w = world(&bad, &fine);
        let seen = w.ask(&streamed("")).await;
        assert_eq!((seen.status, seen.clean, fine.calls()), (200, false, 0), "{reason}");
        assert!(seen.text.starts_with(TEXT) && !seen.text.contains("[DONE]"), "{}", seen.text);
        let last = seen.text.trim_end().rsplit("data: ").next().unwrap();
        let error: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["error"]["code"], "provider_stream_broken");
        assert_eq!((seen.call.ending, seen.call.stored), (Ending::Failed(reason), false));
        w.ask(&streamed("")).await;
        assert_eq!(bad.calls(), 2, "{reason}: nothing was stored");
        assert!(w.in_flight.is_empty());
    }
}

#[tokio::test]
async fn an_error_event_of_the_provider_passes_once() {
    let error = "data: {\"error\":{\"message\":\"oops\"}}\n\n";
    let (w, _p) = small_world([sse_reply(&[TEXT, error, DONE])]).await;
    let seen = w.ask(&streamed("")).await;
    assert_eq!((seen.text, seen.clean), ([TEXT, error].concat(), false));
    assert_eq!(seen.call.ending, Ending::Failed("provider_error_in_stream"));
}

#[tokio::test]
async fn each_frame_reaches_the_client_before_the_next_is_produced() {
    let gate = Arc::new(Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = Provider { url: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
    let wait = gate.clone();
    tokio::spawn(async move {
        let (mut s, _) = listener.accept().await.unwrap();
        read_request(&mut s).await;
        s.write_all(SSE_HEAD.as_bytes()).await.unwrap();
        for frame in [TEXT, TEXT, STOP, DONE] {
            s.write_all(chunked(&[frame]).as_bytes()).await.unwrap();
            wait.notified().await;
        }
    });
    let w = world(&p, &p);
    let (reply, _) = w.reply_as(chat(&streamed("").replace("auto", "b")), &exact_only(), &w.context).await;
    let Body::Stream(mut body) = reply.body else { panic!() };
    for frame in [TEXT, TEXT, STOP, DONE] {
        assert_eq!(body.next().await.unwrap().unwrap(), frame);
        gate.notify_one();
    }
    assert!(body.next().await.is_none(), "the end does not wait for the provider to hang up");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_provider_and_frees_the_followers() {
    let (gone, mut left) = mpsc::unbounded_channel();
    let hang = Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[TEXT]))], gone);
    let p = Provider::start([hang, good()]).await;
    let w = Arc::new(world(&p, &p));
    let body = streamed("").replace("auto", "b");
    let (reply, record) = w.reply_as(chat(&body), &exact_only(), &w.context).await;
    let follower = {
        let (w, body) = (w.clone(), body.clone());
        tokio::spawn(async move { w.ask(&body).await })
    };
    let Body::Stream(mut stream) = reply.body else { panic!() };
    assert_eq!(stream.next().await.unwrap().unwrap(), TEXT);
    assert_eq!(record.read().ending, Ending::Running);
    drop(stream);
    left.recv().await.unwrap();
    assert_eq!((record.read().ending, record.read().stored), (Ending::ClientGone, false));
    assert!(follower.await.unwrap().text.contains("chatcmpl-fixture-1"));
    assert_eq!(p.calls(), 2);
}

#[tokio::test]
async fn followers_of_a_stream_get_its_answer_in_their_own_form() {
    let gate = Arc::new(Notify::new());
    let whole = format!("{SSE_HEAD}{}0\r\n\r\n", chunked(&[ROLE, TEXT, STOP, USAGE, DONE]));
    let (w, p) = small_world([Act::Gated(gate.clone(), vec![whole])]).await;
    let w = Arc::new(w);
    let ask = |body: String| {
        let w = w.clone();
        tokio::spawn(async move { w.ask(&body).await })
    };
    let leader = ask(streamed(""));
    until("the leader has asked", || p.calls() == 1).await;
    let json = ask(ask_with("auto", "hi", ""));
    tokio::task::yield_now().await;
    gate.notify_one();
    assert_eq!(leader.await.unwrap().source, Source::Provider);
    let json = json.await.unwrap();
    assert_eq!((json.source, p.calls()), (Source::AiCollapsed, 1));
    assert_eq!(json.header("cache-status"), "sluicegate; fwd=miss; collapsed");
    assert_eq!(json.json()["choices"][0]["message"]["content"], "Hi");
}
