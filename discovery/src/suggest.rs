#![forbid(unsafe_code)]
//! "Did you mean …?", for words that people write: labels, options, names.

use dockline::untrusted::Untrusted;

/// Characters of a word at most; a longer one is not mistyped, and takes long to compare.
const WORD_MAX: usize = 64;

/// Returns the candidate that is nearest to a mistyped word, if one is near enough.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().take(WORD_MAX + 1).count();
    let bound = (length / 3).clamp(1, 4);
    let is_comparable = |candidate: &str| {
        let other = candidate.chars().take(length + bound + 1).count();
        length <= WORD_MAX && other.abs_diff(length) <= bound
    };
    candidates
        .into_iter()
        .filter(|candidate| is_comparable(candidate))
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns `; did you mean `x`?` to be appended to a message, or nothing.
#[must_use]
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates)
        .map(|found| format!("; did you mean `{}`?", Untrusted::new(found)))
        .unwrap_or_default()
}

/// Returns the number of insertions, deletions, replacements and swaps of neighbours that turn one
/// word into the other. Letter case does not count, nor does the choice of `-` or `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |word: &str| -> Vec<char> { word.to_lowercase().replace('-', "_").chars().collect() };
    let (a, b) = (fold(a), fold(b));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_word_is_suggested() {
        let keys = ["head_time", "keep_alive", "requests"];
        assert_eq!(nearest("head_tiem", keys), Some("head_time"));
        assert_eq!(nearest("Keep-Alive", keys), Some("keep_alive"));
        assert_eq!(nearest("request", keys), Some("requests"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(hint("requsts", keys), "; did you mean `requests`?");
        assert_eq!(hint("colour", keys), "");
    }

    #[test]
    fn long_words_are_not_compared() {
        let word = "a".repeat(WORD_MAX);
        let next = format!("{word}a");
        assert_eq!(nearest(&word, [&*next]), Some(&*next));
        assert_eq!(nearest(&next, [&*word]), None);
        let huge = "a".repeat(10 << 20);
        assert_eq!(nearest(&huge, [&*huge]), None);
        assert_eq!(nearest(&word, [&*huge]), None);
    }

    #[test]
    fn a_swap_is_one_mistake() {
        assert_eq!(distance("lsiten", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
