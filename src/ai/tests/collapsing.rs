//! Identical calls in flight: one leads, the others follow for as long as that is the faster way.

use super::*;
use collapse::{Followed, Joined};

const KEY: key::Key = [7; 32];
const SHORT: Duration = Duration::from_millis(50);

fn pair() -> (collapse::Lead, collapse::Follow) {
    let calls = Arc::new(InFlight::default());
    let (Joined::Lead(lead), Joined::Follow(follow)) = (calls.join(KEY), calls.join(KEY)) else { panic!() };
    (lead, follow)
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(2), work).await.unwrap()
}

#[tokio::test]
async fn identical_calls_in_flight_become_one() {
    let gate = Arc::new(Notify::new());
    let Act::Say(pieces) = good() else { panic!() };
    let (w, p) = small_world([Act::Gated(gate.clone(), pieces)]).await;
    let w = Arc::new(w);
    let mut calls = Vec::new();
    for i in 0..20 {
        let w = w.clone();
        let more = if i % 2 == 0 { "" } else { r#","stream":false"# };
        calls.push(tokio::spawn(async move { w.ask(&ask_with("a", "hi", more)).await }));
    }
    until("the leader has asked", || p.calls() == 1).await;
    gate.notify_one();
    let mut sources = Vec::new();
    for call in calls {
        let seen = call.await.unwrap();
        assert_eq!(seen.text, fixture("answer.json"));
        sources.push(seen.source);
    }
    assert_eq!(p.calls(), 1);
    assert_eq!(sources.iter().filter(|s| **s == Source::Provider).count(), 1);
    assert!(w.in_flight.is_empty());
}

#[tokio::test]
async fn followers_elect_another_leader_when_the_first_leaves_or_fails() {
    let gate = Arc::new(Notify::new());
    let (w, p) = small_world([Act::Gated(gate.clone(), vec![]), Act::Close, Act::Close, good()]).await;
    let w = Arc::new(w);
    let ask = || {
        let w = w.clone();
        tokio::spawn(async move { w.ask(&ask_with("a", "hi", "")).await })
    };
    let leader = ask();
    until("the leader has asked", || p.calls() == 1).await;
    let followers = [ask(), ask(), ask()];
    tokio::task::yield_now().await;
    leader.abort();
    let mut statuses = Vec::new();
    for f in followers {
        statuses.push(f.await.unwrap().status);
    }
    statuses.sort_unstable();
    // Two leaders met a provider that hung up, the last one got the answer.
    assert_eq!((statuses, p.calls()), (vec![200, 502, 502], 4));
}

#[tokio::test]
async fn a_failed_leader_sends_all_followers_off_at_once() {
    let gates: Vec<Arc<Notify>> = (0..6).map(|_| Arc::default()).collect();
    let says = |act: Act| if let Act::Say(pieces) = act { pieces } else { panic!() };
    let acts = gates.iter().enumerate().map(|(i, gate)| {
        let act = if i == 0 { json_reply(500, "") } else { good() };
        Act::Gated(gate.clone(), says(act))
    });
    let (w, p) = small_world(acts.collect::<Vec<_>>()).await;
    let w = Arc::new(w);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let w = w.clone();
            tokio::spawn(async move { w.ask(&ask_with("b", "hi", "")).await.status })
        })
        .collect();
    until("the leader has asked", || p.calls() == 1).await;
    gates[0].notify_one();
    until("everybody asks on their own, none waits for another's failure", || p.calls() == 6).await;
    gates.iter().for_each(|g| g.notify_one());
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 500]);
    assert!(w.in_flight.is_empty());
}

#[tokio::test]
async fn a_leader_that_fails_is_told_from_one_that_leaves() {
    let (lead, follow) = pair();
    lead.fail();
    assert_eq!(soon(follow.answer(SHORT)).await, Followed::Alone);
    let (lead, follow) = pair();
    drop(lead);
    assert_eq!(soon(follow.answer(SHORT)).await, Followed::Left);
}

#[tokio::test]
async fn followers_wait_for_a_provider_but_not_for_a_slow_client() {
    let (lead, follow) = pair();
    let mut wait = std::pin::pin!(follow.answer(SHORT));
    assert!(tokio::time::timeout(SHORT * 4, wait.as_mut()).await.is_err(), "the provider takes its time");
    lead.hands_over();
    assert_eq!(soon(wait).await, Followed::Alone);
    // Many short waits for the client add up.
    let (lead, follow) = pair();
    let reading = async {
        loop {
            lead.hands_over();
            tokio::time::sleep(SHORT / 3).await;
            lead.asks();
            tokio::task::yield_now().await;
        }
    };
    let followed = tokio::select! {
        followed = soon(follow.answer(SHORT)) => followed,
        () = reading => unreachable!(),
    };
    assert_eq!(followed, Followed::Alone);
}

#[tokio::test]
async fn a_leader_that_does_not_read_its_stream_does_not_hold_up_the_others() {
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n";
    let (gone, _) = mpsc::unbounded_channel();
    let (w, p) = small_world([Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[text]))], gone), good()]).await;
    let body = ask_with("b", "hi", r#","stream":true"#);
    let (reply, _) = w.reply_as(chat(&body), &exact_only(), &w.context).await;
    let seen = tokio::time::timeout(COLLAPSE_CLIENT_WAIT * 2, w.ask(&body)).await.unwrap();
    assert_eq!((seen.source, p.calls()), (Source::Provider, 2));
    drop(reply);
}

#[tokio::test]
async fn bypassed_calls_never_collapse() {
    let (w, p) = small_world([good()]).await;
    let context = w.with_header("x-sluicegate-cache", "off");
    let body = ask_with("a", "hi", "");
    let directives = exact_only();
    let asks = (0..5).map(|_| w.ask_as(&body, &directives, &context));
    for ask in asks {
        assert_eq!(ask.await.source, Source::Provider);
    }
    assert_eq!(p.calls(), 5);
}
