//! Who calls, as far as models and money are concerned: which models may be used, and who pays.

use super::catalog::{Catalog, Choice, Model, Stage};
use super::error::AiError;
use crate::config::apikey::Grant;
use http::StatusCode;
use std::sync::Arc;

/// A verified caller; nobody in particular by default, who may use every model.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The virtual key's name.
    pub key: Option<Arc<str>>,
    /// Its team.
    pub team: Option<Arc<str>>,
    /// A token's subject.
    pub user: Option<Arc<str>>,
    /// What the key and its team may; all of them must allow.
    pub grants: Vec<Arc<Grant>>,
}

impl Caller {
    /// Whether a model may be used: every grant names it, or a tier that has it, or nothing at all.
    pub fn may_use(&self, model: &Model, catalog: &Catalog) -> bool {
        let by_tier = |tier: &String| catalog.in_tier(tier).iter().any(|m| m.name == model.name);
        self.grants.iter().all(|g| g.is_open() || g.models.contains(&model.name) || g.tiers.iter().any(by_tier))
    }

    /// Whether anything of a model or tier may be used.
    pub fn may_name(&self, name: &str, catalog: &Catalog) -> bool {
        self.is_free() || catalog.stage(name).is_some_and(|s| s.models.iter().any(|m| self.may_use(m, catalog)))
    }

    /// What of a choice may be used, fallbacks too, whoever made it.
    pub fn permitted(&self, mut choice: Choice, catalog: &Catalog) -> Result<Choice, AiError> {
        if self.is_free() {
            return Ok(choice);
        }
        let permit = |stage: &mut Stage| stage.retain(|m| self.may_use(m, catalog));
        permit(&mut choice.first);
        choice.fallback.iter_mut().for_each(permit);
        choice.fallback.retain(|s| !s.models.is_empty());
        if choice.first.models.is_empty() {
            let name: String = choice.name.chars().take(64).collect();
            let message = format!("this API key may not use {name:?}; GET …/models lists what it may use");
            return Err(AiError::Refused { status: StatusCode::FORBIDDEN, message, reason: "model_not_allowed" });
        }
        Ok(choice)
    }

    /// Whether what names no model may be asked for.
    pub fn may_go_unnamed(&self) -> Result<(), AiError> {
        if self.is_free() {
            return Ok(());
        }
        let message = "this API key may use its own models only, and the request names none".to_owned();
        Err(AiError::Refused { status: StatusCode::FORBIDDEN, message, reason: "model_not_allowed" })
    }

    fn is_free(&self) -> bool {
        self.grants.iter().all(|g| g.is_open())
    }
}
