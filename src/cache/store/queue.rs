//! S3-FIFO: a small queue that most objects pass through once, a main queue for those asked for again, and a memory of
//! what was lately thrown out (Yang et al., SOSP 2023). A scan of objects that nobody asks for twice never reaches the
//! main queue, and a hit only raises a counter.

use super::object::Object;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Names a queued object until it is removed.
pub type NodeId = usize;

/// An object in a queue.
#[derive(Debug)]
pub struct Node {
    /// The group it lives in.
    pub group: u64,
    /// The object.
    pub object: Arc<Object>,
    prev: Option<NodeId>,
    next: Option<NodeId>,
    in_main: bool,
}

#[derive(Debug, Default)]
struct List {
    head: Option<NodeId>,
    tail: Option<NodeId>,
    bytes: u64,
    len: usize,
}

/// Both queues of one shard. Every operation is O(1), eviction amortised.
#[derive(Debug, Default)]
pub struct Queues {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    small: List,
    main: List,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64>,
}

/// The small queue's share of the bytes: one in ten.
const SMALL_SHARE: u64 = 10;

impl Queues {
    /// How many objects are queued.
    pub fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    /// At most `max` places from `from` on: their objects with their groups, and where to go on.
    pub fn part(&self, from: usize, max: usize) -> (Vec<(u64, Arc<Object>)>, Option<usize>) {
        let end = from.saturating_add(max).min(self.nodes.len());
        let places = self.nodes.get(from..end).unwrap_or_default();
        let objects = places.iter().flatten().map(|n| (n.group, Arc::clone(&n.object))).collect();
        (objects, (end < self.nodes.len()).then_some(end))
    }

    /// Queues an object; `ghost` is a number by which it is recognised should it come back soon after eviction.
    pub fn insert(&mut self, group: u64, object: Arc<Object>, ghost: u64) -> NodeId {
        let in_main = self.ghost_set.remove(&ghost);
        let node = Node { group, object, prev: None, next: None, in_main };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.nodes.push(None);
                self.nodes.len() - 1
            }
        };
        if let Some(place) = self.nodes.get_mut(id) {
            *place = Some(node);
        }
        self.link(id, in_main);
        id
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: NodeId) -> Option<Node> {
        self.unlink(id);
        let node = self.nodes.get_mut(id)?.take()?;
        self.free.push(id);
        Some(node)
    }

    /// Puts a refreshed object in the place of the old one.
    pub fn replace(&mut self, id: NodeId, object: Arc<Object>) {
        let Some(node) = self.node_mut(id) else { return };
        let (old, in_main) = (node.object.cost(), node.in_main);
        let new = object.cost();
        node.object = object;
        let list = self.list_mut(in_main);
        list.bytes = (list.bytes + new).saturating_sub(old);
    }

    /// Chooses what to throw out next and leaves it in place; the caller removes it.
    pub fn victim(&mut self) -> Option<NodeId> {
        // Each round lowers a counter or moves an object up; counters end at 3, but hits raise them meanwhile.
        for _ in 0..self.len() * 4 + 4 {
            let from_small = self.small.head.filter(|_| self.small_is_over() || self.main.head.is_none());
            let id = from_small.or(self.main.head)?;
            if !self.node(id)?.object.untouch() {
                return Some(id);
            }
            self.unlink(id);
            self.link(id, true);
        }
        self.main.head.or(self.small.head)
    }

    /// Remembers an evicted object that was never asked for again.
    pub fn remember(&mut self, ghost: u64) {
        if self.ghost_set.insert(ghost) {
            self.ghosts.push_back(ghost);
        }
        // As many as there are objects, within reason; 16 bytes each are not worth counting.
        while self.ghosts.len() > self.len().clamp(64, 1 << 16) {
            if let Some(old) = self.ghosts.pop_front() {
                self.ghost_set.remove(&old);
            }
        }
    }

    fn small_is_over(&self) -> bool {
        self.small.bytes * SMALL_SHARE >= self.small.bytes + self.main.bytes
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)?.as_ref()
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id)?.as_mut()
    }

    fn list_mut(&mut self, main: bool) -> &mut List {
        if main { &mut self.main } else { &mut self.small }
    }

    fn link(&mut self, id: NodeId, main: bool) {
        let list = self.list_mut(main);
        let last = list.tail.replace(id);
        list.head = list.head.or(Some(id));
        list.len += 1;
        let Some(node) = self.node_mut(id) else { return };
        (node.prev, node.next, node.in_main) = (last, None, main);
        let cost = node.object.cost();
        self.list_mut(main).bytes += cost;
        if let Some(last) = last.and_then(|l| self.node_mut(l)) {
            last.next = Some(id);
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let (prev, next, main, cost) = (node.prev, node.next, node.in_main, node.object.cost());
        if let Some(p) = prev.and_then(|p| self.node_mut(p)) {
            p.next = next;
        }
        if let Some(n) = next.and_then(|n| self.node_mut(n)) {
            n.prev = prev;
        }
        let list = self.list_mut(main);
        list.head = if list.head == Some(id) { next } else { list.head };
        list.tail = if list.tail == Some(id) { prev } else { list.tail };
        list.bytes = list.bytes.saturating_sub(cost);
        list.len -= 1;
    }
}
