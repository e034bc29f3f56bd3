//! Which parts of one knowledge base are kept bound, and which of its indexes somebody still searches.

use std::collections::VecDeque;
use std::sync::Arc;

/// Generations and tries of one knowledge base that are kept bound though nobody uses them.
const IDLE_MAX: usize = 4;
/// Indexes that are remembered as gone.
const GONE_MAX: usize = 64;

/// What is kept: something whose users hold a reference each, and that searches one index.
pub(crate) trait Held {
    type Used: ?Sized;
    fn used(&self) -> &Arc<Self::Used>;
    fn index(&self) -> &str;
}

/// The kept ones of a knowledge base; the one that waited longest for a use stands first.
#[derive(Debug)]
pub(crate) struct Kept<B> {
    pub(super) all: Vec<B>,
    gone: VecDeque<String>,
}

impl<B> Default for Kept<B> {
    fn default() -> Self {
        Kept { all: Vec::new(), gone: VecDeque::new() }
    }
}

impl<B: Held> Kept<B> {
    /// Adds one and lets go of the idle one that waited longest when there are many. One that a request uses stays, or
    /// nobody would know that its index is searched.
    pub(super) fn keep(&mut self, one: B) {
        if self.all.len() >= IDLE_MAX
            && let Some(idle) = self.all.iter().position(|one| !self.in_use(one))
        {
            self.all.remove(idle);
        }
        self.all.push(one);
    }

    pub(super) fn any_in_use(&self) -> bool {
        self.all.iter().any(|one| self.in_use(one))
    }

    /// Lets go of an index unless a request searches it. From then on `is_gone`.
    pub(super) fn retire(&mut self, index: &str) -> bool {
        if self.all.iter().any(|one| one.index() == index && self.in_use(one)) {
            return false;
        }
        self.all.retain(|one| one.index() != index);
        if self.gone.len() >= GONE_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(index.to_owned());
        true
    }

    /// Whether an index went: who read its name before that asks too late.
    pub(super) fn is_gone(&self, index: &str) -> bool {
        self.gone.iter().any(|gone| gone == index)
    }

    /// Every request that began with it holds one reference more than are kept here.
    fn in_use(&self, one: &B) -> bool {
        let kept = self.all.iter().filter(|other| Arc::ptr_eq(other.used(), one.used())).count();
        Arc::strong_count(one.used()) > kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Part(Arc<()>, String);

    impl Held for Part {
        type Used = ();
        fn used(&self) -> &Arc<()> {
            &self.0
        }
        fn index(&self) -> &str {
            &self.1
        }
    }

    #[test]
    fn an_index_stays_while_a_request_of_it_goes_on_however_many_swaps_follow() {
        let mut kept = Kept::default();
        let request = Arc::new(());
        kept.keep(Part(request.clone(), "g1".into()));
        for _ in 0..20 {
            kept.keep(Part(Arc::default(), "g2".into()));
            assert!(!kept.retire("g1"), "a request searches it");
        }
        assert_eq!(kept.all.len(), IDLE_MAX, "those that nobody uses go");
        assert!(kept.any_in_use() && !kept.is_gone("g1"));
        drop(request);
        assert!(kept.retire("g1"));
        assert!(kept.is_gone("g1") && !kept.is_gone("g2") && !kept.any_in_use());
    }

    #[test]
    fn what_generations_share_is_in_use_only_beyond_them() {
        let mut kept = Kept::default();
        let shared = Arc::new(());
        kept.keep(Part(shared.clone(), "g1".into()));
        kept.keep(Part(shared.clone(), "g1".into()));
        assert!(!kept.retire("g1"));
        drop(shared);
        assert!(kept.retire("g1"));
    }
}
