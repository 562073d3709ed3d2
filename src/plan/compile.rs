//! Config -> Plan: the sole way a plan is made. Reports all faults, each with its path in the YAML.

use super::organs::Organs;
use super::shared::Shared;
use super::{Handler, HeaderChange, Plan, Route, limits, listener};
use crate::base::ids;
use crate::compress::RouteCompress;
use crate::compress::whole::Precoded;
use crate::config::Config;
use crate::config::error::{Fault, unknown};
use crate::config::load::Loaded;
use crate::config::policy::OnError;
use crate::config::route::{self as yaml, RoutePolicy};
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compiles what was loaded from `path`.
pub fn compile(loaded: &Loaded, path: &Path, shared: &Arc<Shared>) -> Result<Plan, Vec<Fault>> {
    let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    build(&loaded.config, base, loaded.sources.paths(), shared).map_err(|f| loaded.sources.locate(f))
}

fn build(c: &Config, base: &Path, mut files: Vec<PathBuf>, shared: &Arc<Shared>) -> Result<Plan, Vec<Fault>> {
    let mut faults = Vec::new();
    if c.version.is_some_and(|v| v != 1) {
        faults.push(Fault::at("version", "only version 1 exists"));
    }
    let listeners = listener::compile(c, base, &mut faults);
    let trusted = networks("server.trusted_proxies", &c.server.trusted_proxies, &mut faults);
    let cache_key_for = networks("observability.cache_key_for", &c.observability.cache_key_for, &mut faults);
    check_admin(c, &mut faults);
    limits::check(c, &mut faults);
    let organs = Organs::make(c, base, shared, &mut faults);
    let revision = revision(&files, organs.script_source.as_deref());
    files.extend(organs.files.iter().cloned());
    let router = router(c, &mut faults);
    let routes =
        c.routes.iter().enumerate().filter_map(|(i, r)| Maker { c, organs: &organs, shared, i }.route(r, &mut faults));
    let routes: Vec<Arc<Route>> = routes.map(Arc::new).collect();
    duplicate_names(&routes, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    // Without faults both are there.
    let ((router, warnings), Some(bots)) = (router.unwrap_or_default(), organs.bots) else { return Err(faults) };
    Ok(Plan {
        revision,
        router,
        express: routes.iter().any(|r| r.is_open()),
        routes,
        listeners,
        connections_max: c.server.max_connections.max(1),
        trusted,
        cache_key_for,
        header_bytes_max: c.server.max_header_size.as_usize(),
        pools: organs.pools,
        auth: organs.auth,
        bots,
        bots_dns: organs.dns,
        policy: organs.policy,
        policy_revision: organs.policy_revision,
        metrics: Arc::clone(&shared.metrics),
        coders: Arc::clone(&shared.coders),
        ai: organs.gateway,
        ai_body_bytes_max: c.ai.max_body.as_usize(),
        grace: c.server.grace_period.0,
        io_timeout: c.server.io_timeout.0,
        stores: organs.stores,
        log: organs.log,
        files,
        warnings,
    })
}

fn revision(files: &[PathBuf], script: Option<&str>) -> String {
    let texts: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap_or_default()).collect();
    let parts = texts.iter().map(Vec::as_slice).chain(script.map(str::as_bytes));
    ids::hex(&ids::sha256_parts(parts)).chars().take(12).collect()
}

fn router(c: &Config, faults: &mut Vec<Fault>) -> Option<(super::router::Router, Vec<Fault>)> {
    let matches: Vec<_> = c.routes.iter().map(|r| (&r.matches, r.priority)).collect();
    super::router::Router::compile(&matches).map_err(|f| faults.extend(f)).ok()
}

fn networks(at: &str, list: &[String], faults: &mut Vec<Fault>) -> Vec<IpNet> {
    let mut out = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)) {
            Ok(n) => out.push(n),
            Err(_) => {
                faults.push(Fault::at(format!("{at}[{i}]"), format!("{text:?} is no address or network (10.0.0.0/8)")))
            }
        }
    }
    out
}

/// The operators' door never stands open to the world.
fn check_admin(c: &Config, faults: &mut Vec<Fault>) {
    let Some(admin) = &c.server.admin else { return };
    let local = admin.listen.parse::<std::net::SocketAddr>().map(|a| a.ip().is_loopback());
    match (local, &admin.token) {
        (Err(_), _) => faults.push(Fault::at("server.admin.listen", format!("{:?} is not address:port", admin.listen))),
        (Ok(false), None) => faults.push(Fault::at(
            "server.admin",
            "set a token (token: file:/path or env:NAME), or listen on a loopback address",
        )),
        _ => {}
    }
    if let Some(Err(e)) = admin.token.as_ref().map(crate::config::secret::SecretRef::resolve) {
        faults.push(Fault::at("server.admin.token", e.to_string()));
    }
}

