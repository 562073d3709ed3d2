//! The hook call under way on this thread: its deadline and its hook, for the callbacks that Rhai gives no context.

use super::hook::Hook;
use std::cell::Cell;
use std::time::Duration;

/// Hooks are synchronous and never wait, so one thread has at most one call under way. This is the only thread-local
/// of the module: Rhai's progress callback gets nothing but a counter, and an engine is shared by all threads.
#[derive(Clone, Copy)]
struct Call {
    hook: Option<Hook>,
    deadline: Duration,
}

thread_local! {
    static CURRENT: Cell<Option<Call>> = const { Cell::new(None) };
}

/// Marks a call as under way until dropped, a panic included.
pub(super) struct Guard {
    before: Option<Call>,
}

impl Guard {
    /// Enters a call of `hook` (`None`: the script's constants) that may last until `deadline` on the clock's `elapsed`.
    pub(super) fn enter(hook: Option<Hook>, deadline: Duration) -> Guard {
        Guard { before: CURRENT.replace(Some(Call { hook, deadline })) }
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

/// Is the call under way past its deadline? `now` is the clock's `elapsed`.
pub(super) fn is_late(now: Duration) -> bool {
    CURRENT.get().is_some_and(|c| now > c.deadline)
}
