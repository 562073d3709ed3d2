//! Turns, retries and rests.

use super::*;

fn config(servers: &[&str]) -> Upstream {
    serde_json::from_value(serde_json::json!({ "servers": servers })).unwrap()
}

fn pool(servers: &[&str]) -> Pool {
    Pool::new("a", &config(servers), Clock::manual()).unwrap()
}

fn port(p: &Pool, tries: &mut Tries) -> u16 {
    p.next(tries).unwrap()._address.as_inet().unwrap().port()
}

fn first(p: &Pool) -> u16 {
    port(p, &mut Tries::default())
}

#[test]
fn takes_turns_and_a_retry_goes_elsewhere() {
    let p = pool(&["127.0.0.1:1001", "127.0.0.1:1002"]);
    assert_eq!([first(&p), first(&p), first(&p)], [1001, 1002, 1001]);
    let mut tries = Tries::default();
    let one = port(&p, &mut tries);
    assert_ne!(port(&p, &mut tries), one);
    assert_eq!(tries.count(), 2);
}

#[test]
fn a_retry_goes_elsewhere_whatever_other_requests_do() {
    let p = pool(&["127.0.0.1:1001", "127.0.0.1:1002"]);
    for others in 0..4 {
        let mut tries = Tries::default();
        let one = port(&p, &mut tries);
        (0..others).for_each(|_| assert_ne!(first(&p), 0));
        assert_ne!(port(&p, &mut tries), one, "{others} requests in between");
    }
}

#[test]
fn a_server_that_failed_rests_and_the_others_share_its_turns() {
    let p = pool(&["127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003"]);
    p.failed("127.0.0.1:1002".parse().unwrap());
    let seen: Vec<u16> = (0..4).map(|_| first(&p)).collect();
    assert_eq!(seen, [1001, 1003, 1001, 1003]);
    p.clock.advance(REST);
    assert!((0..3).any(|_| first(&p) == 1002), "it is tried again");
}

#[test]
fn when_all_rest_each_is_tried_anyway() {
    let p = pool(&["127.0.0.1:1001", "127.0.0.1:1002"]);
    for server in ["127.0.0.1:1001", "127.0.0.1:1002"] {
        p.failed(server.parse().unwrap());
    }
    let mut tries = Tries::default();
    let mut seen = [port(&p, &mut tries), port(&p, &mut tries)];
    seen.sort_unstable();
    assert_eq!(seen, [1001, 1002]);
    assert!(p.next(&mut tries).is_some(), "a caller that goes on gets an answer");
}

#[test]
fn a_server_at_rest_is_a_second_choice_and_no_server_is_tried_twice() {
    let p = pool(&["127.0.0.1:1001", "127.0.0.1:1002"]);
    p.failed("127.0.0.1:1001".parse().unwrap());
    for _ in 0..3 {
        let mut tries = Tries::default();
        assert_eq!([port(&p, &mut tries), port(&p, &mut tries)], [1002, 1001]);
    }
}

#[test]
fn faults_name_the_server() {
    let new = |servers: &[&str]| Pool::new("a", &config(servers), Clock::system());
    let e = new(&["127.0.0.1:1001", "nonsense", "h:0"]).unwrap_err();
    assert_eq!(e.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(new(&[]).unwrap_err()[0].1, "name at least one server");
}
