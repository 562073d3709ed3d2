//! When spending begins anew: the bounds of a day, week or month, in UTC.

use crate::config::ai::Period;
use time::{Date, Duration, OffsetDateTime, Weekday};

/// A stretch of time in seconds since 1970: its beginning and what follows its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first second.
    pub from: u64,
    /// The first second of the next one; `None` for one that never ends.
    pub until: Option<u64>,
}

/// The stretch that `now` lies in.
pub fn span(period: Period, now: u64) -> Span {
    let ever = Span { from: 0, until: None };
    let today = i64::try_from(now).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok()).map(|t| t.date());
    // A date beyond the year 9999 has no calendar here.
    let Some(today) = today else { return ever };
    let bounds = match period {
        Period::Total => None,
        Period::Day => Some((today, today.checked_add(Duration::DAY))),
        Period::Week => {
            let days = i64::from(today.weekday().number_days_from_monday());
            let monday = today.checked_sub(Duration::days(days));
            debug_assert!(monday.is_none_or(|m| m.weekday() == Weekday::Monday));
            monday.map(|m| (m, m.checked_add(Duration::WEEK)))
        }
        Period::Month => {
            let first = today.replace_day(1).ok();
            // 31 days after the first is always in the next month.
            let next = first.and_then(|f| f.checked_add(Duration::days(31))).and_then(|d| d.replace_day(1).ok());
            first.map(|f| (f, next))
        }
    };
    bounds.map_or(ever, |(from, next)| Span { from: seconds(from), until: next.map(seconds) })
}

fn seconds(day: Date) -> u64 {
    u64::try_from(day.midnight().assume_utc().unix_timestamp()).unwrap_or(0)
}
