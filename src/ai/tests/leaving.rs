//! What stays of a call whose client left, and of an answer that broke off: the traces, and the tokens to be paid.

use super::*;
use call::CacheOutcome;

const COUNTED: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
const STREAMED: &str = r#","stream":true"#;

#[tokio::test]
async fn a_call_abandoned_before_its_reply_leaves_its_traces() {
    let (w, p) = small_world([Act::Silent]).await;
    let record = Arc::new(CallRecord::default());
    let call = {
        let (gateway, context, record) = (w.gateway.clone(), w.context.clone(), record.clone());
        let prompt = chat(&ask_with("b", "hi", ""));
        tokio::spawn(async move { gateway.answer(prompt, &exact_only(), &context, record).await })
    };
    until("the provider is asked", || p.calls() == 1).await;
    w.clock.advance(Duration::from_secs(3));
    call.abort();
    let _ = call.await;
    let call = record.read();
    assert_eq!((call.ending, call.took.map(|t| t.as_secs())), (Ending::ClientGone, Some(3)));
    assert_eq!((call.requested.as_str(), call.target.as_str(), call.cache), ("b", "b", CacheOutcome::Miss));
    let attempts: Vec<_> = call.attempts.iter().map(|a| (a.model.as_str(), a.outcome, a.seconds >= 3.0)).collect();
    assert_eq!(attempts, [("b", "client_gone", true)]);
}

#[tokio::test]
async fn tokens_counted_before_a_stream_breaks_are_billed() {
    let error = "data: {\"error\":{\"message\":\"oops\"}}\n\n";
    for act in [sse_reply(&[COUNTED]), sse_reply(&[COUNTED, error]), sse_reply(&[COUNTED, "data: {\n\n"])] {
        let (w, _p) = small_world([act]).await;
        let seen = w.ask(&ask_with("a", "hi", STREAMED)).await;
        assert!(matches!(seen.call.ending, Ending::Failed(_)), "{:?}", seen.call);
        assert_eq!((seen.call.usage.unwrap().input(), seen.call.cost.unwrap().nano_usd), (3, 5000));
        assert!(!seen.clean && !seen.call.stored);
    }
}

#[tokio::test]
async fn tokens_counted_before_the_client_left_are_billed() {
    let (gone, mut left) = mpsc::unbounded_channel();
    let (w, _p) = small_world([Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[COUNTED]))], gone)]).await;
    let (reply, record) = w.reply_as(chat(&ask_with("a", "hi", STREAMED)), &exact_only(), &w.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!() };
    assert_eq!(stream.next().await.unwrap().unwrap(), COUNTED);
    drop(stream);
    left.recv().await.unwrap();
    let call = record.read();
    assert_eq!((call.ending, call.usage.unwrap().output()), (Ending::ClientGone, 1));
    assert_eq!(call.cost.unwrap().nano_usd, 5000);
}

#[tokio::test]
async fn a_model_name_of_the_client_is_recorded_up_to_a_bound() {
    let (w, _p) = small_world([good()]).await;
    let seen = w.ask(&ask_with(&"\u{e4}".repeat(5000), "hi", "")).await;
    assert_eq!((seen.status, seen.call.requested.as_str()), (404, "\u{e4}".repeat(128).as_str()));
}
