//! Units as people write them in YAML: `30s`, `64MiB`, `10%`; and money as integers.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is no quantity of the wanted kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a {what}")]
pub struct BadUnit {
    text: String,
    what: &'static str,
}

fn bad(text: &str, what: &'static str) -> BadUnit {
    BadUnit { text: text.to_owned(), what }
}

/// Splits `12.5ms` into the number and the unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let t = text.trim();
    let cut = t.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (num, unit) = t.split_at(cut);
    Some((num.parse().ok()?, unit.trim()))
}

/// A length of time: `250ms`, `30s`, `5m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dur(pub Duration);

impl Dur {
    /// Whole seconds.
    pub const fn secs(s: u64) -> Self {
        Dur(Duration::from_secs(s))
    }
    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Dur(Duration::from_millis(ms))
    }
}

impl FromStr for Dur {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let err = || bad(text, "duration (such as 250ms, 30s, 5m, 24h, 7d)");
        let (n, unit) = split(text).ok_or_else(err)?;
        let secs = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(err()),
        };
        Duration::try_from_secs_f64(n * secs).map(Dur).map_err(|_| err())
    }
}

impl fmt::Display for Dur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => write!(f, "{}us", self.0.as_micros()),
            _ if ms.is_multiple_of(86_400_000) => write!(f, "{}d", ms / 86_400_000),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

/// A number of bytes: `512`, `64KiB`, `20GiB`, `5MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// Mebibytes.
    pub const fn mib(n: u64) -> Self {
        Size(n << 20)
    }
    /// Kibibytes.
    pub const fn kib(n: u64) -> Self {
        Size(n << 10)
    }
    /// As a length of memory on this machine.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let err = || bad(text, "size (such as 512B, 64KiB, 10MiB, 20GiB)");
        if let Ok(n) = text.trim().parse::<u64>() {
            return Ok(Size(n));
        }
        let (n, unit) = split(text).ok_or_else(err)?;
        let mul: u64 = match unit {
            "B" => 1,
            "KB" | "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(err()),
        };
        let bytes = n * mul as f64;
        if !(0.0..=9e18).contains(&bytes) {
            return Err(err());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be within 0..9e18 above"
        )]
        Ok(Size(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

/// A share, written `10%` or `0.1`; held as 0.0–1.0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let err = || bad(text, "share (such as 10% or 0.1)");
        let t = text.trim();
        let v = match t.strip_suffix('%') {
            Some(p) => p.trim().parse::<f64>().map_err(|_| err())? / 100.0,
            None => t.parse::<f64>().map_err(|_| err())?,
        };
        if (0.0..=1.0).contains(&v) { Ok(Share(v)) } else { Err(err()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// So much in a time: `60/min`, `10/s`, `200000/h`, `100/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerTime {
    /// How much.
    pub count: u64,
    /// In which time.
    pub period: Dur,
}

impl FromStr for PerTime {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let err = || bad(text, "rate (such as 10/s, 60/min, 1000/h, 100/10s)");
        let (count, time) = text.split_once('/').ok_or_else(err)?;
        let count = count.trim().parse().map_err(|_| err())?;
        let period = match time.trim() {
            "s" | "sec" | "second" => Dur::secs(1),
            "m" | "min" | "minute" => Dur::secs(60),
            "h" | "hour" => Dur::secs(3600),
            "d" | "day" => Dur::secs(86400),
            other => other.parse().map_err(|_| err())?,
        };
        if count == 0 || period.0.is_zero() { Err(err()) } else { Ok(PerTime { count, period }) }
    }
}

impl fmt::Display for PerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period)
    }
}

