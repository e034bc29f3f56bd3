//! Finds every vocabulary piece that a run of characters begins with: a trie over numbered characters.
//!
//! Most searches end at the second character. A filter small enough for the processor's second cache says so; what it
//! lets through is looked up in one hash table of all edges.

use std::collections::HashMap;

/// A character's number: from 1 in the order in which `Trie::new` met it. Characters of no piece have number 0.
pub(crate) type Class = u32;

/// What a search finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    pub(crate) row: u32,
    pub(crate) score: f32,
}

#[derive(Debug)]
pub(crate) struct Trie {
    /// First one that nothing leads to or from, then the characters by number, then longer beginnings of pieces.
    nodes: Vec<Piece>,
    /// Open addressing in a power of two of slots; an edge to node 0 is none.
    edges: Vec<Edge>,
    /// A bit for the hash of every edge, the same power of two times 8.
    filter: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    from: u32,
    class: Class,
    to: u32,
}

/// Row of a node where no piece ends.
const NONE: u32 = u32::MAX;
/// Slots for each edge at least, and bits of the filter for each slot.
const SLOTS_PER_EDGE: usize = 2;
const BITS_PER_SLOT: usize = 8;

impl Trie {
    /// `classes` is one more than the largest number; `pieces` are spelled in numbers.
    ///
    /// # Errors
    /// An empty piece, or one that is there twice.
    pub(crate) fn new(classes: usize, pieces: &[(Vec<Class>, Piece)]) -> Result<Self, String> {
        let mut edges: HashMap<(u32, Class), u32> = HashMap::new();
        let mut nodes = vec![Piece { row: NONE, score: 0.0 }; classes];
        for (spelling, piece) in pieces {
            let Some((&first, rest)) = spelling.split_first() else {
                return Err("a piece is empty".to_owned());
            };
            let mut at = first;
            for &class in rest {
                at = *edges.entry((at, class)).or_insert_with(|| {
                    nodes.push(Piece { row: NONE, score: 0.0 });
                    nodes.len() as u32 - 1
                });
            }
            let node = &mut nodes[at as usize];
            if node.row != NONE {
                return Err(format!("the pieces of rows {} and {} are the same", node.row, piece.row));
            }
            *node = *piece;
        }
        let slots = (edges.len().max(1) * SLOTS_PER_EDGE).next_power_of_two().max(64);
        let mut trie =
            Trie { nodes, edges: vec![Edge::default(); slots], filter: vec![0; slots * BITS_PER_SLOT / 64] };
        for ((from, class), to) in edges {
            trie.add(Edge { from, class, to });
        }
        Ok(trie)
    }

    fn add(&mut self, edge: Edge) {
        let hash = hash(edge.from, edge.class);
        let (words, slots) = (self.filter.len(), self.edges.len());
        self.filter[hash / 64 % words] |= 1 << (hash % 64);
        let mut slot = hash / BITS_PER_SLOT % slots;
        while self.edges[slot].to != 0 {
            slot = (slot + 1) % slots;
        }
        self.edges[slot] = edge;
    }

    /// The node after `from`; 0 when there is none.
    #[inline]
    fn follow(&self, from: u32, class: Class) -> u32 {
        let hash = hash(from, class);
        // Both lengths are powers of two.
        if self.filter[(hash / 64) & (self.filter.len() - 1)] & (1 << (hash % 64)) == 0 {
            return 0;
        }
        let mut slot = (hash / BITS_PER_SLOT) & (self.edges.len() - 1);
        loop {
            let edge = self.edges[slot];
            if edge.to == 0 || (edge.from == from && edge.class == class) {
                return edge.to;
            }
            slot = (slot + 1) & (self.edges.len() - 1);
        }
    }

    /// Calls `found(characters, piece)` for every piece that `text` begins with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[Class], mut found: impl FnMut(usize, Piece)) {
        let Some((&first, rest)) = text.split_first() else { return };
        let (mut at, mut length) = (first, 1);
        let mut rest = rest.iter();
        while at != 0 {
            let piece = self.nodes[at as usize];
            if piece.row != NONE {
                found(length, piece);
            }
            let Some(&class) = rest.next() else { return };
            at = self.follow(at, class);
            length += 1;
        }
    }
}

/// Bits of a product with a large odd number.
#[inline]
fn hash(from: u32, class: Class) -> usize {
    let key = u64::from(from) << 32 | u64::from(class);
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(row: u32) -> Piece {
        Piece { row, score: -(row as f32) }
    }

    fn check(trie: &Trie, text: &[Class], expected: &[(usize, u32)]) {
        let mut found = Vec::new();
        trie.prefixes(text, |length, piece| found.push((length, piece.row)));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn finds_each_piece_that_begins_the_text() {
        let pieces = [(vec![1], piece(7)), (vec![1, 2, 3], piece(9)), (vec![2], piece(1))];
        let trie = Trie::new(5, &pieces).unwrap();
        check(&trie, &[1, 2, 3, 4], &[(1, 7), (3, 9)]);
        check(&trie, &[1, 2], &[(1, 7)]);
        check(&trie, &[2, 1], &[(1, 1)]);
        check(&trie, &[3], &[]);
        check(&trie, &[0, 1], &[]);
        check(&trie, &[1, 0], &[(1, 7)]);
        check(&trie, &[], &[]);
    }

    #[test]
    fn finds_them_among_many_followers_too() {
        let pieces: Vec<(Vec<Class>, Piece)> =
            (1..200).map(|class| (vec![300, class], piece(class))).collect();
        let trie = Trie::new(301, &pieces).unwrap();
        for class in 1..200 {
            check(&trie, &[300, class, 5], &[(2, class)]);
        }
        check(&trie, &[300, 250], &[]);
        check(&trie, &[300, 0], &[]);
    }

    #[test]
    fn refuses_empty_and_repeated_pieces() {
        let refused = |pieces: &[(Vec<Class>, Piece)]| Trie::new(3, pieces).unwrap_err();
        assert!(refused(&[(vec![], piece(4))]).contains("empty"));
        assert!(refused(&[(vec![1, 2], piece(4)), (vec![1, 2], piece(5))]).contains("4 and 5"));
    }
}
