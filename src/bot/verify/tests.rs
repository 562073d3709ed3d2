//! Forward-confirmed reverse DNS with a resolver that is told what to say.

use super::*;
use crate::bot::Kind;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
struct Fake {
    names: HashMap<IpAddr, Vec<&'static str>>,
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    broken: Mutex<bool>,
    hangs: bool,
    asked: AtomicUsize,
}

#[async_trait]
impl Dns for Fake {
    async fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, NoAnswer> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if *self.broken.lock().unwrap() {
            return Err(NoAnswer);
        }
        Ok(self.names.get(&ip).into_iter().flatten().map(|n| (*n).to_owned()).collect())
    }

    async fn forward(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer> {
        self.addresses.get(name).cloned().ok_or(NoAnswer)
    }
}

const REAL: &str = "crawl-66-249-66-1.googlebot.com";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn googlebot() -> KnownAgent {
    KnownAgent { name: "Googlebot".into(), kind: Kind::SearchEngine, domains: &["googlebot.com", "google.com"] }
}

fn fake(name: &'static str, leads_to: &[&str]) -> Fake {
    let mut f = Fake::default();
    f.names.insert(ip("66.249.66.1"), vec![name]);
    f.addresses.insert(name, leads_to.iter().map(|a| ip(a)).collect());
    f
}

fn verifier(fake: Fake) -> (DnsVerifier, Arc<Fake>, Clock) {
    let (fake, clock) = (Arc::new(fake), Clock::manual());
    (DnsVerifier::new(fake.clone(), clock.clone(), Duration::from_millis(200)), fake, clock)
}

async fn outcome(fake: Fake) -> Option<bool> {
    verifier(fake).0.verify(ip("66.249.66.1"), &googlebot()).await
}

#[tokio::test]
async fn a_name_that_leads_back_is_proof() {
    assert_eq!(outcome(fake(REAL, &["66.249.66.1"])).await, Some(true));
    assert_eq!(outcome(fake("x.GoogleBot.COM.", &["10.0.0.1", "66.249.66.1"])).await, Some(true));
    let (v, ..) = verifier(fake(REAL, &["66.249.66.1"]));
    assert_eq!(v.verify(ip("::ffff:66.249.66.1"), &googlebot()).await, Some(true));
}

#[tokio::test]
async fn a_reverse_name_alone_is_none() {
    assert_eq!(outcome(fake(REAL, &["10.0.0.1"])).await, Some(false));
    assert_eq!(outcome(fake(REAL, &[])).await, Some(false));
    assert_eq!(outcome(Fake::default()).await, Some(false), "no name at all");
}

#[tokio::test]
async fn the_domain_is_matched_label_by_label() {
    for name in ["evilgooglebot.com", "googlebot.com.evil.example", "googlebot.co", "com", "", ".", "xgoogle.com"] {
        assert_eq!(outcome(fake(name, &["66.249.66.1"])).await, Some(false), "{name}");
    }
    assert!(is_in("googlebot.com", "googlebot.com") && is_in("a.b.googlebot.com.", "googlebot.com"));
    assert!(!is_in("ü.googlebot.com.", "xü.googlebot.com"));
}

#[tokio::test]
async fn no_answer_is_no_judgement() {
    let f = Fake { broken: Mutex::new(true), ..Fake::default() };
    assert_eq!(outcome(f).await, None);
    let f = Fake { hangs: true, ..Fake::default() };
    assert_eq!(outcome(f).await, None, "timed out");
    let mut f = fake(REAL, &[]);
    f.addresses.clear();
    assert_eq!(outcome(f).await, None, "the forward question went unanswered");
    let (v, f, _) = verifier(fake(REAL, &["66.249.66.1"]));
    let nameless = KnownAgent { domains: &[], ..googlebot() };
    assert_eq!(v.verify(ip("66.249.66.1"), &nameless).await, None);
    assert_eq!(f.asked.load(Ordering::SeqCst), 0, "nothing to ask");
}

#[tokio::test]
async fn outcomes_are_remembered_and_forgotten() {
    let (v, f, clock) = verifier(fake(REAL, &["66.249.66.1"]));
    let asked = || f.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(v.verify(ip("66.249.66.1"), &googlebot()).await, Some(true));
    }
    assert_eq!(asked(), 1);
    clock.advance(TTL_KNOWN + Duration::from_secs(1));
    *f.broken.lock().unwrap() = true;
    assert_eq!(v.verify(ip("66.249.66.1"), &googlebot()).await, None);
    assert_eq!(v.verify(ip("66.249.66.1"), &googlebot()).await, None);
    assert_eq!(asked(), 2);
    *f.broken.lock().unwrap() = false;
    clock.advance(TTL_UNKNOWN + Duration::from_secs(1));
    assert_eq!(v.verify(ip("66.249.66.1"), &googlebot()).await, Some(true));
    assert_eq!(v.verify(ip("66.249.66.2"), &googlebot()).await, Some(false), "another address is another question");
}

#[tokio::test]
async fn the_system_resolver_knows_this_machine() {
    let dns = SystemDns::default();
    // From the hosts file, or no name at all; never the address itself as text.
    let names = dns.reverse(ip("127.0.0.1")).await.unwrap();
    assert!(names.iter().all(|n| n.parse::<IpAddr>().is_err()), "{names:?}");
}

#[tokio::test]
async fn a_hanging_system_resolver_is_given_up_on() {
    let dns = SystemDns::default();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let hanging = (0..SYSTEM_LOOKUPS_MAX).map(|_| {
        let gate = gate.clone();
        dns.blocking(move || gate.lock().unwrap().recv().map_err(|_| NoAnswer))
    });
    let mut hanging: Vec<_> = hanging.map(Box::pin).collect();
    for h in &mut hanging {
        // One poll starts the thread; then the caller walks away.
        assert!(tokio::time::timeout(Duration::ZERO, h).await.is_err());
    }
    drop(hanging);
    assert_eq!(dns.blocking(|| Ok(())).await, Err(NoAnswer), "all places are taken");
    drop(release);
    let freed = async {
        while dns.blocking(|| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("places come back");
}