/// Serde and schema for a unit that is a string in YAML (a bare number is taken too where it parses).
macro_rules! unit_serde {
    ($ty:ident, $pattern:literal, $what:literal) => {
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct V;
                impl de::Visitor<'_> for V {
                    type Value = $ty;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: de::Error>(self, v: &str) -> Result<$ty, E> {
                        v.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, v: u64) -> Result<$ty, E> {
                        v.to_string().parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, v: i64) -> Result<$ty, E> {
                        v.to_string().parse().map_err(E::custom)
                    }
                    fn visit_f64<E: de::Error>(self, v: f64) -> Result<$ty, E> {
                        v.to_string().parse().map_err(E::custom)
                    }
                }
                d.deserialize_any(V)
            }
        }
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $ty {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($ty).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "number"], "pattern": $pattern, "description": $what })
            }
        }
    };
}
unit_serde!(Dur, r"^[0-9.]+\s*(us|ms|s|m|min|h|d)$", "a duration such as 250ms, 30s, 5m, 24h, 7d");
unit_serde!(Size, r"^[0-9.]+\s*(B|KB|kB|MB|GB|KiB|MiB|GiB|TiB)?$", "a size such as 512B, 64KiB, 10MiB, 20GiB");
unit_serde!(
    PerTime,
    r"^[0-9]+\s*/\s*[0-9.]*\s*(us|ms|s|sec|second|m|min|minute|h|hour|d|day)$",
    "a rate such as 10/s, 60/min, 1000/h, 100/10s"
);
unit_serde!(Share, r"^[0-9.]+%?$", "a share such as 10% or 0.1");

/// An amount of US dollars in integer nano-dollars: 1 USD per million tokens is 1,000 nano-dollars a token,
/// so every published price multiplies without rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money {
    /// Billionths of a US dollar.
    pub nano_usd: u64,
}

impl Money {
    /// From dollars as written in a price list; negative or non-finite amounts become zero.
    pub fn from_usd(usd: f64) -> Self {
        let n = (usd * 1e9).round();
        if !(0.0..=9e18).contains(&n) {
            return Money::default();
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be within 0..9e18 above"
        )]
        Money { nano_usd: n as u64 }
    }

    /// In dollars with all nine decimals: a single call often costs less than a millionth of a dollar.
    pub fn usd_exact(self) -> String {
        format!("{}.{:09}", self.nano_usd / 1_000_000_000, self.nano_usd % 1_000_000_000)
    }

    /// In dollars, for display.
    pub fn usd(self) -> f64 {
        self.nano_usd as f64 / 1e9
    }
}

impl std::ops::Add for Money {
    type Output = Money;
    fn add(self, o: Money) -> Money {
        Money { nano_usd: self.nano_usd.saturating_add(o.nano_usd) }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.nano_usd / 1_000_000_000, (self.nano_usd % 1_000_000_000) / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_shares_parse_and_print() {
        assert_eq!("30s".parse::<Dur>().unwrap(), Dur::secs(30));
        assert_eq!("1.5s".parse::<Dur>().unwrap(), Dur::millis(1500));
        assert_eq!(Dur::secs(7200).to_string(), "2h");
        assert_eq!("64MiB".parse::<Size>().unwrap(), Size::mib(64));
        assert_eq!("1024".parse::<Size>().unwrap(), Size::kib(1));
        assert_eq!("10%".parse::<Share>().unwrap(), Share(0.1));
    }

    #[test]
    fn rates_parse_and_print() {
        let rate = |t: &str| t.parse::<PerTime>();
        assert_eq!(rate("60/min").unwrap(), PerTime { count: 60, period: Dur::secs(60) });
        assert_eq!(rate("100 / 10s").unwrap().to_string(), "100/10s");
        for bad in ["60", "0/s", "5/0s", "/min", "-1/s", "1.5/s", "5/parsec", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quantity_without_its_unit_is_refused() {
        for t in ["30", "s", "", "30 parsecs", "-1s", "1e999d"] {
            assert!(t.parse::<Dur>().is_err(), "{t}");
        }
        assert!("12 stones".parse::<Size>().is_err());
        assert!("110%".parse::<Share>().is_err());
    }

    #[test]
    fn money_is_exact_in_nano_dollars() {
        assert_eq!(Money::from_usd(0.4e-6).nano_usd, 400);
        assert_eq!(Money { nano_usd: 1_234_567_890 }.to_string(), "1.234567");
    }
}
