//! The judgement over a survey: everything in a script that cannot work is found before it goes live, all at once.

use super::Names;
use super::fault::{PolicyFault, suggest};
use super::hook::Hook;
use super::host::pattern::Table;
use super::host::{Entry, Form, HOST, Literal, REFUSED, callable, members};
use super::load::fault;
use super::survey::{Call, Function, Survey};
use crate::base::units::Dur;
use rhai::{Dynamic, Engine, Position};
use std::collections::BTreeSet;

/// Keywords of Rhai that look like functions.
const KEYWORDS: [&str; 6] = ["call", "curry", "type_of", "is_shared", "is_def_var", "is_def_fn"];

/// What the check found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<PolicyFault>,
    pub(super) patterns: Table,
}

struct Check<'a> {
    script: &'a str,
    survey: &'a Survey,
    names: &'a Names,
    /// Native functions, Rhai's and ours, with their number of arguments (receiver included).
    native: BTreeSet<(String, usize)>,
    found: Findings,
}

/// Checks a script.
pub(super) fn check(script: &str, survey: &Survey, engine: &Engine, names: &Names) -> Findings {
    let native = engine.collect_fn_metadata(None, |f| Some((f.metadata.name.to_string(), f.metadata.num_params)), true);
    let native = native.into_iter().filter(|(name, _)| !name.contains('$')).collect();
    let mut check = Check { script, survey, names, native, found: Findings::default() };
    if survey.hooks().is_empty() && !survey.functions.iter().any(|f| f.name.starts_with("on_")) {
        // An editor that empties a file before it writes must not switch the policy off.
        let hooks = super::hook::Hooks::ALL.list();
        check.fault(Position::NONE, format!("no hook is defined ({hooks})"));
    }
    for f in &survey.functions {
        check.definition(f);
        check.variables(f);
        check.properties(f);
        check.dropped(f);
        for call in &f.calls {
            check.call(call);
        }
    }
    for f in &survey.functions {
        if let Some(hook) = f.hook() {
            check.verbs(f, hook);
        }
    }
    check.found
}

