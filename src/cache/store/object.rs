//! A whole stored object: what a hit serves from.

use super::super::purge::Checked;
use super::super::{conditional, wire};
use super::rendition::{Headers, Rendition, Renditions};
use super::{CHUNK_BYTES, Head};
use crate::base::coding::Coding;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// An immutable object. A refresh makes a new one that shares the body.
#[derive(Debug)]
pub struct Object {
    head: Arc<Head>,
    key: Arc<[u8]>,
    chunks: Arc<[Bytes]>,
    body_bytes: u64,
    cost: u64,
    life: Arc<Life>,
    void: AtomicBool,
    checked: Checked,
    renditions: Arc<Renditions>,
    coded_headers: Headers,
    /// The header as HTTP/1.1 sends it, made by the first hit that needs it.
    block: OnceLock<Bytes>,
}

/// What a refreshed object goes on with.
#[derive(Debug, Default)]
struct Life {
    touches: AtomicU8,
    hit: AtomicBool,
    offered: AtomicBool,
}

/// How often an object must be asked for to survive that many rounds of eviction; more is not counted.
const TOUCHES_MAX: u8 = 3;

/// Slots, queue node and the structs themselves, in bytes.
const OBJECT_OVERHEAD_BYTES: u64 = 1024;

/// One reference-counted piece, in bytes.
const CHUNK_OVERHEAD_BYTES: u64 = 96;

impl Object {
    /// A new object that purges let in; `chunks` are full pieces but for the last.
    pub(super) fn new(mut head: Head, key: Arc<[u8]>, chunks: Vec<Bytes>, checked: Checked) -> Self {
        let body_bytes = chunks.iter().map(|c| c.len() as u64).sum();
        head.state_length(body_bytes);
        let cost = Object::cost_of(&head, &key, body_bytes);
        Object {
            head: Arc::new(head),
            key,
            chunks: chunks.into(),
            body_bytes,
            cost,
            life: Arc::default(),
            void: AtomicBool::new(false),
            checked,
            renditions: Arc::default(),
            coded_headers: Headers::default(),
            block: OnceLock::new(),
        }
    }

    /// The same body under a newer header.
    pub(super) fn refreshed(&self, mut head: Head, checked: Checked) -> Self {
        head.state_length(self.body_bytes);
        self.with_head(Arc::new(head), checked)
    }

    /// The same object with the cost of the coded forms that it has by now.
    pub(super) fn weighed(&self) -> Self {
        self.with_head(Arc::clone(&self.head), self.checked.clone())
    }

    fn with_head(&self, head: Arc<Head>, checked: Checked) -> Self {
        Object {
            cost: Object::cost_of(&head, &self.key, self.body_bytes) + self.renditions.cost(&head),
            head,
            key: Arc::clone(&self.key),
            chunks: Arc::clone(&self.chunks),
            body_bytes: self.body_bytes,
            life: Arc::clone(&self.life),
            void: AtomicBool::new(false),
            checked,
            renditions: Arc::clone(&self.renditions),
            coded_headers: Headers::default(),
            block: OnceLock::new(),
        }
    }

    /// Whether `other` is this object, perhaps under another header.
    pub(super) fn same_body(&self, other: &Object) -> bool {
        Arc::ptr_eq(&self.renditions, &other.renditions)
    }

    /// Its coded forms, shared by all that have this body.
    pub fn renditions(&self) -> &Arc<Renditions> {
        &self.renditions
    }

    /// Its body in this coding, once it has been made.
    pub fn rendition(&self, coding: Coding) -> Option<&Arc<Rendition>> {
        self.renditions.get(coding).flatten()
    }

    /// The header of a 200 (or whatever was stored) in this coding, with its `Age`. `code` makes the coded header of the
    /// plain one; it is called once for each object and coding, so that a hit changes nothing but the age.
    pub fn coded_response(
        &self,
        coding: Coding,
        now: SystemTime,
        code: impl FnOnce(&mut ResponseHeader),
    ) -> ResponseHeader {
        let mut header = self.coded_headers.get_or_make(coding, || {
            let mut header = self.head.header.clone();
            code(&mut header);
            header
        });
        // A number is always a valid field value.
        let _ = header.insert_header(header::AGE, HeaderValue::from(self.age_secs(now)));
        header
    }

