//! Which larger chunks take the place of the small ones found?

use std::collections::{HashMap, HashSet};

use guest_retrieve::fusion::Fused;

/// Puts a chunk's parent in its place when at least `children` of the parent's chunks are among `hits`, or the parent
/// itself is. What stands for several has the best score and the evidence of the best; the order stays by score.
pub fn merge(hits: &mut Vec<Fused>, parents: Vec<(String, Option<String>)>, children: usize) {
    let parents: HashMap<String, String> =
        parents.into_iter().filter_map(|(chunk, parent)| Some((chunk, parent?))).collect();
    let mut found: HashMap<&str, usize> = HashMap::new();
    for parent in hits.iter().filter_map(|hit| parents.get(&hit.chunk)) {
        *found.entry(parent).or_default() += 1;
    }
    let own: HashSet<String> = hits.iter().map(|hit| hit.chunk.clone()).collect();
    let stands = |parent: &str| own.contains(parent) || found.get(parent).is_some_and(|n| *n >= children);
    // Best first, so what comes later adds nothing.
    let mut seen = HashSet::new();
    hits.retain_mut(|hit| {
        if let Some(parent) = parents.get(&hit.chunk).filter(|parent| stands(parent)) {
            hit.chunk.clone_from(parent);
        }
        seen.insert(hit.chunk.clone())
    });
}
