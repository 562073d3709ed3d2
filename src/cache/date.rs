//! HTTP dates as a cache reads them (RFC 9110 §5.6.7): the present form and both obsolete ones, whatever the letter case
//! (RFC 9111 §4.2 asks that of caches). The name of the day is not compared with the date: it says nothing more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads one date; `None` for anything that is not exactly one of the three forms, time zones other than GMT included.
pub fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim().as_bytes();
    imf_fixdate(text).or_else(|| rfc850(text)).or_else(|| asctime(text))
}

const DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const LONG_DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];
const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<SystemTime> {
    let rest = literal(named(text, &DAYS)?.1, b", ")?;
    let (day, rest) = digits(rest, 2)?;
    let (month, rest) = named(literal(rest, b" ")?, &MONTHS)?;
    let (year, rest) = digits(literal(rest, b" ")?, 4)?;
    let (time, rest) = time_of_day(literal(rest, b" ")?)?;
    is_gmt(rest).then(|| moment(year, month, day, time))?
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8]) -> Option<SystemTime> {
    let rest = literal(named(text, &LONG_DAYS)?.1, b", ")?;
    let (day, rest) = digits(rest, 2)?;
    let (month, rest) = named(literal(rest, b"-")?, &MONTHS)?;
    let (year, rest) = digits(literal(rest, b"-")?, 2)?;
    let (time, rest) = time_of_day(literal(rest, b" ")?)?;
    if !is_gmt(rest) {
        return None;
    }
    // What appears to be more than 50 years ahead is the last year that ended so.
    let this_year = year_of(SystemTime::now());
    let near = this_year - this_year % 100 + year;
    moment(if near > this_year + 50 { near - 100 } else { near }, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<SystemTime> {
    let (month, rest) = named(literal(named(text, &DAYS)?.1, b" ")?, &MONTHS)?;
    let rest = literal(rest, b" ")?;
    let (day, rest) = match literal(rest, b" ") {
        Some(one) => digits(one, 1)?,
        None => digits(rest, 2)?,
    };
    let (time, rest) = time_of_day(literal(rest, b" ")?)?;
    let (year, rest) = digits(literal(rest, b" ")?, 4)?;
    rest.is_empty().then(|| moment(year, month, day, time))?
}

fn literal<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    text.strip_prefix(what)
}

/// The place of a name in a list, counted from 1, and what follows it.
fn named<'a>(text: &'a [u8], names: &[&[u8]]) -> Option<(u64, &'a [u8])> {
    let mut place = 0;
    names.iter().find_map(|name| {
        place += 1;
        let (head, rest) = text.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then_some((place, rest))
    })
}

fn digits(text: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (head, rest) = text.split_at_checked(count)?;
    let number = head.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(*b - b'0')))?;
    Some((number, rest))
}

/// `08:49:37`, and a leap second, as seconds of the day.
fn time_of_day(text: &[u8]) -> Option<(u64, &[u8])> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(literal(rest, b":")?, 2)?;
    let (second, rest) = digits(literal(rest, b":")?, 2)?;
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 3600 + minute * 60 + second, rest))
}

fn is_gmt(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b" gmt")
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn moment(year: u64, month: u64, day: u64, second_of_day: u64) -> Option<SystemTime> {
    let long = match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || day == 0 || day > long {
        return None;
    }
    let days = days_before(year, month)? + day - 1;
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + second_of_day))
}

/// Days from the epoch to the first of a month.
fn days_before(year: u64, month: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let in_year = BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let leap_day = u64::from(month > 2 && is_leap(year));
    Some((year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + in_year + leap_day)
}

fn year_of(time: SystemTime) -> u64 {
    let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    // A year has 365.2425 days; a day off at its turn does not matter here.
    1970 + days * 10_000 / 3_652_425
}

#[cfg(test)]
mod tests;
