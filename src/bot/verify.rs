//! Forward-confirmed reverse DNS: does the address belong to the agent that the client says it is?
//!
//! The address must have a name in one of the agent's domains, and that name must lead back to the address: the first
//! alone proves nothing, since everybody may write any name into the reverse zone of their own addresses.

use super::known::KnownAgent;
use crate::base::clock::Clock;
use async_trait::async_trait;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

#[cfg(test)]
mod tests;

/// How long a proof or a refutation holds.
const TTL_KNOWN: Duration = Duration::from_secs(6 * 3600);
/// How long to leave an address alone that DNS had no answer for.
const TTL_UNKNOWN: Duration = Duration::from_secs(60);
/// Outcomes remembered.
const REMEMBERED_MAX: u64 = 20_000;
/// Names of one address that are followed.
const NAMES_MAX: usize = 4;
/// Look-ups of the system's resolver at a time: each holds a thread, for as long as the resolver pleases.
const SYSTEM_LOOKUPS_MAX: usize = 16;

/// No answer: timed out, refused, or too many look-ups under way. (No such name is an answer: an empty list.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer from dns")]
pub struct NoAnswer;

/// The two questions.
#[async_trait]
pub trait Dns: Send + Sync {
    /// The names of an address.
    async fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, NoAnswer>;
    /// The addresses of a name.
    async fn forward(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer>;
}

/// Verifies agents, remembering outcomes.
pub struct DnsVerifier {
    dns: Arc<dyn Dns>,
    clock: Clock,
    timeout: Duration,
    /// By address and the agent's name: (outcome, until).
    remembered: moka::sync::Cache<(IpAddr, String), (Option<bool>, Duration)>,
}

impl DnsVerifier {
    /// `timeout` bounds a whole verification.
    pub fn new(dns: Arc<dyn Dns>, clock: Clock, timeout: Duration) -> Self {
        DnsVerifier { dns, clock, timeout, remembered: moka::sync::Cache::new(REMEMBERED_MAX) }
    }

    /// Whether `ip` is one of the agent's. `None`: not to be known, because the agent publishes no host names or DNS
    /// gave no answer in time; a slow DNS never turns a visitor away.
    pub async fn verify(&self, ip: IpAddr, agent: &KnownAgent) -> Option<bool> {
        if agent.domains.is_empty() {
            return None;
        }
        let ip = ip.to_canonical();
        let key = (ip, agent.name.to_string());
        let now = self.clock.elapsed();
        if let Some((outcome, until)) = self.remembered.get(&key)
            && now < until
        {
            return outcome;
        }
        let outcome = match tokio::time::timeout(self.timeout, self.look_up(ip, agent)).await {
            Ok(Ok(belongs)) => Some(belongs),
            Ok(Err(NoAnswer)) | Err(_) => None,
        };
        let ttl = if outcome.is_some() { TTL_KNOWN } else { TTL_UNKNOWN };
        self.remembered.insert(key, (outcome, self.clock.elapsed() + ttl));
        outcome
    }

    async fn look_up(&self, ip: IpAddr, agent: &KnownAgent) -> Result<bool, NoAnswer> {
        let names = self.dns.reverse(ip).await?;
        let ours = names.iter().filter(|name| agent.domains.iter().any(|domain| is_in(name, domain)));
        let mut unanswered = false;
        for name in ours.take(NAMES_MAX) {
            match self.dns.forward(name).await {
                Ok(list) if list.iter().any(|a| a.to_canonical() == ip) => return Ok(true),
                Ok(_) => {}
                Err(NoAnswer) => unanswered = true,
            }
        }
        if unanswered { Err(NoAnswer) } else { Ok(false) }
    }
}

/// Whether `name` is `domain` or below it, label by label: `evilgooglebot.com` is not in `googlebot.com`.
fn is_in(name: &str, domain: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let Some(cut) = name.len().checked_sub(domain.len()) else { return false };
    let (head, tail) = name.split_at(cut);
    tail.eq_ignore_ascii_case(domain.as_bytes()) && (head.is_empty() || head.last() == Some(&b'.'))
}

/// The system's resolver, a bounded number of blocking look-ups at a time.
pub struct SystemDns {
    permits: Arc<Semaphore>,
}

impl Default for SystemDns {
    fn default() -> Self {
        SystemDns { permits: Arc::new(Semaphore::new(SYSTEM_LOOKUPS_MAX)) }
    }
}

impl SystemDns {
    /// Runs `ask` on a blocking thread, or gives up at once when enough of them hang already. The permit goes with the
    /// thread: a caller that stops waiting does not make room that is not there.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> Result<T, NoAnswer> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| NoAnswer)?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask();
            drop(permit);
            answer
        });
        asked.await.unwrap_or(Err(NoAnswer))
    }
}

#[async_trait]
impl Dns for SystemDns {
    async fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, NoAnswer> {
        self.blocking(move || {
            // Without NI_NAMEREQD an address that has no name comes back as text, which tells it from a failure.
            let (name, _) = dns_lookup::getnameinfo(&SocketAddr::new(ip, 0), 0).map_err(|_| NoAnswer)?;
            let nameless = name.contains(':') || name.parse::<IpAddr>().is_ok();
            Ok(if nameless { Vec::new() } else { vec![name] })
        })
        .await
    }

    async fn forward(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer> {
        // A dot at the end keeps the resolver's search list out of it.
        let name = format!("{}.", name.trim_end_matches('.'));
        self.blocking(move || {
            let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
            match dns_lookup::getaddrinfo(Some(&name), None, Some(hints)) {
                Ok(found) => Ok(found.filter_map(Result::ok).map(|a| a.sockaddr.ip()).collect()),
                Err(e) => match e.kind() {
                    LookupErrorKind::NoName | LookupErrorKind::NoData => Ok(Vec::new()),
                    _ => Err(NoAnswer),
                },
            }
        })
        .await
    }
}
