//! Finds every vocabulary piece that a text begins with: a byte trie in three flat arrays.

/// Nodes in breadth-first order; the children of a node lie side by side, sorted by label.
#[derive(Debug)]
pub(crate) struct Trie {
    labels: Vec<u8>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// First child.
    first: u32,
    /// One past the last child.
    end: u32,
    /// Row of the piece that ends here, or `NONE`.
    row: u32,
}

const NONE: u32 = u32::MAX;

impl Trie {
    /// `sorted` holds each piece once, in byte order, with its row.
    ///
    /// # Errors
    /// An empty piece, or one that is there twice.
    pub(crate) fn new(sorted: &[(&[u8], u32)]) -> Result<Self, String> {
        let mut trie = Trie { labels: vec![0], nodes: vec![Node { first: 0, end: 0, row: NONE }] };
        // Pieces under node `at` are `sorted[low..high]`; they share their first `depth` bytes.
        let mut open = std::collections::VecDeque::from([(0usize, 0usize, sorted.len(), 0usize)]);
        while let Some((at, mut low, high, depth)) = open.pop_front() {
            if low < high && sorted[low].0.len() == depth {
                if depth == 0 {
                    return Err("a piece is empty".to_owned());
                }
                trie.nodes[at].row = sorted[low].1;
                low += 1;
            }
            trie.nodes[at].first = trie.nodes.len() as u32;
            while low < high {
                let Some(&label) = sorted[low].0.get(depth) else {
                    return Err(format!(
                        "the piece {:?} is there twice",
                        String::from_utf8_lossy(sorted[low].0)
                    ));
                };
                let end =
                    low + sorted[low..high].partition_point(|(piece, _)| piece.get(depth) == Some(&label));
                open.push_back((trie.nodes.len(), low, end, depth + 1));
                trie.labels.push(label);
                trie.nodes.push(Node { first: 0, end: 0, row: NONE });
                low = end;
            }
            trie.nodes[at].end = trie.nodes.len() as u32;
        }
        Ok(trie)
    }

    /// Calls `found(bytes, row)` for every piece that `text` begins with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let mut node = self.nodes[0];
        for (at, byte) in text.iter().enumerate() {
            let children = &self.labels[node.first as usize..node.end as usize];
            let Ok(child) = children.binary_search(byte) else { return };
            node = self.nodes[node.first as usize + child];
            if node.row != NONE {
                found(at + 1, node.row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(trie: &Trie, text: &str) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        trie.prefixes(text.as_bytes(), |bytes, row| found.push((bytes, row)));
        found
    }

    #[test]
    fn finds_each_piece_that_begins_the_text() {
        let trie =
            Trie::new(&[(b"a", 7), (b"abc", 9), (b"b", 1), ("知".as_bytes(), 3), ("知识".as_bytes(), 4)]);
        let trie = trie.unwrap();
        assert_eq!(prefixes(&trie, "abcd"), [(1, 7), (3, 9)]);
        assert_eq!(prefixes(&trie, "ab"), [(1, 7)]);
        assert_eq!(prefixes(&trie, "知识库"), [(3, 3), (6, 4)]);
        assert_eq!(prefixes(&trie, "识"), []);
        assert_eq!(prefixes(&trie, ""), []);
    }

    #[test]
    fn refuses_empty_and_repeated_pieces() {
        assert!(Trie::new(&[(b"", 1)]).unwrap_err().contains("empty"));
        assert!(Trie::new(&[(b"ab", 1), (b"ab", 2)]).unwrap_err().contains("twice"));
    }
}
