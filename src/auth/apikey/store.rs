//! The file of keys, read and checked: every fault at once, each with its place.

use super::{ALGORITHM, Digest, Key, KeyRule, Slot, USUAL};
use crate::base::clock::Clock;
use crate::config::apikey::{ApiKey, KeyFile, KeyRow, TeamRow};
use http::HeaderName;
use std::collections::HashMap;
use std::sync::Arc;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

/// Most keys of one file.
const KEYS_MAX: usize = 200_000;
/// The longest name of a key or a team, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A fault in the entry or in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFault {
    /// The place below the entry (`header`), or within the file (`keys.alice.hash`).
    pub place: String,
    /// Whether the place lies in the file.
    pub in_file: bool,
    /// What is wrong. Never the value of a hash: a key may stand there by mistake.
    pub message: String,
}

/// A team's name and what it may.
type Team = (Arc<str>, Arc<TeamRow>);

/// What the reading has found so far.
struct Reading {
    faults: Vec<StoreFault>,
    slots: HashMap<Digest, Slot>,
    keys: Vec<Arc<Key>>,
}

impl KeyRule {
    /// Compiles an entry with the text of its file.
    pub fn compile(name: &str, entry: &ApiKey, text: &str, clock: Clock) -> Result<KeyRule, Vec<StoreFault>> {
        let mut r = Reading { faults: Vec::new(), slots: HashMap::new(), keys: Vec::new() };
        let places = match entry.header.as_deref().map(|h| HeaderName::from_bytes(h.as_bytes())) {
            None => USUAL.to_vec(),
            Some(Ok(field)) => vec![field],
            Some(Err(_)) => {
                let message = "not the name of a header field".to_owned();
                r.faults.push(StoreFault { place: "header".to_owned(), in_file: false, message });
                Vec::new()
            }
        };
        match parse(text) {
            Ok(file) => r.file(&file, entry),
            Err(fault) => r.faults.push(fault),
        }
        if !r.faults.is_empty() {
            return Err(r.faults);
        }
        Ok(KeyRule { name: name.to_owned(), places, slots: r.slots, keys: r.keys, clock })
    }
}

fn parse(text: &str) -> Result<KeyFile, StoreFault> {
    // An empty file lists no keys.
    if text.trim().is_empty() {
        return Ok(KeyFile::default());
    }
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|e| {
        let place = if e.path().iter().len() == 0 { String::new() } else { e.path().to_string() };
        StoreFault { place, in_file: true, message: e.inner().to_string() }
    })
}

impl Reading {
    fn fault(&mut self, place: String, message: impl Into<String>) {
        self.faults.push(StoreFault { place, in_file: true, message: message.into() });
    }

    fn file(&mut self, file: &KeyFile, entry: &ApiKey) {
        if file.keys.len() > KEYS_MAX {
            return self.fault("keys".to_owned(), format!("at most {KEYS_MAX} keys"));
        }
        let mut teams: HashMap<&str, Team> = HashMap::new();
        for (name, team) in &file.teams {
            let place = format!("teams.{name}");
            self.name(name, &place);
            self.limits(team, &place);
            teams.insert(name, (name.as_str().into(), Arc::new(team.clone())));
        }
        for (name, row) in &file.keys {
            let place = format!("keys.{name}");
            self.name(name, &place);
            let team = row.team.as_deref().and_then(|t| teams.get(t));
            if let (Some(wanted), None) = (&row.team, team) {
                self.fault(format!("{place}.team"), format!("there is no team {wanted:?}"));
            }
            self.key(name, row, (team.cloned(), entry));
        }
    }

    fn key(&mut self, name: &str, row: &KeyRow, (team, entry): (Option<Team>, &ApiKey)) {
        let place = format!("keys.{name}");
        let grant = row.grant();
        self.limits(&grant, &place);
        let expires = self.moment(row.expires.as_deref(), || format!("{place}.expires"));
        let until = self.moment(row.previous_until.as_deref(), || format!("{place}.previous_until"));
        if row.previous.is_some() != row.previous_until.is_some() {
            self.fault(format!("{place}.previous"), "previous and previous_until go together");
        }
        let (team, team_grant) = team.unzip();
        let key = Arc::new(Key {
            name: name.into(),
            team,
            grant: Arc::new(grant),
            team_grant,
            metadata: row.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            expires,
            disabled: row.disabled,
            previous_until: until,
            tenant: entry.tenant,
        });
        self.slot(&row.hash, (&key, None), || format!("{place}.hash"));
        if let Some(previous) = &row.previous {
            // Without a moment there has been a fault already.
            self.slot(previous, (&key, Some(until.unwrap_or(0))), || format!("{place}.previous"));
        }
        self.keys.push(key);
    }

    fn slot(&mut self, hash: &str, (key, until): (&Arc<Key>, Option<u64>), place: impl Fn() -> String) {
        let Some(digest) = unhex(hash) else {
            let what = "a hash is written sha256: and 64 hex digits (sluicegate key hash makes it of a key)";
            return self.fault(place(), what);
        };
        let slot = Slot { digest, key: Arc::clone(key), until };
        if let Some(other) = self.slots.insert(digest, slot) {
            self.fault(place(), format!("the same hash as of the key {:?}", other.key.name));
        }
    }

    fn moment(&mut self, text: Option<&str>, place: impl Fn() -> String) -> Option<u64> {
        let seconds = moment(text?);
        if seconds.is_none() {
            self.fault(place(), "a time is written 2026-12-31 or 2026-12-31T12:00:00Z");
        }
        seconds
    }

    fn name(&mut self, name: &str, place: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            self.fault(place.to_owned(), "a name is made of at most 128 letters, digits and -_.@/");
        }
    }

    fn limits(&mut self, grant: &TeamRow, place: &str) {
        for (key, value) in [("rpm", grant.rpm), ("tpm", grant.tpm), ("concurrency", grant.concurrency.map(u64::from))]
        {
            if value == Some(0) {
                self.fault(format!("{place}.{key}"), "at least 1; to switch a key off: disabled: true");
            }
        }
    }
}

/// Seconds since 1970 of `2026-12-31` (its first moment, UTC) or of an RFC 3339 time.
fn moment(text: &str) -> Option<u64> {
    let day = time::macros::format_description!("[year]-[month]-[day]");
    let seconds = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(t) => t.unix_timestamp(),
        Err(_) => Date::parse(text, day).ok()?.midnight().assume_utc().unix_timestamp(),
    };
    u64::try_from(seconds).ok()
}

fn unhex(hash: &str) -> Option<Digest> {
    let digits = hash.strip_prefix(ALGORITHM).filter(|d| d.len() == 64 && d.is_ascii())?;
    let mut out = Digest::default();
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok().filter(|_| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
    }
    Some(out)
}