fn duplicate_names(routes: &[Arc<Route>], faults: &mut Vec<Fault>) {
    for (i, r) in routes.iter().enumerate() {
        if routes.iter().take(i).any(|o| o.name == r.name) {
            faults
                .push(Fault::at(format!("routes[{i}].name"), format!("{:?} is the name of a route before it", r.name)));
        }
    }
}

/// Makes one route.
struct Maker<'a> {
    c: &'a Config,
    organs: &'a Organs,
    shared: &'a Arc<Shared>,
    i: usize,
}

impl Maker<'_> {
    fn at(&self, key: &str) -> String {
        format!("routes[{}].{key}", self.i)
    }

    fn route(&self, r: &yaml::Route, faults: &mut Vec<Fault>) -> Option<Route> {
        let before = faults.len();
        let name = r.name.clone().unwrap_or_else(|| format!("route-{}", self.i));
        let compress = self.compress(r, faults);
        let handler = self.handler(r, compress.as_deref(), faults);
        let auth = self.auth(r, faults);
        let limits = limits::of_route(self.c, (self.i, r), faults);
        limits::check_budgets(self.c, (self.i, r), faults);
        let cache = self.cache(r, faults);
        if r.early_hints && cache.is_none() {
            let why = "only upstream routes with a cache remember the links of a page";
            faults.push(Fault::at(self.at("early_hints"), why));
        }
        let policy = self.policy(r, faults);
        self.without_effect(r, faults);
        let request_headers = changes(&r.headers.request, &self.at("headers.request"), faults);
        let response_headers = changes(&r.headers.response, &self.at("headers.response"), faults);
        if faults.len() > before {
            return None;
        }
        Some(Route {
            metrics: self.shared.metrics.route(&name),
            name,
            handler: handler?,
            auth,
            limits,
            cache,
            compress,
            early_hints: r.early_hints,
            policy,
            request_headers,
            response_headers,
            body_bytes_max: r.max_body.map(|s| s.0),
        })
    }

    fn handler(&self, r: &yaml::Route, compress: Option<&RouteCompress>, faults: &mut Vec<Fault>) -> Option<Handler> {
        let given: Vec<&str> = [
            ("upstream", r.upstream.is_some()),
            ("ai", r.ai.is_some()),
            ("mcp", r.mcp.is_some()),
            ("respond", r.respond.is_some()),
            ("redirect", r.redirect.is_some()),
        ]
        .iter()
        .filter(|(_, g)| *g)
        .map(|(n, _)| *n)
        .collect();
        if given.len() != 1 {
            let what =
                if given.is_empty() { "no action".to_owned() } else { format!("{} at once", given.join(" and ")) };
            faults.push(Fault::at(
                format!("routes[{}]", self.i),
                format!("{what}; give exactly one of upstream, ai, mcp, respond, redirect"),
            ));
            return None;
        }
        if let Some(name) = &r.upstream {
            let pool = self.organs.pools.get(name);
            // An upstream that is defined but faulty has been reported already.
            if pool.is_none() && !self.c.upstreams.contains_key(name) {
                let known = self.c.upstreams.keys().map(String::as_str);
                faults.push(Fault::at(self.at("upstream"), unknown("upstream", name, known)));
            }
            return pool.map(|p| Handler::Proxy(Arc::clone(p)));
        }
        if let Some(ai) = &r.ai {
            let found = self.organs.check_ai_route(ai, self.c);
            faults.extend(found.into_iter().map(|f| Fault::at(self.at(&format!("ai.{}", f.path)), f.message)));
            return Some(Handler::Ai(Arc::new(ai.clone())));
        }
        if let Some(mcp) = &r.mcp {
            let name = r.name.clone().unwrap_or_else(|| format!("route-{}", self.i));
            let made = super::mcp::make(&name, mcp, self.shared);
            let report = |f: crate::mcp::Fault| Fault::at(self.at(&format!("mcp.{}", f.path)), f.message);
            return made.map(|m| Handler::Mcp(Arc::new(m))).map_err(|l| faults.extend(l.into_iter().map(report))).ok();
        }
        if let Some(x) = &r.respond {
            return self.respond(x, compress, faults);
        }
        r.redirect.as_ref().and_then(|x| self.redirect(x, faults))
    }

    /// Options that the route's action has no use for: accepted, they would look as if they had.
    fn without_effect(&self, r: &yaml::Route, faults: &mut Vec<Fault>) {
        if r.upstream.is_some() {
            return;
        }
        if r.max_body.is_some() && r.ai.is_none() && (r.respond.is_some() || r.redirect.is_some()) {
            let why = "has no effect here: respond and redirect read no request body";
            faults.push(Fault::at(self.at("max_body"), why));
        }
        let changes = &r.headers.request;
        let acts = r.ai.is_some() || r.mcp.is_some() || r.respond.is_some() || r.redirect.is_some();
        if acts && !(changes.set.is_empty() && changes.remove.is_empty()) {
            let why = "has no effect here: only upstream routes pass the request's header on";
            faults.push(Fault::at(self.at("headers.request"), why));
        }
    }

    fn respond(&self, x: &yaml::Respond, compress: Option<&RouteCompress>, faults: &mut Vec<Fault>) -> Option<Handler> {
        let status = StatusCode::from_u16(x.status).ok().filter(|s| s.as_u16() >= 200);
        let content_type = HeaderValue::from_str(&x.content_type).ok();
        if status.is_none() {
            faults.push(Fault::at(self.at("respond.status"), format!("{} is no final status", x.status)));
        }
        if content_type.is_none() {
            faults.push(Fault::at(self.at("respond.content_type"), "not a header value"));
        }
        let body = bytes::Bytes::from(x.body.clone());
        let precoded = compress.map(|c| Precoded::of(&body, &c.codings)).unwrap_or_default();
        let (status, content_type) = (status?, content_type?);
        Some(Handler::Respond { status, content_type, body, precoded: Arc::new(precoded) })
    }

    fn redirect(&self, x: &yaml::Redirect, faults: &mut Vec<Fault>) -> Option<Handler> {
        if !matches!(x.status, 301 | 302 | 303 | 307 | 308) {
            faults.push(Fault::at(self.at("redirect.status"), "one of 301, 302, 303, 307, 308"));
            return None;
        }
        if HeaderValue::from_str(&x.to).is_err() {
            faults.push(Fault::at(self.at("redirect.to"), "not a header value"));
        }
        let status = StatusCode::from_u16(x.status).ok()?;
        Some(Handler::Redirect { status, to: x.to.clone() })
    }

    fn auth(&self, r: &yaml::Route, faults: &mut Vec<Fault>) -> Option<Arc<crate::auth::identity::Rule>> {
        let name = r.auth.as_ref()?;
        if !self.c.auth.contains_key(name) {
            faults.push(Fault::at(self.at("auth"), unknown("auth rule", name, self.c.auth.keys().map(String::as_str))));
        }
        self.organs.auth.get(name).cloned()
    }

    fn compress(&self, r: &yaml::Route, faults: &mut Vec<Fault>) -> Option<Arc<RouteCompress>> {
        let wanted = r.compress.as_ref()?;
        if r.redirect.is_some() {
            faults.push(Fault::at(self.at("compress"), "a redirect has no body to code"));
            return None;
        }
        match RouteCompress::compile(wanted) {
            Ok(rule) => rule.map(Arc::new),
            Err(list) => {
                faults.extend(list.into_iter().map(|f| Fault::at(self.at(&format!("compress{}", f.path)), f.why)));
                None
            }
        }
    }

    fn cache(&self, r: &yaml::Route, faults: &mut Vec<Fault>) -> Option<super::RouteStore> {
        let wanted = r.cache.as_ref()?;
        if r.upstream.is_none() {
            faults.push(Fault::at(self.at("cache"), "only upstream routes have an HTTP cache (AI routes: ai.cache)"));
            return None;
        }
        match self.organs.route_store(wanted, self.c) {
            Ok(s) => s,
            Err(list) => {
                faults.extend(list.into_iter().map(|f| {
                    let key = if f.path.is_empty() { "cache".to_owned() } else { format!("cache.{}", f.path) };
                    Fault::at(self.at(&key), f.message)
                }));
                None
            }
        }
    }

    fn policy(&self, r: &yaml::Route, faults: &mut Vec<Fault>) -> Option<OnError> {
        let on_error = match &r.policy {
            RoutePolicy::Switch(false) => return None,
            RoutePolicy::Switch(true) => self.c.policy.as_ref().map(|p| p.on_error),
            RoutePolicy::On(on) => self.c.policy.as_ref().map(|_| on.on_error),
        };
        if on_error.is_none() {
            faults.push(Fault::at(self.at("policy"), "there is no policy section with a script"));
        }
        on_error
    }
}

/// Compiles header changes; framing fields are not the operator's to set.
fn changes(h: &yaml::HeaderChange, at: &str, faults: &mut Vec<Fault>) -> Vec<HeaderChange> {
    const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "connection", "upgrade", "trailer"];
    let mut out = Vec::new();
    let mut name = |text: &String, at: String| match HeaderName::try_from(text.as_str()) {
        Ok(n) if FRAMING.contains(&n.as_str()) => {
            faults.push(Fault::at(at, format!("{text:?} frames the message and is set by the gateway")));
            None
        }
        Ok(n) => Some(n),
        Err(_) => {
            faults.push(Fault::at(at, format!("{text:?} is no header name")));
            None
        }
    };
    let mut values = Vec::new();
    for text in &h.remove {
        out.extend(name(text, format!("{at}.remove")).map(HeaderChange::Remove));
    }
    for (text, value) in &h.set {
        if let Some(n) = name(text, format!("{at}.set.{text}")) {
            values.push((n, text, HeaderValue::from_str(value)));
        }
    }
    for (n, text, value) in values {
        match value {
            Ok(v) => out.push(HeaderChange::Set(n, v)),
            Err(_) => faults.push(Fault::at(format!("{at}.set.{text}"), "not a header value")),
        }
    }
    out
}
