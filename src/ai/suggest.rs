//! What a wrong name may have been meant to be.

/// There is no such name; the message suggests one.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    nearest(name, known).map_or_else(
        || format!("there is no {what} {name:?}"),
        |near| format!("there is no {what} {name:?}; did you mean {near:?}?"),
    )
}

/// The most similar name, when one is similar at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    // The similarity is quadratic in the lengths, and `name` may come from a client.
    let name: String = name.chars().take(64).collect();
    known
        .map(|k| (strsim::jaro_winkler(&name, k), k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}
