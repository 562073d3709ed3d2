//! The hook call under way on this thread: its deadline and its hook, for the callbacks that Rhai gives no context.

use super::hook::Hook;
use crate::base::clock;
use std::cell::Cell;
use std::time::Duration;

/// Hooks are synchronous and never wait, so one thread has at most one call under way. This is the only thread-local
/// of the module: Rhai's progress callback gets nothing but a counter, and an engine is shared by all threads.
#[derive(Clone, Copy)]
struct Call {
    hook: Option<Hook>,
    deadline: Duration,
    /// How long it may take; granted once more, in CPU time, when the deadline has passed.
    allowance: Duration,
    /// The thread's CPU time at which it is late for good.
    cpu_until: Option<Duration>,
}

thread_local! {
    static CURRENT: Cell<Option<Call>> = const { Cell::new(None) };
}

/// Marks a call as under way until dropped, a panic included.
pub(super) struct Guard {
    before: Option<Call>,
}

impl Guard {
    /// Enters a call of `hook` (`None`: the script's constants) that may last for `allowance` from `now`, the clock's
    /// `elapsed`.
    pub(super) fn enter(hook: Option<Hook>, now: Duration, allowance: Duration) -> Guard {
        let call = Call { hook, deadline: now + allowance, allowance, cpu_until: None };
        Guard { before: CURRENT.replace(Some(call)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The hook under way; `None` outside hooks.
pub(super) fn hook() -> Option<Hook> {
    CURRENT.get().and_then(|c| c.hook)
}

/// Has the call under way had its time? `now` is the clock's `elapsed`.
///
/// A busy machine takes a thread off its core for longer than a hook may last, which is no fault of the script. So a call
/// past its deadline gets its allowance once more in the thread's own CPU time, which costs a system call to read and is
/// therefore not asked before.
pub(super) fn is_late(now: Duration) -> bool {
    let Some(mut call) = CURRENT.get().filter(|c| now > c.deadline) else { return false };
    let spent = clock::thread_cpu();
    let until = *call.cpu_until.get_or_insert(spent + call.allowance);
    CURRENT.set(Some(call));
    spent > until
}
