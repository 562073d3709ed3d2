//! The guards' eyes for a script: what they would find in a text. What they do is the YAML's business.

use super::refuse;
use crate::ai::guard::inject::Injector;
use crate::ai::guard::pii::Finder;
use crate::config::ai::guard::PiiKind;
use rhai::{Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map};
use std::sync::Arc;

/// The recognisers are compiled with the engine. They are our own, so they compile; were it otherwise, the functions
/// would fail where they are called and the hook with them.
pub(super) fn register(engine: &mut Engine) {
    let finder = Arc::new(Finder::new(&PiiKind::ALL).ok());
    let eyes = Arc::clone(&finder);
    engine.register_fn("pii_find", move |text: &str| -> Result<Map, Box<EvalAltResult>> {
        let finder = eyes.as_ref().as_ref().ok_or_else(|| refuse("pii_find: no recognisers"))?;
        let mut counts = Map::new();
        for found in finder.find(text) {
            let n = counts.entry(found.kind.as_str().into()).or_insert_with(|| Dynamic::from_int(0));
            *n = (n.as_int().unwrap_or_default() as INT + 1).into();
        }
        Ok(counts)
    });
    engine.register_fn("pii_redact", move |text: &str| -> Result<ImmutableString, Box<EvalAltResult>> {
        let finder = finder.as_ref().as_ref().ok_or_else(|| refuse("pii_redact: no recognisers"))?;
        Ok(finder.redacted(text).into())
    });
    let injector = Injector::new().ok();
    engine.register_fn("injection_score", move |text: &str| -> Result<FLOAT, Box<EvalAltResult>> {
        injector.as_ref().map(|i| i.score(text)).ok_or_else(|| refuse("injection_score: no signs"))
    });
}
