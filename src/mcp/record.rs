//! What became of one request to a server: the reply is made before a stream has ended, so whoever logs holds this.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tool calls of one request that are told apart.
const CALLS_MAX: usize = 64;

/// One tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool, as metrics call it: `other` for what the server never listed.
    pub tool: String,
    /// `ok`, `tool_error`, `error`, `refused`, `rate_limited`, `cached`, `unreachable`, or `unfinished` when the
    /// stream ended, or the client left, before its answer.
    pub result: &'static str,
}

/// The facts of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The server.
    pub server: String,
    /// The method of the request's first message; empty where it has none.
    pub method: String,
    /// Its tool calls.
    pub calls: Vec<ToolCall>,
}

/// The record.
#[derive(Debug, Default)]
pub struct Record(Mutex<Asked>);

impl Record {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts as they stand now.
    pub fn read(&self) -> Asked {
        self.asked().clone()
    }

    pub(super) fn about(&self, server: &str, method: &str) {
        let mut asked = self.asked();
        server.clone_into(&mut asked.server);
        asked.method = method.chars().take(64).collect();
    }

    /// A call that has begun or come to nothing; its number, where it is told apart.
    pub(super) fn call(&self, tool: String, result: &'static str) -> Option<usize> {
        let mut asked = self.asked();
        let number = asked.calls.len();
        (number < CALLS_MAX).then(|| {
            asked.calls.push(ToolCall { tool, result });
            number
        })
    }

    pub(super) fn result(&self, number: Option<usize>, result: &'static str) {
        let mut asked = self.asked();
        if let Some(call) = number.and_then(|n| asked.calls.get_mut(n)) {
            call.result = result;
        }
    }
}
