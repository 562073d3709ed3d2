//! Calls whose value is thrown away. `if bad { deny(403, "no"); }` before more statements reads well and denies nothing.

use rhai::{Expr, Position, Stmt};

/// A called function and its place.
pub(super) type Called = (String, Position);

/// Calls of one statement: those whose value is the statement's own, and those whose value is thrown away within it.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) own: Vec<Called>,
    pub(super) dropped: Vec<Called>,
}

impl Values {
    /// Of one statement.
    pub(super) fn of(stmt: &Stmt) -> Values {
        let mut values = Values::default();
        values.stmt(stmt);
        values
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::FnCall(x, at) if !x.is_operator_call() => self.own.push((x.name.to_string(), *at)),
            Stmt::Expr(e) => self.expr(e),
            Stmt::Block(b) => self.block(b.statements()),
            Stmt::If(x, _) | Stmt::TryCatch(x, _) => {
                self.block(x.body.statements());
                self.block(x.branch.statements());
            }
            Stmt::Switch(x, _) => x.1.expressions.iter().for_each(|case| self.expr(&case.rhs)),
            Stmt::While(x, _) | Stmt::Do(x, ..) => self.body(x.body.statements()),
            Stmt::For(x, _) => self.body(x.2.body.statements()),
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::FnCall(x, at) if !x.is_operator_call() => self.own.push((x.name.to_string(), *at)),
            // What a chain starts with: `deny(…).note(…)`.
            Expr::Dot(x, ..) => self.expr(&x.lhs),
            Expr::Stmt(block) => self.block(block.statements()),
            _ => {}
        }
    }

    /// A block's value is its last statement's.
    fn block(&mut self, statements: &[Stmt]) {
        if let Some((last, others)) = statements.split_last() {
            self.body(others);
            self.stmt(last);
        }
    }

    /// Statements none of which gives a value.
    fn body(&mut self, statements: &[Stmt]) {
        for stmt in statements {
            let values = Values::of(stmt);
            self.dropped.extend(values.own);
            self.dropped.extend(values.dropped);
        }
    }
}