    /// Bytes of memory an object takes.
    pub(super) fn cost_of(head: &Head, key: &[u8], body_bytes: u64) -> u64 {
        let pieces = body_bytes.div_ceil(CHUNK_BYTES as u64);
        OBJECT_OVERHEAD_BYTES + head.cost() + key.len() as u64 + pieces * CHUNK_OVERHEAD_BYTES + body_bytes
    }

    /// Whether it may be served, fresh or stale, or validated, to one who asks later than it was stored.
    pub(super) fn is_of_use_later(&self) -> bool {
        let head = &self.head;
        let has_validator = head.validators.etag.is_some() || head.header.headers.contains_key(header::LAST_MODIFIED);
        let stale_secs = head.swr_secs.max(head.sie_secs).max(head.unreachable_secs);
        head.fresh_until > head.created || stale_secs > 0 || has_validator
    }

    /// Header and times.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// What purges have left of it so far.
    pub(super) fn checked(&self) -> &Checked {
        &self.checked
    }

    /// The full key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The body, in pieces of [`CHUNK_BYTES`] but for the last.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The body's length.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// What it counts for in the store's bound, in bytes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Age in whole seconds (RFC 9111 §4.2.3).
    pub fn age_secs(&self, now: SystemTime) -> u64 {
        now.duration_since(self.head.epoch).unwrap_or_default().as_secs()
    }

    /// Freshness left in whole seconds, for `Cache-Status`.
    pub fn ttl_secs(&self, now: SystemTime) -> i64 {
        let left = self.head.fresh_until.duration_since(now).unwrap_or_default().as_secs();
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Whether the client's copy is still good: 304 instead of the body.
    pub fn not_modified(&self, request: &HeaderMap) -> bool {
        self.head.header.status == StatusCode::OK && conditional::not_modified(request, &self.head.validators)
    }

    /// The header of a 200 (or whatever was stored) with its `Age`.
    pub fn response(&self, now: SystemTime) -> ResponseHeader {
        let mut header = self.head.header.clone();
        // A number is always a valid field value.
        let _ = header.insert_header(header::AGE, HeaderValue::from(self.age_secs(now)));
        header
    }

    /// Status line and stored fields as HTTP/1.1 sends them, but for what differs from hit to hit.
    pub fn block(&self) -> &[u8] {
        self.block.get_or_init(|| {
            let mut header = self.head.header.clone();
            // Each answer has its own.
            header.remove_header("x-request-id");
            wire::block(&header, self.head.created).freeze()
        })
    }

    /// The header of a 304: the fields of the 200 but those that describe the body it does not have (RFC 9110 §15.4.5).
    pub fn response_304(&self, now: SystemTime) -> ResponseHeader {
        let mut header = self.response(now);
        // 304 is a valid status.
        let _ = header.set_status(StatusCode::NOT_MODIFIED);
        for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_RANGE] {
            header.remove_header(&name);
        }
        header
    }

    /// Counts an access. Racing threads may count two as one, which eviction does not mind.
    pub(super) fn touch(&self) {
        let n = self.life.touches.load(Ordering::Relaxed);
        if n < TOUCHES_MAX {
            self.life.touches.store(n + 1, Ordering::Relaxed);
            self.life.hit.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was ever asked for again.
    pub(super) fn was_hit(&self) -> bool {
        self.life.hit.load(Ordering::Relaxed)
    }

    /// Notes that the level below has it or was given it.
    pub(super) fn offered(&self) {
        self.life.offered.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub(super) fn is_offered(&self) -> bool {
        self.life.offered.load(Ordering::Relaxed)
    }

    /// It was replaced or purged: the level below must not keep it.
    pub(super) fn set_void(&self) {
        self.void.store(true, Ordering::SeqCst);
    }

    /// Whether that is so.
    pub(super) fn is_void(&self) -> bool {
        self.void.load(Ordering::SeqCst)
    }

    /// Takes one access back; `false` when there was none.
    pub(super) fn untouch(&self) -> bool {
        let n = self.life.touches.load(Ordering::Relaxed);
        self.life.touches.store(n.saturating_sub(1), Ordering::Relaxed);
        n > 0
    }
}
