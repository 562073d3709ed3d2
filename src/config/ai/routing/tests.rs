//! What the routing's keys take and refuse.

use super::*;

#[test]
fn a_tier_is_a_list_or_a_mix() {
    let list: Tier = serde_yaml::from_str("[a, b]").unwrap();
    assert_eq!((list.members(), list.strategy()), (vec![("a", 1), ("b", 1)], Strategy::Order));
    let text = "{ models: [{ model: a, weight: 3 }, b], strategy: least_busy, hedge: { after: p95 } }";
    let mix: Tier = serde_yaml::from_str(text).unwrap();
    assert_eq!((mix.members(), mix.strategy()), (vec![("a", 3), ("b", 1)], Strategy::LeastBusy));
    let hedge = mix.hedge().unwrap();
    assert_eq!((hedge.after, hedge.max_share), (After::Quantile(0.95), Share(0.05)));
    let again: Tier = serde_yaml::from_str(&serde_yaml::to_string(&mix).unwrap()).unwrap();
    assert_eq!(again, mix);
    for bad in
        ["{ models: [a], stratgy: order }", "{ models: [{ model: a, wieght: 2 }] }", "{ models: [a], strategy: best }"]
    {
        assert!(serde_yaml::from_str::<Tier>(bad).is_err(), "{bad}");
    }
}

#[test]
fn times_quantiles_and_sizes_are_told_apart() {
    let after = |text: &str| serde_yaml::from_str::<After>(text);
    assert_eq!(after("500ms").unwrap(), After::Time(Duration::from_millis(500)));
    assert_eq!(after("p99.9").unwrap(), After::Quantile(99.9 / 100.0));
    for bad in ["p10", "p100", "soon", "5"] {
        assert!(after(bad).is_err(), "{bad}");
    }
    let hold = |text: &str| serde_yaml::from_str::<Hold>(text).unwrap();
    assert_eq!((hold("200ms"), hold("2KiB")), (Hold::Time(Dur::millis(200)), Hold::Bytes(Size::kib(2))));
    assert!(serde_yaml::from_str::<Hold>("2 stones").is_err());
}

#[test]
fn senseless_numbers_have_a_place() {
    let health = Health { failures: 0, cool_down: Dur::secs(9), cool_down_max: Dur::secs(8), ..Health::default() };
    let retry = Retry { attempts: 0, deadline: Dur::secs(0), ..Retry::default() };
    let streaming = Streaming { hold: Hold::Bytes(Size::mib(9)), ping: Some(Dur::millis(1)), ..Streaming::default() };
    let places: Vec<_> = faults(&health, Some(&retry), Some(&streaming)).into_iter().map(|(p, _)| p).collect();
    let want =
        ["health.failures", "health.cool_down_max", "retry.attempts", "retry.deadline", "stream.ping", "stream.hold"];
    assert_eq!(places, want);
    assert!(faults(&Health::default(), Some(&Retry::default()), Some(&Streaming::default())).is_empty());
}
