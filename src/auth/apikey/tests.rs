//! Which keys are let in, and what is wrong with a file of them.

use super::*;
use crate::config::apikey::ApiKey;
use http::HeaderValue;
use std::time::Duration;

fn entry() -> ApiKey {
    ApiKey { store: "keys.yaml".into(), header: None, tenant: Tenant::Key }
}

fn rule(yaml: &str) -> (KeyRule, Clock) {
    let clock = Clock::manual();
    (KeyRule::compile("keys", &entry(), yaml, clock.clone()).unwrap(), clock)
}

fn faults(yaml: &str) -> Vec<String> {
    let found = KeyRule::compile("keys", &entry(), yaml, Clock::manual()).err().unwrap();
    found.into_iter().map(|f| format!("{}: {}", f.place, f.message)).collect()
}

fn shown(field: &'static str, value: &str) -> HeaderMap {
    [(HeaderName::from_static(field), HeaderValue::from_str(value).unwrap())].into_iter().collect()
}

fn bearer(key: &str) -> HeaderMap {
    shown("authorization", &format!("Bearer {key}"))
}

fn later(clock: &Clock, secs: u64) -> String {
    let at = time::OffsetDateTime::from(clock.now() + Duration::from_secs(secs));
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn a_key_is_found_wherever_the_usual_clients_put_it() {
    let (r, _) = rule(&format!("keys: {{ alice: {{ hash: '{}' }} }}", hash("slg-a")));
    let all =
        [bearer("slg-a"), shown("x-api-key", "slg-a"), shown("x-goog-api-key", "slg-a"), shown("api-key", "slg-a")];
    for headers in all {
        assert_eq!(&*r.verify(&headers).unwrap().name, "alice");
    }
    assert_eq!(r.verify(&HeaderMap::new()).unwrap_err(), KeyError::Missing);
    assert_eq!(r.verify(&shown("authorization", "slg-a")).unwrap_err(), KeyError::Missing, "no scheme");
    assert_eq!(r.verify(&bearer("slg-b")).unwrap_err(), KeyError::Unknown);
    assert_eq!(r.verify(&bearer(&"a".repeat(5000))).unwrap_err(), KeyError::Unknown);
    let twice: HeaderMap = bearer("slg-a").into_iter().map(|(n, v)| (n.unwrap(), v)).collect();
    let mut twice = twice;
    twice.append("authorization", HeaderValue::from_static("Bearer slg-a"));
    assert_eq!(r.verify(&twice).unwrap_err(), KeyError::Missing, "ambiguous");
}

#[test]
fn a_hash_is_no_key() {
    let (r, _) = rule(&format!("keys: {{ alice: {{ hash: '{}' }} }}", hash("slg-a")));
    assert_eq!(r.verify(&bearer(&hash("slg-a"))).unwrap_err(), KeyError::Unknown);
}

#[test]
fn only_the_named_field_counts_where_one_is_named() {
    let entry = ApiKey { header: Some("X-Key".into()), ..entry() };
    let yaml = format!("keys: {{ alice: {{ hash: '{}' }} }}", hash("slg-a"));
    let r = KeyRule::compile("keys", &entry, &yaml, Clock::manual()).unwrap();
    assert!(r.verify(&shown("x-key", "slg-a")).is_ok());
    assert_eq!(r.verify(&bearer("slg-a")).unwrap_err(), KeyError::Missing);
    assert_eq!(r.shown(&shown("x-key", "slg-a")).unwrap().0, "x-key");
}

#[test]
fn keys_end_and_are_switched_off() {
    let (clock, until) = (Clock::manual(), later(&Clock::manual(), 100));
    let yaml = format!(
        "keys: {{ a: {{ hash: '{}', expires: '{until}' }}, b: {{ hash: '{}', disabled: true }}, c: {{ hash: '{}', expires: 2020-01-31 }} }}",
        hash("a"),
        hash("b"),
        hash("c")
    );
    let r = KeyRule::compile("keys", &entry(), &yaml, clock.clone()).unwrap();
    assert!(r.verify(&bearer("a")).is_ok());
    assert_eq!(r.verify(&bearer("b")).unwrap_err(), KeyError::Disabled);
    assert_eq!(r.verify(&bearer("c")).unwrap_err(), KeyError::Expired);
    clock.advance(Duration::from_secs(101));
    assert_eq!(r.verify(&bearer("a")).unwrap_err(), KeyError::Expired);
}

#[test]
fn while_a_key_is_rotated_both_are_taken() {
    let clock = Clock::manual();
    let yaml = format!(
        "keys: {{ a: {{ hash: '{}', previous: '{}', previous_until: '{}' }} }}",
        hash("new"),
        hash("old"),
        later(&clock, 60)
    );
    let r = KeyRule::compile("keys", &entry(), &yaml, clock.clone()).unwrap();
    assert!(r.verify(&bearer("new")).is_ok() && r.verify(&bearer("old")).is_ok());
    clock.advance(Duration::from_secs(61));
    assert!(r.verify(&bearer("new")).is_ok());
    assert_eq!(r.verify(&bearer("old")).unwrap_err(), KeyError::Expired);
}

#[test]
fn a_team_gives_its_keys_its_limits_and_its_tenant() {
    let yaml = format!(
        "{{ keys: {{ a: {{ hash: '{}', team: web }}, web: {{ hash: '{}' }} }}, teams: {{ web: {{ tiers: [cheap], rpm: 9 }} }} }}",
        hash("a"),
        hash("b")
    );
    let r = KeyRule::compile("keys", &ApiKey { tenant: Tenant::Team, ..entry() }, &yaml, Clock::manual()).unwrap();
    let (a, b) = (r.verify(&bearer("a")).unwrap(), r.verify(&bearer("b")).unwrap());
    assert_eq!(a.grants().map(|g| g.rpm).collect::<Vec<_>>(), [None, Some(9)]);
    assert_eq!((a.tenant(), b.tenant()), (("team", "web"), ("key", "web")));
    let (r, _) = rule(&yaml);
    assert_eq!(r.verify(&bearer("a")).unwrap().tenant(), ("key", "a"));
}

#[test]
fn faults_name_their_place_and_never_what_stands_there() {
    let secret = "slg-0123456789";
    let yaml = format!(
        "{{ keys: {{ a: {{ hash: {secret} }}, b: {{ hash: '{}', team: wbe, rpm: 0 }}, c: {{ hash: '{}', expires: soon }}, \
         d: {{ hash: '{}', previous: '{}' }} }}, teams: {{ web: {{}} }} }}",
        hash("b"),
        hash("b"),
        hash("d"),
        hash("e")
    );
    let all = faults(&yaml);
    for place in ["keys.a.hash:", "keys.b.team:", "keys.b.rpm:", "keys.c.expires:", "keys.c.hash:", "keys.d.previous:"]
    {
        assert!(all.iter().any(|f| f.starts_with(place)), "{place} {all:?}");
    }
    assert!(!format!("{all:?}").contains(secret));
    assert!(faults("{ keys: { a: { hsah: x } } }")[0].starts_with("keys.a"));
    assert!(faults("keys: [1]")[0].starts_with("keys"));
    let row: crate::config::apikey::KeyRow = serde_yaml::from_str(&format!("hash: {secret}")).unwrap();
    assert!(!format!("{row:?}").contains(secret));
}

#[test]
fn new_keys_are_long_and_never_the_same() {
    let (a, b) = (generate(), generate());
    assert!(a != b && a.len() == 68 && a.starts_with("slg-"));
    assert_eq!(hash("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn rfc6750_3_challenges_of_keys() {
    assert_eq!(KeyError::Missing.www_authenticate("k"), "Bearer realm=\"k\"");
    assert!(KeyError::Expired.www_authenticate("k").contains("error=\"invalid_token\""));
}
