//! Hora's graph. Of 0.1.1 only its Euclidean distance works: the cosine panics, dot product and angular distance find the
//! farthest; what is no number panics, nothing can be deleted, and a name that is added twice is found twice.

use hora::core::ann_index::ANNIndex as _;
use hora::core::metrics::Metric;
use hora::index::hnsw_idx::HNSWIndex;
use hora::index::hnsw_params::HNSWParams;

use crate::Approximate;

/// Neighbours of a row on the lowest level, and above it.
const NEIGHBOURS: (usize, usize) = (32, 16);
/// Rows that are looked at for a new one's neighbours, and for a question; hora cannot change them later.
const EF: usize = 128;

struct Hnsw(HNSWIndex<f32, usize>);

/// A graph of vectors of one dimension, without any.
pub(crate) fn empty(dim: usize) -> Box<dyn Approximate> {
    let params = HNSWParams::default().n_neighbor0(NEIGHBOURS.0).n_neighbor(NEIGHBOURS.1);
    // Before it could be so large it has long been begun anew.
    Box::new(Hnsw(HNSWIndex::new(dim, &params.ef_build(EF).ef_search(EF).max_item(usize::MAX))))
}

impl Approximate for Hnsw {
    fn add(&mut self, vector: &[f32], number: usize) -> Result<(), &'static str> {
        self.0.add(vector, number)
    }

    fn build(&mut self) -> Result<(), &'static str> {
        self.0.build(Metric::Euclidean)
    }

    fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, Vec<f32>)> {
        let found = self.0.search_nodes(query, k).into_iter();
        found.filter_map(|(node, _)| Some(((*node.idx())?, node.vectors().clone()))).collect()
    }
}
