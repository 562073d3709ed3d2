//! `GET /ai/budgets`, `POST /ai/budgets/reset` and `GET /ai/keys`: who may spend what, and has. No hash leaves the
//! gateway here.

use super::Answer;
use crate::ai::budget::{Book, Budget, Budgets, Line};
use crate::base::strict_json;
use crate::base::units::Money;
use crate::config::apikey::Grant;
use crate::plan::Plan;
use crate::proxy::Edge;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How deep JSON may nest.
const DEPTH_MAX: u8 = 4;
/// Accounts that are listed of one budget; a budget by users may have many more.
const LINES_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    budget: String,
    subject: Option<String>,
}

fn funds(plan: &Plan) -> Option<&(Budgets, Arc<Book>)> {
    plan.ai.as_ref().and_then(|g| g.funds())
}

/// Every budget with its accounts.
pub fn budgets(edge: &Edge) -> Value {
    let plan = edge.plan.load();
    let Some((budgets, book)) = funds(&plan) else { return json!({ "budgets": {} }) };
    let lines = book.lines(budgets);
    let about = |budget: &Arc<Budget>| {
        let of = |l: &&Line| l.budget == budget.name;
        let accounts: Vec<Value> = lines.iter().filter(of).take(LINES_MAX).map(|l| account(l, budget)).collect();
        json!({
            "limit_usd": budget.limit.usd(),
            "period": budget.period,
            "key": budget.key,
            "on_exhausted": budget.on_exhausted,
            "accounts": accounts,
            "accounts_in_all": lines.iter().filter(of).count(),
        })
    };
    let all: serde_json::Map<String, Value> = budgets.iter().map(|(n, b)| (n.clone(), about(b))).collect();
    let state = json!({ "file_bytes": book.kv().file_bytes(), "failing": book.kv().is_failing() });
    json!({ "budgets": all, "state": state })
}

fn account(line: &Line, budget: &Budget) -> Value {
    let b = &line.balance;
    let left = budget.limit.nano_usd.saturating_sub(b.spent.nano_usd.saturating_add(b.reserved.nano_usd));
    json!({
        "subject": line.subject,
        "spent_usd": b.spent.usd(),
        "spent_nano_usd": b.spent.nano_usd,
        "reserved_usd": b.reserved.usd(),
        "remaining_usd": Money { nano_usd: left }.usd(),
        "exhausted": left == 0,
        "since": moment(b.span.from),
        "until": b.span.until.map(moment),
    })
}

/// RFC 3339.
fn moment(secs: u64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(secs).ok()?).ok()?.format(&Rfc3339).ok()
}

/// Begins spending anew: `{"budget": "month"}` for all of its accounts, with `"subject": "key:alice"` for one.
pub fn reset(edge: &Edge, body: &[u8]) -> Answer {
    let plan = edge.plan.load();
    let refuse = |status, message: String| Answer::json(status, &json!({ "error": message }));
    let asked = strict_json::value(body, DEPTH_MAX)
        .map_err(|e| e.to_string())
        .and_then(|v| Reset::deserialize(v).map_err(|e| e.to_string()));
    let asked = match asked {
        Ok(asked) => asked,
        Err(e) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("send {{\"budget\": \"name\"}}, maybe with a subject: {e}"),
            );
        }
    };
    let found = funds(&plan).and_then(|(budgets, book)| Some((budgets.get(&asked.budget)?, book)));
    let Some((budget, book)) = found else {
        return refuse(StatusCode::NOT_FOUND, format!("there is no budget {:?}", asked.budget));
    };
    let accounts = book.reset(budget, asked.subject.as_deref());
    if accounts == 0 && asked.subject.is_some() {
        return refuse(StatusCode::NOT_FOUND, format!("the budget {:?} has no such account", asked.budget));
    }
    tracing::info!(budget = asked.budget, accounts, "spending begins anew");
    Answer::json(StatusCode::OK, &json!({ "ok": true, "accounts": accounts }))
}

/// Every virtual key by auth rule: what it may and when it ends.
pub fn keys(edge: &Edge) -> Value {
    let plan = edge.plan.load();
    let mut all = serde_json::Map::new();
    for (name, rule) in plan.auth.iter().filter_map(|(n, r)| Some((n, r.keys()?))) {
        let about = |key: &Arc<crate::auth::apikey::Key>| {
            let about = json!({
                "team": key.team.as_deref(),
                "disabled": key.disabled,
                "expires": key.expires.and_then(moment),
                "previous_until": key.previous_until.and_then(moment),
                "may": grant(&key.grant),
                "team_may": key.team_grant.as_ref().map(|g| grant(g)),
            });
            (key.name.to_string(), about)
        };
        let keys: serde_json::Map<String, Value> = rule.keys().iter().map(about).collect();
        all.insert(name.clone(), Value::Object(keys));
    }
    json!({ "keys": all })
}

fn grant(g: &Grant) -> Value {
    json!({
        "models": g.models, "tiers": g.tiers, "budgets": g.budgets,
        "rpm": g.rpm, "tpm": g.tpm, "concurrency": g.concurrency,
    })
}

/// Brings the gauges of budgets up to date.
pub fn refresh_gauges(edge: &Edge) {
    let m = &edge.shared.metrics.ai;
    for g in [&m.budget_spent, &m.budget_reserved, &m.budget_exhausted, &m.state_failing] {
        g.reset();
    }
    let plan = edge.plan.load();
    let Some((budgets, book)) = funds(&plan) else { return };
    let lines = book.lines(budgets);
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for (name, budget) in budgets {
        let of = lines.iter().filter(|l| l.budget == budget.name).map(|l| &l.balance);
        let (mut spent, mut reserved, mut exhausted) = (Money::default(), Money::default(), 0);
        for b in of {
            spent = spent + b.spent;
            reserved = reserved + b.reserved;
            exhausted += u64::from(b.spent + b.reserved >= budget.limit);
        }
        m.budget_spent.with_label_values(&[name]).set(number(spent.nano_usd));
        m.budget_reserved.with_label_values(&[name]).set(number(reserved.nano_usd));
        m.budget_exhausted.with_label_values(&[name]).set(number(exhausted));
    }
    m.state_failing.with_label_values(&[] as &[&str]).set(i64::from(book.kv().is_failing()));
}
