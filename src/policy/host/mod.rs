//! What a script can call and read: one table, checked against at load, enforced at run time, printed as the reference.

mod encode;
pub(super) mod guard;
mod hash;
mod misc;
pub(super) mod pattern;
mod table;
mod text;
pub(super) mod verbs;
pub(super) mod views;

use super::call;
use super::hook::Hooks;
use crate::base::clock::Clock;
use pattern::Patterns;
use rhai::{Engine, EvalAltResult, Position};
use std::sync::Arc;
pub use table::HOST;

/// How an entry is written in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `name(args)`.
    Function,
    /// `receiver.name(args)`.
    Method,
    /// `receiver.name`.
    Property,
}

/// What a literal argument must be; checked when the script is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// The name of a tier.
    Tier,
    /// The name of a model.
    Model,
    /// The name of a set of guards.
    Guard,
    /// The name of an upstream.
    Upstream,
    /// The name of an auth rule.
    Auth,
    /// A length of time such as `10m`.
    Time,
    /// A status code within these bounds.
    Status(u16, u16),
    /// A regular expression; must be a literal, because it is compiled at load.
    Regex,
    /// A glob; must be a literal.
    Glob,
    /// A network such as `10.0.0.0/8`; must be a literal.
    Network,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Heading in the reference.
    pub group: &'static str,
    /// The type before the dot; empty for functions.
    pub on: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How it is written.
    pub form: Form,
    /// Names of the arguments.
    pub args: &'static [&'static str],
    /// The type of the result.
    pub gives: &'static str,
    /// Hooks in which it may be used.
    pub hooks: Hooks,
    /// Which argument (from 0) is checked at load, and as what.
    pub literal: Option<(usize, Literal)>,
    /// What it does.
    pub doc: &'static str,
}

impl Entry {
    /// As written in a script: `req.header(name)`.
    pub fn signature(&self) -> String {
        let dot = if self.on.is_empty() { "" } else { "." };
        let args = if self.form == Form::Property { String::new() } else { format!("({})", self.args.join(", ")) };
        format!("{}{dot}{}{args}", self.on, self.name)
    }
}

/// The rows of that name that are called with parentheses.
pub(super) fn callable(name: &str) -> impl Iterator<Item = &'static Entry> {
    HOST.iter().filter(move |e| e.name == name && e.form != Form::Property)
}

/// The rows of receiver type `on`.
pub(super) fn members(on: &str) -> impl Iterator<Item = &'static Entry> {
    HOST.iter().filter(move |e| e.on == on)
}

/// The hooks in which the verb `name` may be used.
fn hooks_of(name: &str) -> Hooks {
    callable(name).next().map_or(Hooks::NONE, |e| e.hooks)
}

/// Names that other script hosts have and that are refused here, with the reason.
pub(super) const REFUSED: [(&str, &str); 12] = [
    ("sleep", "a hook must not wait"),
    ("timestamp", "use now()"),
    ("eval", "code made at run time cannot be checked"),
    ("import", "a policy is one file"),
    ("Fn", "write a closure instead"),
    ("exit", "use return"),
    ("get_fn_metadata_list", "a policy has no reflection"),
    ("set_tag", "values have no tags here"),
    ("blob", "use strings"),
    ("to_blob", "use strings"),
    ("challenge", "there is no challenge page; use deny(status, message)"),
    ("print_debug", "use log(text)"),
];

/// Registers every row with an engine.
pub(super) fn register(engine: &mut Engine, clock: &Clock, patterns: &Arc<Patterns>) {
    views::register(engine);
    verbs::register(engine);
    hash::register(engine);
    encode::register(engine);
    text::register(engine);
    pattern::register(engine, patterns);
    guard::register(engine, patterns);
    misc::register(engine, clock);
}

/// An error at the place of the call.
pub(super) fn refuse(message: impl Into<String>) -> Box<EvalAltResult> {
    let message: String = message.into();
    Box::new(EvalAltResult::ErrorRuntime(message.into(), Position::NONE))
}

/// Refuses a verb outside its hooks: the run-time half of the closed set.
fn allowed(name: &'static str, hooks: Hooks) -> Result<(), Box<EvalAltResult>> {
    match call::hook() {
        Some(hook) if hooks.has(hook) => Ok(()),
        Some(hook) => Err(refuse(format!("{name} cannot be used in {} (only in {})", hook.as_str(), hooks.list()))),
        None => Err(refuse(format!("{name} can only be used inside a hook ({})", hooks.list()))),
    }
}

/// The reference of everything a script can use, as markdown; README holds a copy and a test compares them.
pub fn reference() -> String {
    let mut out = String::new();
    let mut group = "";
    for e in HOST {
        if e.group != group {
            group = e.group;
            out.push_str(&format!("\n#### {group}\n\n| use | gives | hooks | meaning |\n|---|---|---|---|\n"));
        }
        let hooks = if e.hooks == Hooks::ALL { "all".to_owned() } else { e.hooks.list() };
        out.push_str(&format!("| `{}` | {} | {hooks} | {} |\n", e.signature(), e.gives, e.doc));
    }
    out.trim_start().to_owned()
}

#[cfg(test)]
mod tests;
