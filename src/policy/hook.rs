//! The five hooks of a policy script, and sets of them.

/// A moment in the life of a request at which the script may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// After routing, limits and auth; before any cache.
    OnRequest,
    /// AI routes only: one model call, before its caches.
    OnPrompt,
    /// The origin's answer in the form that is stored.
    OnOriginResponse,
    /// The answer in the form that is sent, cache hits included.
    OnResponse,
    /// After the answer, before the access log line.
    OnLog,
}

impl Hook {
    /// Every hook, in travelling order.
    pub const ALL: [Hook; 5] = [Hook::OnRequest, Hook::OnPrompt, Hook::OnOriginResponse, Hook::OnResponse, Hook::OnLog];

    /// The function's name in the script; also the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::OnRequest => "on_request",
            Hook::OnPrompt => "on_prompt",
            Hook::OnOriginResponse => "on_origin_response",
            Hook::OnResponse => "on_response",
            Hook::OnLog => "on_log",
        }
    }

    /// The types of its parameters, by the names the reference uses.
    pub fn params(self) -> &'static [&'static str] {
        match self {
            Hook::OnRequest => &["req"],
            Hook::OnPrompt => &["req", "prompt"],
            Hook::OnOriginResponse | Hook::OnResponse => &["req", "resp"],
            Hook::OnLog => &["req", "resp", "entry"],
        }
    }

    /// The hook of that name.
    pub fn named(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|h| h.as_str() == name)
    }
}

/// A set of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hooks(u8);

impl Hooks {
    /// No hook.
    pub const NONE: Hooks = Hooks(0);
    /// Every hook.
    pub const ALL: Hooks = Hooks(0b1_1111);

    /// The set of exactly these hooks.
    pub const fn of(hooks: &[Hook]) -> Hooks {
        let (mut bits, mut rest) = (0u8, hooks);
        while let [first, tail @ ..] = rest {
            bits |= 1 << (*first as u8);
            rest = tail;
        }
        Hooks(bits)
    }

    /// Is it in the set?
    pub fn has(self, hook: Hook) -> bool {
        self.0 & (1 << (hook as u8)) != 0
    }

    /// This set and one more hook.
    pub fn with(self, hook: Hook) -> Hooks {
        Hooks(self.0 | (1 << (hook as u8)))
    }

    /// Is the set empty?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, for people: `on_request, on_prompt`.
    pub fn list(self) -> String {
        let names: Vec<_> = Hook::ALL.into_iter().filter(|h| self.has(*h)).map(Hook::as_str).collect();
        names.join(", ")
    }
}
