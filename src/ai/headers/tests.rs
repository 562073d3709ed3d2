//! What clients ask of the caches, in our words and in those of peers.

use super::CacheMode;
use super::aliases::{ALIASES, Asks};
use super::wish::ClientWish;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::time::Duration;

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
}

fn read(pairs: &[(&'static str, &str)]) -> ClientWish {
    ClientWish::read(&fields(pairs), &ClientWish::default()).unwrap()
}

fn taken(body: Value) -> (ClientWish, Value) {
    let Value::Object(mut fields) = body else { panic!("an object") };
    let wish = ClientWish::take(&mut fields).unwrap().map(|(w, _)| w).unwrap_or_default();
    (wish, Value::Object(fields))
}

#[test]
fn our_fields_say_all_and_the_narrower_of_two_counts() {
    let wish = read(&[
        ("x-sluicegate-cache", "exact"),
        ("x-sluicegate-cache-ttl", "10m"),
        ("cache-control", "max-age=30"),
        ("x-sluicegate-cache-threshold", "0.97"),
        ("x-bf-cache-threshold", "0.9"),
        ("x-sluicegate-cache-namespace", "docs"),
        ("x-sluicegate-cache-tags", "a, b,a"),
    ]);
    let want = ClientWish {
        at_most: Some(CacheMode::Exact),
        age_max: Some(Duration::from_secs(30)),
        ttl: Some(Duration::from_secs(600)),
        threshold: Some(0.97),
        namespace: Some("docs".into()),
        tags: vec!["a".into(), "b".into()],
        ..ClientWish::default()
    };
    assert_eq!(wish, want);
}

#[test]
fn the_body_says_the_same_and_nothing_of_it_is_left_for_the_model() {
    let cache = json!({"mode": "refresh", "ttl": 60, "threshold": 0.99, "namespace": "n", "tags": ["x"]});
    let (wish, rest) = taken(json!({"model": "a", "sluicegate": {"cache": cache}}));
    assert_eq!(rest, json!({"model": "a"}));
    assert!(wish.refresh && wish.tags == ["x"] && wish.namespace.as_deref() == Some("n"));
    assert_eq!((wish.ttl, wish.age_max), (Some(Duration::from_secs(60)), Some(Duration::from_secs(60))));
    assert_eq!(wish.threshold, Some(0.99));
}

#[test]
fn our_own_faults_are_named_with_their_place() {
    for (name, value) in [
        ("x-sluicegate-cache", "maybe"),
        ("x-sluicegate-cache-ttl", "soon"),
        ("x-sluicegate-cache-ttl", "-1"),
        ("x-sluicegate-cache-threshold", "1.5"),
        ("x-sluicegate-cache-threshold", "NaN"),
        ("x-sluicegate-cache-namespace", ""),
    ] {
        let error = ClientWish::read(&fields(&[(name, value)]), &ClientWish::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{value}: {error}");
    }
    for (cache, place) in [
        (json!({"mode": 1.5}), "sluicegate.cache.mode"),
        (json!({"tll": 5}), "sluicegate.cache"),
        (json!({"tags": [7]}), "sluicegate.cache.tags"),
        (json!({"namespace": "x".repeat(257)}), "sluicegate.cache.namespace"),
        (json!([]), "sluicegate.cache"),
    ] {
        let Value::Object(mut body) = json!({"sluicegate": {"cache": cache}}) else { unreachable!() };
        let error = ClientWish::take(&mut body).unwrap_err().to_string();
        assert!(error.contains(place), "{place}: {error}");
    }
}

#[test]
fn seventeen_tags_are_one_too_many() {
    let tags = (0..17).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    assert!(ClientWish::read(&fields(&[("x-sluicegate-cache-tags", &tags)]), &ClientWish::default()).is_err());
}

#[test]
fn every_peers_field_narrows() {
    let seconds = |s| Some(Duration::from_secs(s));
    let none = Some(CacheMode::None);
    let blank = ClientWish::default;
    for (_, name, asks) in ALIASES {
        let (value, want) = match asks {
            Asks::Off => ("true", ClientWish { at_most: none, ..blank() }),
            Asks::On => ("false", ClientWish { at_most: none, ..blank() }),
            Asks::Refresh => ("true", ClientWish { refresh: true, ..blank() }),
            Asks::NoStore => ("true", ClientWish { no_store: true, ..blank() }),
            Asks::Ttl => ("90", ClientWish { ttl: seconds(90), ..blank() }),
            Asks::Threshold => ("0.9", ClientWish { threshold: Some(0.9), ..blank() }),
            Asks::Namespace => ("ns", ClientWish { namespace: Some("ns".into()), ..blank() }),
            Asks::Kind => ("direct", ClientWish { at_most: Some(CacheMode::Exact), ..blank() }),
            Asks::Directives => (
                "no-cache, no-store, max-age=5, ttl=7",
                ClientWish { refresh: true, no_store: true, age_max: seconds(5), ttl: seconds(7), ..blank() },
            ),
        };
        assert_eq!(read(&[(name, value)]), want, "{name}: {value}");
        let silent = match asks {
            Asks::Off | Asks::Refresh | Asks::NoStore => "off",
            Asks::On => "on",
            Asks::Kind => "semantic",
            _ => continue,
        };
        assert_eq!(read(&[(name, silent)]), blank(), "{name}: {silent}");
        assert_eq!(read(&[(name, "perhaps")]).at_most, none, "{name} cannot be read: no cache");
    }
}

#[test]
fn two_namespaces_of_different_fields_share_nothing() {
    let both = [("x-portkey-cache-namespace", "a"), ("helicone-cache-seed", "b")];
    assert_eq!(read(&both).at_most, Some(CacheMode::None));
}

#[test]
fn litellm_and_tensorzero_speak_in_the_body() {
    let (wish, rest) = taken(json!({"cache": {"ttl": 60, "s-maxage": 30, "no-store": true, "namespace": "n"}}));
    assert_eq!(rest, json!({}));
    let (ttl, age) = (Some(Duration::from_secs(60)), Some(Duration::from_secs(30)));
    assert_eq!((wish.ttl, wish.age_max, wish.no_store, wish.refresh), (ttl, age, true, false));
    let cases = [("on", None, false, false), ("off", Some(CacheMode::None), false, false)];
    let more = [("read_only", None, true, false), ("write_only", None, false, true)];
    for (enabled, at_most, no_store, refresh) in cases.into_iter().chain(more) {
        let (wish, rest) = taken(json!({"tensorzero::cache_options": {"enabled": enabled, "max_age_s": 9}}));
        let said = (wish.at_most, wish.no_store, wish.refresh, wish.age_max);
        assert_eq!(said, (at_most, no_store, refresh, Some(Duration::from_secs(9))), "{enabled}");
        assert_eq!(rest, json!({}));
    }
}

#[test]
fn a_member_named_cache_that_is_somebody_elses_stays() {
    for body in [json!({"cache": {"ttl": 60, "type": "redis"}}), json!({"cache": "yes"}), json!({"cache": {"ttl": []}})]
    {
        let (wish, rest) = taken(body.clone());
        assert_eq!((wish, rest), (ClientWish::default(), body));
    }
}
