//! A finished model call in the ledger and in the metrics of money, by route, key and model.

use super::Edge;
use super::ctx::Ctx;
use crate::ai::call::Call;
use crate::ai::ledger::{Spared, won};
use crate::ai::prompt::Operation;
use crate::ai::usage::Usage;
use crate::auth::identity::Identity;
use crate::base::units::Money;
use crate::observe::ai_metrics::AiMetrics;

/// Enters a call.
pub fn enter(edge: &Edge, ctx: &Ctx, call: &Call) {
    let (route, key) = (ctx.route_name(), key(ctx));
    let shared = &edge.shared;
    shared.ledger.enter(shared.clock.unix_secs(), (route, key), call);
    let ai = &shared.metrics.ai;
    by_convention(ai, call);
    let model = call.model.as_deref().unwrap_or("none");
    if let Some(usage) = &call.usage {
        billed(ai, [route, key, model], usage, call.cost);
    }
    for lost in &call.lost {
        billed(ai, [route, key, &lost.model], &lost.usage, lost.cost);
        ai.lost_tokens.with_label_values(&[&lost.model]).inc_by(lost.usage.total());
    }
    for (way, won) in Spared::ALL.into_iter().zip(won(call)).filter(|(_, won)| won.calls > 0) {
        let by = &[route, key, model, way.as_str()];
        ai.saved_tokens.with_label_values(by).inc_by(won.tokens());
        ai.saved_nano_usd.with_label_values(by).inc_by(won.nano_usd);
        ai.saved_ms.with_label_values(by).inc_by(won.milliseconds);
    }
}

/// In the words of OpenTelemetry's conventions. What a cache answered is no call to a provider.
fn by_convention(ai: &AiMetrics, call: &Call) {
    let (Some(operation), Some(provider), Some(model), None) =
        (call.operation, &call.provider, &call.model, call.saved)
    else {
        return;
    };
    let operation = match operation {
        Operation::Chat | Operation::Messages | Operation::Responses => "chat",
        Operation::Completions => "text_completion",
        other => other.as_str(),
    };
    let by: [&str; 3] = [operation, provider, model];
    if let Some(took) = call.took {
        ai.gen_ai_seconds.with_label_values(&by).observe(took.as_secs_f64());
    }
    if let Some(first) = call.first_content {
        ai.gen_ai_first_token.with_label_values(&by).observe(first.as_secs_f64());
    }
    if let Some(usage) = &call.usage {
        for (direction, tokens) in [("input", usage.input()), ("output", usage.output())] {
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            ai.gen_ai_tokens.with_label_values(&[operation, provider, model, direction]).observe(f64::from(tokens));
        }
    }
}

/// What let the client in, in words of the configuration only: whatever clients could choose would be without bound.
fn key(ctx: &Ctx) -> &str {
    match &ctx.user {
        Some(Identity::Key(key)) => &key.name,
        Some(Identity::User(_)) => "jwt",
        None => "none",
    }
}

fn billed(ai: &AiMetrics, [route, key, model]: [&str; 3], usage: &Usage, cost: Option<Money>) {
    for (kind, n) in usage.kinds().into_iter().filter(|(_, n)| *n > 0) {
        ai.tokens.with_label_values(&[route, key, model, kind]).inc_by(n);
    }
    match cost {
        Some(cost) => ai.cost_nano_usd.with_label_values(&[route, key, model]).inc_by(cost.nano_usd),
        None => ai.unpriced_tokens.with_label_values(&[model]).inc_by(usage.total()),
    }
}
