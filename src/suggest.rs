//! Suggestions for unknown names.

/// The known name most similar to `name`, if one is similar enough.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One wrong letter in three is allowed: two in `staus`, one in `cap`.
    let typos_max = (name.chars().count() / 3).max(1);
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    near.filter(|(typos, _)| *typos <= typos_max).min_by_key(|(typos, _)| *typos).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
        let known = ["status", "limit", "cursor", "bind"];
        for (name, meant) in [("staus", "status"), ("limti", "limit"), ("Cursor", "cursor"), ("bindd", "bind")] {
            assert_eq!(nearest(name, known), Some(meant), "{name}");
        }
        for name in ["", "x", "utm_source", "state"] {
            assert_eq!(nearest(name, known), None, "{name}");
        }
        assert_eq!(nearest("status", []), None);
    }
}
