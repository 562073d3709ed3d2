//! The `auth:` rules of a plan: verifiers of tokens, and virtual keys from their file.

use super::organs::Making;
use crate::ai::Gateway;
use crate::auth::apikey::KeyRule;
use crate::auth::identity::Rule;
use crate::auth::jwks::{DOCUMENT_BYTES_MAX, JwksSource, split_url};
use crate::auth::jwt::JwtVerifier;
use crate::config::ai::BudgetKey;
use crate::config::apikey::{ApiKey, Grant};
use crate::config::auth::Jwt;
use crate::config::error::unknown;
use crate::fetch::{Endpoint, Fetcher};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Largest file of keys.
const STORE_BYTES_MAX: u64 = 64 << 20;
/// Faults of one file that are told; a file with more has one cause.
const FAULTS_MAX: usize = 20;

impl Making<'_> {
    pub(super) fn auth(&mut self) -> BTreeMap<String, Arc<Rule>> {
        let mut out = BTreeMap::new();
        for (name, a) in &self.c.auth {
            let rule = match (&a.jwt, &a.api_key) {
                (Some(jwt), None) => self.jwt(name, jwt),
                (None, Some(keys)) => self.keys(name, keys),
                _ => {
                    self.fault(format!("auth.{name}"), "give exactly one of jwt and api_key");
                    None
                }
            };
            out.extend(rule.map(|r| (name.clone(), Arc::new(r))));
        }
        out
    }

    fn jwt(&mut self, name: &str, jwt: &Jwt) -> Option<Rule> {
        let clock = &self.shared.clock;
        // A published key set outlives the rules that use it; keys in files and variables are read at each reload.
        let published = jwt.jwks_url.as_ref().and_then(|url| {
            let source = published(url, &self.shared.fetcher)?;
            Some(self.shared.jwks.get(url, clock, || source))
        });
        match JwtVerifier::with_jwks(name, jwt, clock.clone(), published) {
            Ok(v) => Some(Rule::Jwt(Arc::new(v))),
            Err(e) => {
                self.fault(format!("auth.{}.jwt{}", e.name, e.place), e.fault.to_string());
                None
            }
        }
    }

    fn keys(&mut self, name: &str, keys: &ApiKey) -> Option<Rule> {
        let at = format!("auth.{name}.api_key");
        let text = self.read_at_most(Path::new(&keys.store), &format!("{at}.store"), STORE_BYTES_MAX)?;
        match KeyRule::compile(name, keys, &text, self.shared.clock.clone()) {
            Ok(rule) => Some(Rule::Key(Arc::new(rule))),
            Err(faults) => {
                for f in faults.into_iter().take(FAULTS_MAX) {
                    if f.in_file {
                        let place = if f.place.is_empty() { String::new() } else { format!("{}: ", f.place) };
                        self.fault(format!("{at}.store"), format!("{}: {place}{}", keys.store, f.message));
                    } else {
                        self.fault(format!("{at}.{}", f.place), f.message);
                    }
                }
                None
            }
        }
    }

    /// Names of models, tiers and budgets in files of keys. Without a gateway there is nothing that they could name.
    pub(super) fn check_keys(&mut self, auth: &BTreeMap<String, Arc<Rule>>, gateway: Option<&Gateway>) {
        self.check_names(auth);
        let Some(gateway) = gateway else { return };
        for (name, rule) in auth.iter().filter_map(|(n, r)| Some((n, r.keys()?))) {
            let mut found = Vec::new();
            let mut teams = BTreeMap::new();
            for key in rule.keys() {
                self.check_grant(&key.grant, &format!("keys.{}", key.name), gateway, &mut found);
                teams.extend(key.team.as_ref().zip(key.team_grant.as_ref()));
            }
            for (team, grant) in teams {
                self.check_grant(grant, &format!("teams.{team}"), gateway, &mut found);
            }
            let file = self.c.auth.get(name).and_then(|a| a.api_key.as_ref()).map_or("", |k| k.store.as_str());
            for fault in found.into_iter().take(FAULTS_MAX) {
                self.fault(format!("auth.{name}.api_key.store"), format!("{file}: {fault}"));
            }
        }
    }

    /// A name stands for one key and one team everywhere: in caches, budgets, limits and logs.
    fn check_names(&mut self, auth: &BTreeMap<String, Arc<Rule>>) {
        let mut owners: BTreeMap<(&str, Arc<str>), &str> = BTreeMap::new();
        for (name, rule) in auth.iter().filter_map(|(n, r)| Some((n, r.keys()?))) {
            let Some(file) = self.c.auth.get(name).and_then(|a| a.api_key.as_ref()).map(|k| k.store.as_str()) else {
                continue;
            };
            let teams = rule.keys().iter().filter_map(|k| k.team.as_ref()).map(|t| ("teams", t));
            let keys = rule.keys().iter().map(|k| ("keys", &k.name));
            let mut taken = Vec::new();
            for (kind, of) in keys.chain(teams) {
                let owner = *owners.entry((kind, Arc::clone(of))).or_insert(file);
                if owner != file {
                    taken.push(format!("{file}: {kind}.{of}: the name is taken by {owner}"));
                }
            }
            taken.dedup();
            for fault in taken.into_iter().take(FAULTS_MAX) {
                self.fault(format!("auth.{name}.api_key.store"), fault);
            }
        }
    }

    fn check_grant(&self, grant: &Grant, at: &str, gateway: &Gateway, found: &mut Vec<String>) {
        let ai = &self.c.ai;
        for (i, model) in grant.models.iter().enumerate().filter(|(_, m)| !ai.models.contains_key(*m)) {
            let what = unknown("model", model, ai.models.keys().map(String::as_str));
            found.push(format!("{at}.models[{i}]: {what}"));
        }
        for (i, tier) in grant.tiers.iter().enumerate().filter(|(_, t)| gateway.catalog().in_tier(t).is_empty()) {
            let what = unknown("tier", tier, gateway.catalog().tiers().map(String::as_str));
            found.push(format!("{at}.tiers[{i}]: {what}"));
        }
        for (i, budget) in grant.budgets.iter().enumerate() {
            let place = format!("{at}.budgets[{i}]");
            match ai.budgets.get(budget).map(|b| b.key) {
                None => {
                    let what = unknown("budget", budget, ai.budgets.keys().map(String::as_str));
                    found.push(format!("{place}: {what}"));
                }
                Some(BudgetKey::User) => {
                    found.push(format!("{place}: {budget:?} is kept by users of tokens, which keys are not"));
                }
                Some(_) => {}
            }
        }
    }
}

struct Published {
    fetcher: Fetcher,
    endpoint: Endpoint,
    path: String,
}

#[async_trait]
impl JwksSource for Published {
    async fn fetch(&self) -> Result<Bytes, String> {
        let got = self
            .fetcher
            .send(&self.endpoint, http::Method::GET, &self.path, http::HeaderMap::new(), Bytes::new())
            .await;
        let got = got.map_err(|e| e.to_string())?;
        if got.status != http::StatusCode::OK {
            return Err(format!("status {}", got.status.as_u16()));
        }
        got.bytes(DOCUMENT_BYTES_MAX).await.map_err(|e| e.to_string())
    }
}

fn published(url: &str, fetcher: &Fetcher) -> Option<Arc<dyn JwksSource>> {
    let (base, path) = split_url(url).ok()?;
    let wait = Duration::from_secs(5);
    let endpoint = Endpoint { url: base, connect: wait, first_byte: wait, between_bytes: wait };
    Some(Arc::new(Published { fetcher: fetcher.clone(), endpoint, path }))
}
