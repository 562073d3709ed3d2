//! Content codings (RFC 9110 §8.4.1) that this gateway can make.

use std::fmt;

/// A content coding that is made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Every one, in the order of preference where nothing else is said: zstd takes the least time for its length, and
    /// of forms that are made once and kept brotli is the shortest.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    /// The registered name (RFC 9110 §16.6.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// Its place in [`Coding::ALL`], for tables.
    pub const fn index(self) -> usize {
        match self {
            Coding::Zstd => 0,
            Coding::Br => 1,
            Coding::Gzip => 2,
        }
    }

    /// By name, without letter case; `x-gzip` is gzip (RFC 9110 §8.4.1.3).
    pub fn named(name: &[u8]) -> Option<Coding> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("x-gzip") {
            return Some(Coding::Gzip);
        }
        Coding::ALL.into_iter().find(|c| is(c.as_str()))
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_8_4_1_names_have_no_case_and_x_gzip_is_gzip() {
        for c in Coding::ALL {
            assert_eq!(Coding::named(c.as_str().to_uppercase().as_bytes()), Some(c));
            assert_eq!(Coding::ALL.get(c.index()), Some(&c));
        }
        assert_eq!(Coding::named(b"X-GZIP"), Some(Coding::Gzip));
        assert_eq!((Coding::named(b"deflate"), Coding::named(b"")), (None, None));
    }
}
