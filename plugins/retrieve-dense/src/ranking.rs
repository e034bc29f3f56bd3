//! In which order do the nearest chunks come back?

use guest_settings::Settings;

/// How many chunks are returned at most: RWKV-RAG's three unless set.
pub fn parse_k(json: &str) -> Result<u32, String> {
    Settings::parse(json, &["k"])?.integer("k", 1..=1_000, 3)
}

/// Best first, ties by id; no chunk twice, nothing that is not a number, at most `k`.
pub fn best_first(mut hits: Vec<(String, f32)>, k: usize) -> Vec<(String, f32)> {
    hits.retain(|(_, score)| score.is_finite());
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut seen = std::collections::BTreeSet::new();
    hits.retain(|(chunk, _)| seen.insert(chunk.clone()));
    hits.truncate(k);
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(chunk: &str, score: f32) -> (String, f32) {
        (chunk.to_owned(), score)
    }

    #[test]
    fn best_come_first_and_once() {
        let hits = vec![hit("c", 0.5), hit("a", 0.9), hit("b", 0.5), hit("a", 0.1), hit("d", f32::NAN)];
        assert_eq!(best_first(hits.clone(), 9), [hit("a", 0.9), hit("b", 0.5), hit("c", 0.5)]);
        assert_eq!(best_first(hits, 1), [hit("a", 0.9)]);
        assert_eq!(best_first(Vec::new(), 3), []);
    }

    #[test]
    fn k_is_three_unless_set() {
        assert_eq!(parse_k("{}"), Ok(3));
        assert_eq!(parse_k(r#"{"k": 1000}"#), Ok(1_000));
        for bad in [r#"{"k": 0}"#, r#"{"k": 1001}"#, r#"{"top": 3}"#] {
            assert!(parse_k(bad).unwrap_err().contains('k'), "{bad}");
        }
    }
}
