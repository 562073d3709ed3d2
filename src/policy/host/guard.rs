//! The guards' eyes for a script: what they would find in a text. What is done about it is the YAML's business.

use super::pattern::{Patterns, Table};
use super::refuse;
use crate::ai::guard::inject::Injector;
use crate::ai::guard::pii::Finder;
use crate::config::ai::guard::PiiKind;
use rhai::{Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The functions that need them.
pub(in crate::policy) const NAMES: [&str; 3] = ["pii_find", "pii_redact", "injection_score"];

/// Recognisers and heuristics; compiled when a script is loaded that uses them.
pub(in crate::policy) struct Eyes {
    finder: Finder,
    injector: Injector,
}

impl std::fmt::Debug for Eyes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eyes")
    }
}

impl Eyes {
    /// Compiles them.
    pub(in crate::policy) fn open() -> Result<Eyes, regex::Error> {
        Ok(Eyes { finder: Finder::new(&PiiKind::ALL)?, injector: Injector::new()? })
    }
}

pub(super) fn register(engine: &mut Engine, patterns: &Arc<Patterns>) {
    let table = Arc::clone(patterns);
    engine.register_fn("pii_find", move |text: &str| -> Result<Map, Box<EvalAltResult>> {
        let mut counts: BTreeMap<&str, INT> = BTreeMap::new();
        for found in eyes(&table)?.finder.find(text) {
            *counts.entry(found.kind.as_str()).or_default() += 1;
        }
        Ok(counts.into_iter().map(|(kind, n)| (kind.into(), n.into())).collect())
    });
    let table = Arc::clone(patterns);
    engine.register_fn("pii_redact", move |text: &str| -> Result<ImmutableString, Box<EvalAltResult>> {
        Ok(eyes(&table)?.finder.redacted(text).into())
    });
    let table = Arc::clone(patterns);
    engine.register_fn("injection_score", move |text: &str| -> Result<FLOAT, Box<EvalAltResult>> {
        Ok(eyes(&table)?.injector.score(text))
    });
}

fn eyes(patterns: &Patterns) -> Result<&Eyes, Box<EvalAltResult>> {
    let open = patterns.table().and_then(Table::eyes);
    open.ok_or_else(|| refuse("the guards' functions can be used inside hooks only"))
}
