//! From a script's text to a `Policy`: compile, compute constants, check, compile patterns, fold.

use super::check;
use super::engine::{Limits, SOURCE_BYTES_MAX, Sandbox, line_column};
use super::fault::{PolicyFault, describe};
use super::host::guard;
use super::host::pattern::Patterns;
use super::survey::Survey;
use super::{Names, Policy};
use crate::base::clock::Clock;
use rhai::{AST, ASTFlags, EvalAltResult, Module, OptimizationLevel, Position, Scope, Stmt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Loads a script. The compiler is not ours, so a panic in it is a fault of the script, not the end of the process.
pub(super) fn load(source: &str, name: &str, names: &Names, how: (Limits, &Clock)) -> Result<Policy, Vec<PolicyFault>> {
    catch_unwind(AssertUnwindSafe(|| compile(source, name, names, how)))
        .unwrap_or_else(|_| Err(vec![fault(name, Position::NONE, "the compiler failed on this script".to_owned())]))
}

fn compile(source: &str, name: &str, names: &Names, how: (Limits, &Clock)) -> Result<Policy, Vec<PolicyFault>> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the script has {} bytes; at most {SOURCE_BYTES_MAX} are read", source.len());
        return Err(vec![fault(name, Position::NONE, message)]);
    }
    let patterns = Arc::new(Patterns::default());
    let mut sandbox = Sandbox::new(how.0, how.1, &patterns);
    // Checked as written: the optimiser would drop dead branches, and with them their faults.
    sandbox.engine.set_optimization_level(OptimizationLevel::None);
    let ast = sandbox
        .engine
        .compile(source)
        .map_err(|e| vec![fault(name, e.position(), lower_first(&e.err_type().to_string()))])?;
    let mut faults = top_level(name, &ast);
    let scope = if faults.is_empty() { constants(name, &sandbox, &ast, &mut faults) } else { Scope::new() };
    let survey = Survey::of(source, &ast, &scope);
    let mut findings = check::check(name, &survey, &sandbox.engine, names);
    faults.extend(findings.faults);
    if !faults.is_empty() {
        faults.sort();
        faults.dedup();
        return Err(faults);
    }
    let mut calls = survey.functions.iter().flat_map(|f| &f.calls);
    if calls.any(|call| guard::NAMES.contains(&call.name.as_str())) {
        let eyes = guard::Eyes::open().map_err(|e| vec![fault(name, Position::NONE, e.to_string())])?;
        findings.patterns.open(eyes);
    }
    patterns.fill(findings.patterns);
    // Functions do not see the top level. As variables of a global module the constants are visible in them; folding
    // makes most of them free at run time (all but receivers of a method call).
    let mut constants = Module::new();
    for (name, _, value) in scope.iter() {
        constants.set_var(name, value);
    }
    sandbox.engine.register_global_module(constants.into());
    let ast = sandbox.engine.optimize_ast(&scope, ast, OptimizationLevel::Simple).clone_functions_only();
    let places = survey.functions.iter().filter_map(|f| Some((f.hook()?, format!("{name}:{}:{}", f.line, f.column))));
    let places = places.collect();
    Ok(Policy { name: name.to_owned(), hooks: survey.hooks(), places, sandbox, ast })
}

/// Only constants and functions may stand at the top level: other statements would never run.
fn top_level(name: &str, ast: &AST) -> Vec<PolicyFault> {
    let stray = ast.statements().iter().filter(|s| match s {
        Stmt::Var(_, flags, _) => !flags.contains(ASTFlags::CONSTANT),
        Stmt::Noop(_) => false,
        _ => true,
    });
    let message = "only `const` and `fn` can stand at the top level; this would never run during a request";
    stray.map(|s| fault(name, s.position(), message.to_owned())).collect()
}

fn constants(name: &str, sandbox: &Sandbox, ast: &AST, faults: &mut Vec<PolicyFault>) -> Scope<'static> {
    sandbox.constants(ast).unwrap_or_else(|e: Box<EvalAltResult>| {
        faults.push(fault(name, e.position(), format!("this constant cannot be computed: {}", describe(&e))));
        Scope::new()
    })
}

/// A fault at a place.
pub(super) fn fault(script: &str, at: Position, message: String) -> PolicyFault {
    let (line, column) = line_column(at);
    PolicyFault { script: script.to_owned(), line, column, message }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}