impl Check<'_> {
    fn fault(&mut self, at: Position, message: String) {
        self.found.faults.push(fault(self.script, at, message));
    }

    fn fault_in(&mut self, f: &Function, message: String) {
        let script = self.script.to_owned();
        self.found.faults.push(PolicyFault { script, line: f.line, column: f.column, message });
    }

    /// Hooks have known names and parameters; built-in names stay ours.
    fn definition(&mut self, f: &Function) {
        if let Some(hook) = f.hook() {
            let params = hook.params();
            if f.params.len() != params.len() {
                let (name, given) = (hook.as_str(), f.params.len());
                self.fault_in(f, format!("{name} takes ({}); {given} given", params.join(", ")));
            }
        } else if f.name.starts_with("on_") {
            let hint = suggest(&f.name, Hook::ALL.map(Hook::as_str));
            self.fault_in(f, format!("unknown hook {:?}; names that start with on_ are hooks{hint}", f.name));
        }
        if callable(&f.name).next().is_some() {
            self.fault_in(f, format!("{} is built in and cannot be defined again", f.name));
        }
    }

    /// Unknown variables, and names that would hide a constant: constants are folded in by name.
    fn variables(&mut self, f: &Function) {
        let survey = self.survey;
        for (name, at) in &f.unknown {
            if !f.params.contains(name) && !survey.constants.contains(name) {
                let known = f.params.iter().chain(&survey.constants).chain(f.locals.iter().map(|l| &l.0));
                let hint = suggest(name, known.map(String::as_str));
                self.fault(*at, format!("unknown variable {name:?}{hint}"));
            }
        }
        for at in &f.qualified {
            self.fault(*at, "a policy has no modules".to_owned());
        }
        let captured = survey.functions.iter().flat_map(|o| &o.closures).filter(|(name, _)| *name == f.name);
        let captured = captured.map(|(_, n)| *n).max().unwrap_or(0);
        for name in f.params.iter().skip(captured).filter(|p| survey.constants.contains(*p)) {
            self.fault_in(f, format!("parameter {name:?} has the name of a constant; choose another"));
        }
        for (name, at) in f.locals.iter().filter(|(name, _)| survey.constants.contains(name)) {
            self.fault(*at, format!("variable {name:?} has the name of a constant; choose another"));
        }
    }

    /// Properties of the facts, as far as the tree shows what they are properties of.
    fn properties(&mut self, f: &Function) {
        let Some(hook) = f.hook() else { return };
        for chain in &f.chains {
            if f.locals.iter().any(|(name, _)| *name == chain.root) {
                continue;
            }
            let at = f.params.iter().position(|p| *p == chain.root);
            let Some(mut on) = at.and_then(|n| hook.params().get(n)).copied() else { continue };
            for (name, at) in &chain.properties {
                let Some(entry) = members(on).find(|e| e.name == name && e.form == Form::Property) else {
                    let hint = suggest(name, members(on).map(|e| e.name));
                    let call = members(on).any(|e| e.name == name);
                    let hint = if call { "; it takes arguments in parentheses".to_owned() } else { hint };
                    self.fault(*at, format!("{on} has no property {name:?}{hint}"));
                    break;
                };
                if members(entry.gives).next().is_none() {
                    break;
                }
                on = entry.gives;
            }
        }
    }

    /// A decision that is neither returned nor kept decides nothing: most likely a `return` is missing.
    fn dropped(&mut self, f: &Function) {
        for (name, at) in &f.dropped {
            if callable(name).any(|e| e.gives == "decision" && e.on.is_empty()) {
                self.fault(*at, format!("the decision of {name} is thrown away; write `return {name}(…)`"));
            }
        }
    }

    fn call(&mut self, call: &Call) {
        let name = call.name.as_str();
        let total = call.args.len() + usize::from(call.method);
        let defined = |f: &&Function| f.name == name;
        if KEYWORDS.contains(&name)
            || self.survey.functions.iter().filter(defined).any(|f| f.params.len() == call.args.len())
        {
            return;
        }
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return self.fault(call.at, format!("{name} is not available: {why}"));
        }
        let arity = |e: &&Entry| e.args.len() + usize::from(!e.on.is_empty()) == total;
        if let Some(entry) = callable(name).find(arity) {
            return self.literal(call, entry);
        }
        if self.native.contains(&(name.to_owned(), total)) {
            return;
        }
        let given = match call.args.len() {
            1 => "1 argument".to_owned(),
            n => format!("{n} arguments"),
        };
        let own: Vec<String> = callable(name).map(Entry::signature).collect();
        let others = self.survey.functions.iter().filter(defined).map(|f| format!("{name}({})", f.params.join(", ")));
        let known: Vec<String> = own.into_iter().chain(others).collect();
        if !known.is_empty() {
            return self.fault(call.at, format!("{name} is written {}, not with {given}", known.join(" or ")));
        }
        if self.native.iter().any(|(n, _)| n == name) {
            return self.fault(call.at, format!("{name} cannot be called with {given}"));
        }
        let functions = self.survey.functions.iter().map(|f| f.name.as_str());
        let own = HOST.iter().filter(|e| e.form != Form::Property).map(|e| e.name);
        let hint = suggest(name, functions.chain(own).chain(self.native.iter().map(|(n, _)| n.as_str())));
        self.fault(call.at, format!("unknown function {name:?}{hint}"));
    }

    /// The argument that the table wants checked, wherever it stands in this way of writing the call.
    fn literal(&mut self, call: &Call, entry: &Entry) {
        let Some((index, kind)) = entry.literal else { return };
        let index = match (entry.on.is_empty(), call.method) {
            (true, true) => index.checked_sub(1),
            (false, false) => index.checked_add(1),
            _ => Some(index),
        };
        let (value, at) = match index.and_then(|i| call.args.get(i)) {
            Some((value, at)) => (value.clone(), *at),
            None => (None, call.at),
        };
        let at = if at.is_none() { call.at } else { at };
        match value {
            Some(value) => {
                if let Err(message) = self.value(&value, kind, entry) {
                    self.fault(at, message);
                }
            }
            None if matches!(kind, Literal::Regex | Literal::Glob | Literal::Network) => {
                let why = "must be a literal or a constant, because it is compiled when the script is loaded";
                self.fault(at, format!("the pattern of {} {why}", entry.name));
            }
            None => {}
        }
    }

    fn value(&mut self, value: &Dynamic, kind: Literal, entry: &Entry) -> Result<(), String> {
        let wrong_type = || format!("{} does not take {value:?} here", entry.name);
        if let Literal::Status(low, high) = kind {
            let status = value.as_int().map_err(|_| wrong_type())?;
            let within = (i64::from(low)..=i64::from(high)).contains(&status);
            return within
                .then_some(())
                .ok_or_else(|| format!("{}: status {status} is not within {low} to {high}", entry.name));
        }
        let text = value.clone().into_immutable_string().map_err(|_| wrong_type())?;
        let names = self.names;
        let no_ai = names.tiers.is_empty() && names.models.is_empty();
        match kind {
            Literal::Tier if !no_ai => known(&text, "tier", &names.tiers),
            Literal::Model if !no_ai => known(&text, "model", &names.models),
            Literal::Guard if !no_ai => known(&text, "guard", &names.guards),
            Literal::Upstream => known(&text, "upstream", &names.upstreams),
            Literal::Auth => known(&text, "auth rule", &names.auth),
            Literal::Time => text.parse::<Dur>().map(|_| ()).map_err(|e| e.to_string()),
            Literal::Regex | Literal::Glob | Literal::Network => self.found.patterns.add(kind, &text),
            Literal::Tier | Literal::Model | Literal::Guard | Literal::Status(..) => Ok(()),
        }
    }

    /// Follows the calls from a hook and refuses every verb on the way that the hook does not have.
    fn verbs(&mut self, from: &Function, hook: Hook) {
        let survey = self.survey;
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(f) = queue.pop() {
            if !seen.insert(&f.name) {
                continue;
            }
            for call in &f.calls {
                let verb = callable(&call.name).find(|e| e.gives == "decision");
                let total = call.args.len() + usize::from(call.method);
                let Some(verb) = verb.filter(|e| !e.hooks.has(hook) && native_arity(e, total)) else { continue };
                let through = if f.name == from.name { String::new() } else { format!(", through {}", shown(f)) };
                let only = verb.hooks.list();
                let message = format!("{} cannot be used in {}{through} (only in {only})", verb.name, hook.as_str());
                self.fault(call.at, message);
            }
            let called = f.calls.iter().map(|c| c.name.as_str()).chain(f.closures.iter().map(|c| c.0.as_str()));
            queue.extend(called.flat_map(|name| survey.functions.iter().filter(move |o| o.name == name)));
        }
    }
}

fn native_arity(entry: &Entry, total: usize) -> bool {
    callable(entry.name).any(|e| e.gives == "decision" && e.args.len() + usize::from(!e.on.is_empty()) == total)
}

fn shown(f: &Function) -> &str {
    if f.is_closure() { "a closure" } else { &f.name }
}

fn known(text: &str, what: &str, names: &BTreeSet<String>) -> Result<(), String> {
    if names.contains(text) {
        return Ok(());
    }
    let hint = suggest(text, names.iter().map(String::as_str));
    let list: Vec<_> = names.iter().take(10).map(String::as_str).collect();
    let hint = match (hint.is_empty(), list.is_empty()) {
        (false, _) => hint,
        (true, true) => "; none is configured".to_owned(),
        (true, false) => format!("; there are {}", list.join(", ")),
    };
    Err(format!("no {what} {text:?}{hint}"))
}
