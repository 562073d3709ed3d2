//! What a script says, gathered from its syntax tree in one walk: functions, calls, names, properties. No judgement here.

use super::dropped::{Called, Values};
use super::hook::{Hook, Hooks};
use rhai::{AST, ASTNode, Dynamic, Expr, FnCallExpr, Position, Scope, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// A call of a named function, `name(…)` or `receiver.name(…)`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) method: bool,
    /// The arguments in parentheses: their values where they are literals or constants.
    pub(super) args: Vec<(Option<Dynamic>, Position)>,
    pub(super) at: Position,
}

/// A read of `receiver.name`, where the receiver is one of the hook's parameters or a property of it.
#[derive(Debug)]
pub(super) struct Chain {
    /// The parameter's name.
    pub(super) root: String,
    /// Property names with their places, as far as they are properties.
    pub(super) properties: Vec<(String, Position)>,
}

/// One function or closure.
#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) name: String,
    /// Parameters; a closure's captured variables come first.
    pub(super) params: Vec<String>,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) calls: Vec<Call>,
    /// Closures made in it, with the number of variables that each captures.
    pub(super) closures: Vec<(String, usize)>,
    /// Variables that it defines.
    pub(super) locals: Vec<(String, Position)>,
    /// Variables that it reads and that are neither parameters nor locals.
    pub(super) unknown: Vec<(String, Position)>,
    /// Uses of `module::name`.
    pub(super) qualified: Vec<Position>,
    pub(super) chains: Vec<Chain>,
    /// Calls whose value is thrown away.
    pub(super) dropped: Vec<Called>,
}

impl Function {
    /// Is it a closure?
    pub(super) fn is_closure(&self) -> bool {
        self.name.starts_with("anon$")
    }

    /// The hook that it is.
    pub(super) fn hook(&self) -> Option<Hook> {
        Hook::named(&self.name)
    }
}

/// The whole script.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) functions: Vec<Function>,
    pub(super) constants: BTreeSet<String>,
}

impl Survey {
    /// Walks the tree as it was written. `scope` holds the values of the constants.
    pub(super) fn of(source: &str, ast: &AST, scope: &Scope) -> Survey {
        let values: BTreeMap<String, Dynamic> = scope.iter().map(|(name, _, v)| (name.to_owned(), v)).collect();
        let constants = ast.statements().iter().filter_map(|s| match s {
            Stmt::Var(x, ..) => Some(x.0.name.to_string()),
            _ => None,
        });
        let constants = constants.collect();
        let functions = ast.iter_functions().map(|f| {
            // Rhai's clone_functions_only_filtered ignores its filter (1.27.0); retaining does not.
            let mut alone = ast.clone_functions_only();
            alone.retain_functions(|_, _, name, n| name == f.name && n == f.params.len());
            let mut found = Function {
                name: f.name.to_owned(),
                params: f.params.iter().map(|p| (*p).to_owned()).collect(),
                ..Function::default()
            };
            (found.line, found.column) = place_of(source, ast, &found);
            let mut last = Vec::new();
            alone.walk(&mut |path| {
                // The body's own statements come in order; the value of all but the last is thrown away.
                if let [ASTNode::Stmt(stmt)] = path {
                    let values = Values::of(stmt);
                    found.dropped.extend(std::mem::replace(&mut last, values.own));
                    found.dropped.extend(values.dropped);
                }
                if let Some(node) = path.last() {
                    found.visit(node, &values);
                }
                true
            });
            found
        });
        let mut functions: Vec<Function> = functions.collect();
        functions.sort_by_key(|f| (f.line, f.column));
        Survey { functions, constants }
    }

    /// The hooks that the script defines.
    pub(super) fn hooks(&self) -> Hooks {
        self.functions.iter().filter_map(Function::hook).fold(Hooks::NONE, Hooks::with)
    }
}

