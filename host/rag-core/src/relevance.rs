//! Does a passage speak to the question at all, or is it only the least bad of the knowledge base?

use crate::recall::Recalled;
use crate::script::is_chinese;

/// Scores below which a passage is no match; calibrated for the shipped models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelevanceMin {
    /// For the reranker's score.
    pub rerank: Floor,
    /// For the dense arm's cosine, when nothing reranks.
    pub dense: Floor,
}

/// A multilingual encoder scores a Chinese passage for a Chinese question higher than any other pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// Question and passage are Chinese.
    pub chinese: f32,
    /// Either is not.
    pub other: f32,
}

impl Floor {
    /// The same for every pair.
    pub fn same(score: f32) -> Self {
        Floor { chinese: score, other: score }
    }

    /// Whether the passage reaches it. One that only words found has no score to compare: it counts as relevant.
    pub(crate) fn admits(self, question: &str, hit: &Recalled) -> bool {
        let both = is_chinese(question) && is_chinese(&hit.passage.text);
        let floor = if both { self.chinese } else { self.other };
        hit.relevance.is_none_or(|relevance| relevance >= floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{ChunkId, DocumentId, Span};
    use crate::search::Passage;

    fn check(question: &str, text: &str, relevance: Option<f32>, admitted: bool) {
        let passage = Passage {
            chunk: ChunkId("c".into()),
            document: DocumentId("d".into()),
            document_name: "d.md".into(),
            text: text.into(),
            span: Span { start: 0, end: text.len() as u64 },
            parent: None,
            heading: None,
            page: None,
            source: None,
        };
        let hit = Recalled { passage, rank: 1, score: 0.0, relevance, evidence: vec![] };
        let floor = Floor { chinese: 0.83, other: 0.77 };
        assert_eq!(floor.admits(question, &hit), admitted, "{question} {text}");
    }

    #[test]
    fn the_higher_floor_is_for_chinese_in_both() {
        check("怎样安装？", "用 apt 安装软件包。", Some(0.8), false);
        check("怎样安装？", "用 apt 安装软件包。", Some(0.83), true);
        check("怎样安装？", "Packages are installed with apt.", Some(0.8), true);
        check("How to install?", "用 apt 安装软件包。", Some(0.8), true);
        check("How to install?", "Packages are installed with apt.", Some(0.76), false);
        check("怎样安装？", "无人评分", None, true);
    }
}
