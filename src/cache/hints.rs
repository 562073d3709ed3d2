//! What a page asked browsers to fetch early (`Link` fields), remembered for `103 Early Hints` (RFC 8297): even for
//! pages that are not stored, as long as they may be shown to anybody.

use super::key::Key;
use super::vary;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use moka::sync::Cache;
use pingora_cache::key::HashBinary;
use std::sync::Arc;
use std::time::Duration;

/// Relations that a browser can act upon before it has the page.
const EARLY: [&str; 3] = ["preload", "modulepreload", "preconnect"];
/// Most links sent early; a page that names more names what matters first.
const LINKS_MAX: usize = 16;
/// Most bytes of them together.
const LINKS_BYTES_MAX: usize = 4 << 10;
/// Bound of all that is remembered, in bytes.
const HINTS_BYTES_MAX: u64 = 4 << 20;
/// File names change when a site is built anew; older hints would fetch in vain.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// Map entry, reference counts and the struct, in bytes.
const HINT_OVERHEAD_BYTES: usize = 256;

/// The links of pages lately answered, by cache key.
#[derive(Debug, Clone)]
pub struct Hints {
    pages: Cache<HashBinary, Arc<Hint>>,
}

/// The links of one page.
#[derive(Debug)]
struct Hint {
    key: Box<[u8]>,
    vary: Vec<HeaderName>,
    variance: Option<HashBinary>,
    links: Arc<[HeaderValue]>,
}

impl Default for Hints {
    fn default() -> Self {
        let cost = |_: &HashBinary, hint: &Arc<Hint>| u32::try_from(hint.cost()).unwrap_or(u32::MAX);
        Hints { pages: Cache::builder().max_capacity(HINTS_BYTES_MAX).weigher(cost).time_to_live(AGE_MAX).build() }
    }
}

impl Hint {
    fn cost(&self) -> usize {
        let links: usize = self.links.iter().map(|l| l.len() + 64).sum();
        HINT_OVERHEAD_BYTES + self.key.len() + self.vary.len() * 64 + links
    }
}

impl Hints {
    /// Remembers the links of an answer that may be shown to anybody who asks for this key in this variant. Without any,
    /// what was remembered is forgotten.
    pub fn remember(&self, key: &Key, request: &HeaderMap, answer: &HeaderMap) {
        let links = early_links(answer);
        if links.is_empty() {
            return self.forget(key);
        }
        let vary = vary::names(answer);
        let variance = vary::variance(&vary, request);
        let hint = Hint { key: key.bytes().into(), vary, variance, links: links.into() };
        self.pages.insert(*key.hash(), Arc::new(hint));
    }

    /// Forgets a page: its newest answer is for one client only.
    pub fn forget(&self, key: &Key) {
        self.pages.invalidate(key.hash());
    }

    /// The links to send early, if the page is known in the variant that the request wants.
    pub fn links(&self, key: &Key, request: &HeaderMap) -> Option<Arc<[HeaderValue]>> {
        let hint = self.pages.get(key.hash())?;
        // A page with the same hash is another page.
        let same = *hint.key == *key.bytes() && vary::variance(&hint.vary, request) == hint.variance;
        same.then(|| Arc::clone(&hint.links))
    }
}

/// The links of a header that are worth sending early, each in a field of its own, within bounds.
pub fn early_links(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut out = Vec::new();
    let mut bytes = 0;
    for line in headers.get_all(header::LINK) {
        for link in split(line.as_bytes(), b',') {
            if out.len() == LINKS_MAX || bytes + link.len() > LINKS_BYTES_MAX {
                return out;
            }
            if is_early(link)
                && let Ok(value) = HeaderValue::from_bytes(link)
            {
                bytes += link.len();
                out.push(value);
            }
        }
    }
    out
}

/// Parts between separators that stand neither in `<…>` nor in quotes (RFC 8288 §3).
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut in_target, mut quoted, mut escaped) = (false, false, false);
    let parts = text.split(move |b| {
        if escaped {
            escaped = false;
            return false;
        }
        match *b {
            b'\\' if quoted => escaped = true,
            b'"' if !in_target => quoted = !quoted,
            b'<' if !quoted => in_target = true,
            b'>' if !quoted => in_target = false,
            b => return b == separator && !quoted && !in_target,
        }
        false
    });
    parts.map(<[u8]>::trim_ascii).filter(|p| !p.is_empty())
}

fn is_early(link: &[u8]) -> bool {
    let mut parts = split(link, b';');
    let target = parts.next().is_some_and(|t| t.starts_with(b"<") && t.ends_with(b">"));
    // Only the first `rel` counts (RFC 8288 §3.3).
    let rel = parts.find_map(|p| {
        let (name, value) = p.split_at(p.iter().position(|b| *b == b'=')?);
        name.trim_ascii().eq_ignore_ascii_case(b"rel").then(|| value.get(1..).unwrap_or_default().trim_ascii())
    });
    let Some(rel) = rel.and_then(|r| std::str::from_utf8(r).ok()).filter(|_| target) else { return false };
    rel.trim_matches('"').split_ascii_whitespace().any(|r| EARLY.iter().any(|e| e.eq_ignore_ascii_case(r)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::{KeyRules, Place};

    fn header(links: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for l in links {
            map.append(header::LINK, HeaderValue::from_str(l).unwrap());
        }
        map
    }

    fn early(links: &[&str]) -> Vec<String> {
        early_links(&header(links)).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    fn key(path: &[u8]) -> Key {
        Key::of(&Place::of(false, "a.test", path), &KeyRules::default(), &HeaderMap::new(), &[])
    }

    #[test]
    fn rfc8288_3_links_are_told_apart_and_chosen_by_relation() {
        let all = r#"</a,b.css>; rel=preload; as=style, <https://cdn.test>; rel="x Preconnect", </n>; rel=next"#;
        assert_eq!(
            early(&[all, r#"</m.js>; title="a, \" ; rel=preload"; rel=modulepreload"#]),
            [
                "</a,b.css>; rel=preload; as=style",
                r#"<https://cdn.test>; rel="x Preconnect""#,
                r#"</m.js>; title="a, \" ; rel=preload"; rel=modulepreload"#
            ]
        );
        assert_eq!(early(&["</x>; rel=icon; rel=preload", "no target; rel=preload", "</y>; as=style", ""]), [""; 0]);
    }

    #[test]
    fn the_links_of_one_page_are_bounded() {
        let many: Vec<String> = (0..40).map(|i| format!("</{i}>; rel=preload")).collect();
        assert_eq!(early(&[&many.join(",")]).len(), LINKS_MAX);
        let long = format!("</{}>; rel=preload", "x".repeat(3000));
        assert_eq!(early(&[&long, &long]).len(), 1);
    }

    #[test]
    fn a_page_is_known_by_its_whole_key_and_variant() {
        let hints = Hints::default();
        let mut answer = header(&["</a>; rel=preload"]);
        answer.insert(header::VARY, HeaderValue::from_static("cookie"));
        let mut mine = HeaderMap::new();
        mine.insert(header::COOKIE, HeaderValue::from_static("user=1"));
        hints.remember(&key(b"/"), &mine, &answer);
        assert_eq!(hints.links(&key(b"/"), &mine).unwrap().len(), 1);
        assert!(hints.links(&key(b"/"), &HeaderMap::new()).is_none(), "another user's page");
        assert!(hints.links(&key(b"/b"), &mine).is_none());
        hints.remember(&key(b"/"), &mine, &header(&["</n>; rel=next"]));
        assert!(hints.links(&key(b"/"), &mine).is_none(), "a page without links has none to send");
    }
}