/// Where `fn name` stands. The tree knows only where the body starts.
fn place_of(source: &str, ast: &AST, function: &Function) -> (usize, usize) {
    let body = ast.shared_lib().get_script_fn(&function.name, function.params.len()).map(|f| f.body.start_position());
    let line = body.and_then(|p| p.line()).unwrap_or(0);
    let text = line.checked_sub(1).and_then(|n| source.lines().nth(n)).unwrap_or_default();
    let before = text.split_once(&format!("fn {}", function.name)).map(|(before, _)| before);
    let column = before.map_or(0, |b| b.chars().count() + 1);
    (line, column)
}

impl Function {
    fn visit(&mut self, node: &ASTNode, values: &BTreeMap<String, Dynamic>) {
        match node {
            ASTNode::Stmt(Stmt::FnCall(x, at)) | ASTNode::Expr(Expr::FnCall(x, at)) => self.call(x, false, *at, values),
            ASTNode::Expr(Expr::MethodCall(x, at)) => self.call(x, true, *at, values),
            ASTNode::Expr(Expr::DynamicConstant(x, _)) => self.closure(x, 0),
            ASTNode::Expr(Expr::Dot(x, ..)) => self.chain(&x.lhs, &x.rhs),
            ASTNode::Expr(Expr::Variable(x, _, at)) => {
                if !x.2.is_empty() {
                    self.qualified.push(*at);
                } else if x.0.is_none() {
                    self.unknown.push((x.1.to_string(), *at));
                }
            }
            ASTNode::Stmt(Stmt::Var(x, ..)) => self.locals.push((x.0.name.to_string(), x.0.pos)),
            ASTNode::Stmt(Stmt::For(x, _)) => {
                let names = std::iter::once(&x.0).chain(&x.1);
                self.locals.extend(names.map(|n| (n.name.to_string(), n.pos)));
            }
            _ => {}
        }
    }

    fn call(&mut self, x: &FnCallExpr, method: bool, at: Position, values: &BTreeMap<String, Dynamic>) {
        if x.is_operator_call() {
            return;
        }
        if x.is_qualified() {
            self.qualified.push(at);
            return;
        }
        // A closure that captures variables is written by the parser as curry(closure, variable…).
        if let ("curry", Some(Expr::DynamicConstant(f, _))) = (x.name.as_str(), x.args.first()) {
            self.closure(f, x.args.len() - 1);
        }
        let args = x.args.iter().map(|a| (literal(a, values), a.start_position())).collect();
        self.calls.push(Call { name: x.name.to_string(), method, args, at });
    }

    fn closure(&mut self, value: &Dynamic, captured: usize) {
        if let Some(f) = value.read_lock::<rhai::FnPtr>() {
            self.closures.push((f.fn_name().to_owned(), captured));
        }
    }

    fn chain(&mut self, root: &Expr, rest: &Expr) {
        let Expr::Variable(x, ..) = root else { return };
        let mut chain = Chain { root: x.1.to_string(), properties: Vec::new() };
        let mut rest = rest;
        loop {
            let (first, next) = match rest {
                Expr::Dot(x, ..) => (&x.lhs, Some(&x.rhs)),
                Expr::Index(x, ..) => (&x.lhs, None),
                other => (other, None),
            };
            let Expr::Property(p, at) = first else { break };
            chain.properties.push((p.2.to_string(), *at));
            let Some(next) = next else { break };
            rest = next;
        }
        self.chains.push(chain);
    }
}

/// The value of an argument that is a literal or names a constant.
fn literal(arg: &Expr, values: &BTreeMap<String, Dynamic>) -> Option<Dynamic> {
    match arg {
        Expr::StringConstant(s, _) => Some(s.clone().into()),
        Expr::IntegerConstant(i, _) => Some((*i).into()),
        Expr::Variable(x, ..) if x.0.is_none() => values.get(x.1.as_str()).cloned(),
        _ => None,
    }
}
