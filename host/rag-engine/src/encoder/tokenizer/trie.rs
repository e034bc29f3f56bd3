//! Finds every vocabulary piece that a text begins with: a byte trie in flat arrays.

/// Nodes in breadth-first order; the children of a node lie side by side, sorted by label.
#[derive(Debug)]
pub(crate) struct Trie {
    labels: Vec<u8>,
    nodes: Vec<Node>,
    /// Children by label, 256 a node, of the nodes with many: `NONE` where there is none.
    tables: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// First child.
    first: u32,
    /// One past the last child.
    end: u32,
    /// Row of the piece that ends here, or `NONE`.
    row: u32,
    /// Where its children by label begin in `tables`, or `NONE`: then they are few.
    table: u32,
}

const NONE: u32 = u32::MAX;
/// Children that are looked through one by one; a node with more has a table.
const FEW: usize = 8;

impl Trie {
    /// `sorted` holds each piece once, in byte order, with its row.
    ///
    /// # Errors
    /// An empty piece, or one that is there twice.
    pub(crate) fn new(sorted: &[(&[u8], u32)]) -> Result<Self, String> {
        let leaf = Node { first: 0, end: 0, row: NONE, table: NONE };
        let mut trie = Trie { labels: vec![0], nodes: vec![leaf], tables: Vec::new() };
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
                trie.nodes.push(leaf);
                low = end;
            }
            trie.nodes[at].end = trie.nodes.len() as u32;
        }
        trie.tabulate();
        Ok(trie)
    }

    /// Gives the nodes with many children a table of them.
    fn tabulate(&mut self) {
        for node in &mut self.nodes {
            let children = node.first..node.end;
            if children.len() > FEW {
                node.table = self.tables.len() as u32;
                self.tables.resize(self.tables.len() + 256, NONE);
                for child in children {
                    self.tables[node.table as usize + usize::from(self.labels[child as usize])] = child;
                }
            }
        }
    }

    #[inline]
    fn child(&self, node: Node, label: u8) -> Option<usize> {
        if node.table != NONE {
            let child = self.tables[node.table as usize + usize::from(label)];
            return (child != NONE).then_some(child as usize);
        }
        let children = &self.labels[node.first as usize..node.end as usize];
        children.iter().position(|known| *known == label).map(|at| node.first as usize + at)
    }

    /// Calls `found(bytes, row)` for every piece that `text` begins with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let mut node = self.nodes[0];
        for (at, byte) in text.iter().enumerate() {
            let Some(child) = self.child(node, *byte) else { return };
            node = self.nodes[child];
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
    fn finds_them_among_many_children_too() {
        let pieces: Vec<[u8; 2]> = (b'a'..=b'z').map(|label| [b'x', label]).collect();
        let sorted: Vec<(&[u8], u32)> = pieces.iter().map(|piece| piece.as_slice()).zip(10..).collect();
        let trie = Trie::new(&sorted).unwrap();
        assert_eq!(prefixes(&trie, "xay"), [(2, 10)]);
        assert_eq!(prefixes(&trie, "xzz"), [(2, 35)]);
        assert_eq!(prefixes(&trie, "xA"), []);
    }

    #[test]
    fn refuses_empty_and_repeated_pieces() {
        assert!(Trie::new(&[(b"", 1)]).unwrap_err().contains("empty"));
        assert!(Trie::new(&[(b"ab", 1), (b"ab", 2)]).unwrap_err().contains("twice"));
    }
}
