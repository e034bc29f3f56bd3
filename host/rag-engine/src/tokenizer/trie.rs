//! Finds the longest token at the start of some bytes.

/// A byte trie in four flat arrays. Children of a node stand next to each other, sorted by label.
#[derive(Debug)]
pub(super) struct Trie {
    /// Token that ends at a node; 0 for none (id 0 is no token).
    ids: Vec<u32>,
    /// Children of node `n` are the nodes `children[n]..children[n + 1]`.
    children: Vec<u32>,
    /// The byte that leads to a node.
    labels: Vec<u8>,
    /// Node of each first byte; 0 for none (node 0 is the root).
    first: Box<[u32; 256]>,
}

impl Trie {
    /// `tokens` are sorted by their bytes, distinct and not empty.
    pub(super) fn new(tokens: &[(Vec<u8>, u32)]) -> Self {
        let mut trie = Self { ids: vec![0], children: vec![], labels: vec![0], first: Box::new([0; 256]) };
        // Breadth first: `ranges[n]` are the tokens that begin with node n's bytes, `depth` bytes long.
        let mut ranges = vec![(0..tokens.len(), 0)];
        let mut node = 0;
        while node < ranges.len() {
            trie.children.push(ranges.len() as u32);
            let (mut range, depth) = ranges[node].clone();
            if range.start < range.end && tokens[range.start].0.len() == depth {
                trie.ids[node] = tokens[range.start].1;
                range.start += 1;
            }
            while range.start < range.end {
                let label = tokens[range.start].0[depth];
                let len = tokens[range.clone()].partition_point(|token| token.0[depth] == label);
                if node == 0 {
                    trie.first[label as usize] = ranges.len() as u32;
                }
                ranges.push((range.start..range.start + len, depth + 1));
                trie.ids.push(0);
                trie.labels.push(label);
                range.start += len;
            }
            node += 1;
        }
        trie.children.push(ranges.len() as u32);
        trie
    }

    /// Id and length of the longest token that `bytes` begin with; none when no token matches.
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut best = None;
        self.walk(bytes, |id, len| best = Some((id, len)));
        best
    }

    /// Every token that `bytes` begin with, shortest first.
    pub(super) fn prefixes(&self, bytes: &[u8], mut found: impl FnMut(u32)) {
        self.walk(bytes, |id, _| found(id));
    }

    fn walk(&self, bytes: &[u8], mut found: impl FnMut(u32, usize)) {
        let Some(&first) = bytes.first() else { return };
        let mut node = self.first[first as usize] as usize;
        let mut len = 1;
        while node != 0 {
            if self.ids[node] != 0 {
                found(self.ids[node], len);
            }
            let Some(&next) = bytes.get(len) else { break };
            node = self.child(node, next).unwrap_or(0);
            len += 1;
        }
    }

    /// Whether some token begins with all of `bytes` and goes on.
    pub(super) fn begins_longer(&self, bytes: &[u8]) -> bool {
        let Some((&first, rest)) = bytes.split_first() else { return true };
        let mut node = self.first[first as usize] as usize;
        for &label in rest {
            let Some(next) = self.child(node, label) else { return false };
            node = next;
        }
        node != 0 && self.children[node] < self.children[node + 1]
    }

    fn child(&self, node: usize, label: u8) -> Option<usize> {
        let (start, end) = (self.children[node] as usize, self.children[node + 1] as usize);
        self.labels[start..end].binary_search(&label).ok().map(|at| start + at)
    }
}
