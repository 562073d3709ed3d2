//! The sandbox: a Rhai engine that can neither wait, nor grow, nor run on, nor reach anything but the host table.

use super::call::{self, Guard};
use super::fault::{Failure, PolicyError};
use super::hook::Hook;
use super::host;
use super::host::pattern::Patterns;
use crate::base::clock::Clock;
use crate::config::policy::PolicyConfig;
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, LanguageCorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, FuncArgs, Position, Scope};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A script's source. 4 MB took 0.67 s to compile; nobody writes a policy this long by hand.
pub(super) const SOURCE_BYTES_MAX: usize = 256 << 10;
/// One string, and all strings within one array or map together.
pub(super) const STRING_BYTES_MAX: usize = 16 << 10;
/// Items of one array or map, nested ones included.
pub(super) const ITEMS_MAX: usize = 1000;
/// Calls within calls. With the depth of expressions it bounds the native stack (a test fills both).
const CALLS_MAX: usize = 16;
/// Expressions within expressions.
const DEPTH_MAX: usize = 32;
/// Variables alive at once, and functions of one script.
const VARIABLES_MAX: usize = 256;
/// The deadline is looked at every so many operations (a power of two). With the limits above, no single operation
/// takes longer than some tens of microseconds.
const CHECK_EVERY: u64 = 8;
/// The constants are computed at load, off the request path.
const CONSTANTS_TIME_MAX: Duration = Duration::from_millis(100);

/// What one hook call may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of one call.
    pub max_operations: u64,
    /// Time of one call.
    pub max_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_operations: 50_000, max_time: Duration::from_millis(5) }
    }
}

impl From<&PolicyConfig> for Limits {
    fn from(config: &PolicyConfig) -> Self {
        Limits { max_operations: config.max_operations, max_time: config.max_time.0 }
    }
}

/// One script's engine; shared by all threads and never changed after it is built.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) engine: Engine,
    clock: Clock,
    limits: Limits,
}

impl Sandbox {
    /// Builds the engine with every function of the host table.
    pub(super) fn new(limits: Limits, clock: &Clock, patterns: &Arc<Patterns>) -> Self {
        // A raw engine has no strings interner (a lock), no module resolver, and prints nowhere.
        let mut engine = Engine::new_raw();
        // All of Rhai's standard packages but blobs, bit fields and time.
        for package in [
            LanguageCorePackage::new().as_shared_module(),
            ArithmeticPackage::new().as_shared_module(),
            BasicStringPackage::new().as_shared_module(),
            BasicIteratorPackage::new().as_shared_module(),
            BasicFnPackage::new().as_shared_module(),
            LogicPackage::new().as_shared_module(),
            BasicMathPackage::new().as_shared_module(),
            BasicArrayPackage::new().as_shared_module(),
            BasicMapPackage::new().as_shared_module(),
            MoreStringPackage::new().as_shared_module(),
        ] {
            engine.register_global_module(package);
        }
        for symbol in ["eval", "import", "export", "Fn"] {
            engine.disable_symbol(symbol);
        }
        bound(&mut engine, limits, clock);
        host::register(&mut engine, clock, patterns);
        Sandbox { engine, clock: clock.clone(), limits }
    }

    /// Runs the top level once, to have the values of its constants.
    pub(super) fn constants(&self, ast: &AST) -> Result<Scope<'static>, Box<EvalAltResult>> {
        let mut scope = Scope::new();
        let _guard = Guard::enter(None, self.clock.elapsed(), CONSTANTS_TIME_MAX);
        contained(|| self.engine.run_ast_with_scope(&mut scope, ast))?;
        Ok(scope)
    }

    /// Calls one hook with a fresh scope, under its own deadline.
    pub(super) fn call(
        &self,
        script: &str,
        ast: &AST,
        hook: Hook,
        args: impl FuncArgs,
    ) -> Result<Dynamic, PolicyError> {
        let _guard = Guard::enter(Some(hook), self.clock.elapsed(), self.limits.max_time);
        // The constants are folded into the functions; there is no top level left to run.
        let options = CallFnOptions::new().eval_ast(false).rewind_scope(false);
        let mut scope = Scope::new();
        contained(|| self.engine.call_fn_with_options::<Dynamic>(options, &mut scope, ast, hook.as_str(), args))
            .map_err(|e| {
                let mut error = PolicyError::from_rhai(script, hook, &e);
                if matches!(&*e, EvalAltResult::ErrorSystem(what, _) if what == PANICKED) {
                    error.failure = Failure::HostPanic;
                }
                error
            })
    }
}

const PANICKED: &str = "a host function panicked";

/// A panic in a host function (ours or Rhai's) becomes an error of this one call.
fn contained<T>(run: impl FnOnce() -> Result<T, Box<EvalAltResult>>) -> Result<T, Box<EvalAltResult>> {
    // Unwind safe: the engine and the script are immutable, and the scope of the call is thrown away.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let cause = std::io::Error::other("please report it with the script");
        Err(Box::new(EvalAltResult::ErrorSystem(PANICKED.to_owned(), cause.into())))
    })
}

fn bound(engine: &mut Engine, limits: Limits, clock: &Clock) {
    engine
        // To Rhai, 0 means "no limit".
        .set_max_operations(limits.max_operations.max(1))
        .set_max_call_levels(CALLS_MAX)
        .set_max_expr_depths(DEPTH_MAX, DEPTH_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_functions(VARIABLES_MAX)
        .set_max_modules(0)
        .set_max_string_size(STRING_BYTES_MAX)
        .set_max_array_size(ITEMS_MAX)
        .set_max_map_size(ITEMS_MAX);
    let clock = clock.clone();
    engine.on_progress(move |operations| {
        let late = operations % CHECK_EVERY == 0 && call::is_late(clock.elapsed());
        late.then_some(Dynamic::UNIT)
    });
}

/// The position that Rhai gives, as line and column; 0 for what is unknown.
pub(super) fn line_column(at: Position) -> (usize, usize) {
    (at.line().unwrap_or(0), at.position().unwrap_or(0))
}
