//! The fast path: a plain fresh hit answered from `request_filter`, without Pingora's cache machinery.

use super::judge::{Asks, HitVerdict, Stored, judge_hit};
use super::key::Key;
use super::store::Object;
use super::store::tiered::TieredStore;
use http::{HeaderMap, header};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A fresh object for this request.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The object.
    pub object: Arc<Object>,
    /// The client's copy is still good: 304 without a body.
    pub not_modified: bool,
}

impl Hit {
    /// The header to send, with `Age`; framing for the client's protocol version is the writer's business.
    pub fn response(&self, now: SystemTime) -> ResponseHeader {
        if self.not_modified { self.object.response_304(now) } else { self.object.response(now) }
    }
}

/// Tries the fast path for a request that [`super::rules::may_use`] let through. `None` sends it the ordinary way, which
/// handles ranges, stale objects, fills in flight and everything else.
pub fn try_hit(store: &TieredStore, req: &RequestHeader, key: &Key, now: SystemTime) -> Option<Hit> {
    let headers = &req.headers;
    if headers.contains_key(header::RANGE) || headers.contains_key(header::IF_RANGE) {
        return None;
    }
    let object = store.peek_fresh(key, headers, now)?;
    if !accepts(headers, &object, now) {
        return None;
    }
    let not_modified = object.not_modified(headers);
    Some(Hit { object, not_modified })
}

/// Whether the request's own directives let a fresh object be used.
fn accepts(headers: &HeaderMap, object: &Object, now: SystemTime) -> bool {
    let asks = Asks::of(headers);
    if asks.is_plain() {
        return true;
    }
    let head = object.head();
    let stored = Stored {
        age: now.duration_since(head.epoch).unwrap_or_default(),
        fresh_for: head.fresh_until.duration_since(now).unwrap_or_default(),
        stale_for: Duration::ZERO,
        may_be_stale: false,
    };
    judge_hit(&asks, &stored) == HitVerdict::Fresh
}
