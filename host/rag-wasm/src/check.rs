//! Does what a plugin returned, or handed to a host function, keep the contract? Messages say what does not.

use rag_core::document::{Block, ChunkSpan, ParsedSummary, Vectors};
use rag_core::limits::{
    FILTER_DEPTH_MAX, FILTER_NODES_MAX, QUESTION_CHARS_MAX, SEARCH_K_MAX, SECTION_CHUNKS_MAX,
};
use rag_core::ports::{Found, VectorCollection};
use rag_core::search::{Filter, FilterNode, Hit, Retrieval};

/// Why an output or argument is refused.
type Checked = Result<(), String>;

/// Bytes of an id or a collection's name.
const ID_BYTES_MAX: usize = 256;
/// Numbers in one vector.
const DIM_MAX: usize = 65_536;
/// Bytes of a chunk's context.
const CONTEXT_BYTES_MAX: usize = 4 << 10;
/// How many times its length a section's chunks may be in all: overlaps and parents have a use, floods have none.
const OVERLAP_MAX: usize = 16;
const TITLE_BYTES_MAX: usize = 4 << 10;
const ATTRIBUTES_MAX: usize = 64;
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 16 << 10;
const EVIDENCE_MAX: usize = 16;
const STEPS_MAX: usize = 64;
const STEP_BYTES_MAX: usize = 4 << 10;
const ARM_BYTES_MAX: usize = 64;
/// Of a result of a search outside.
const URL_BYTES_MAX: usize = 2 << 10;
const SUMMARY_BYTES_MAX: usize = 8 << 10;

/// Chunks of a section: sorted, in bounds, on character boundaries, not blank, together covering the text.
pub(crate) fn chunks(text: &str, chunks: &[ChunkSpan]) -> Checked {
    if chunks.len() > SECTION_CHUNKS_MAX {
        return Err(format!("{} chunks, more than {SECTION_CHUNKS_MAX}", chunks.len()));
    }
    let (mut previous, mut covered, mut total) = (0, 0, 0_usize);
    for (index, chunk) in chunks.iter().enumerate() {
        let (start, end, slice) = slice(text, chunk).map_err(|why| format!("chunk {index} {why}"))?;
        if slice.trim().is_empty() {
            return Err(format!("chunk {index} is blank"));
        }
        if start < previous {
            return Err(format!("chunk {index} starts before chunk {}", index - 1));
        }
        if start > covered {
            check_blank(text, covered, start)?;
        }
        if let Some(context) = &chunk.context
            && context.len() > CONTEXT_BYTES_MAX
        {
            return Err(format!("chunk {index} has a context of more than {CONTEXT_BYTES_MAX} bytes"));
        }
        parent(chunks, index)?;
        previous = start;
        covered = covered.max(end);
        total = total.saturating_add(end - start);
    }
    if total > text.len().saturating_mul(OVERLAP_MAX) {
        return Err(format!("the chunks are more than {OVERLAP_MAX} times as long as the text"));
    }
    check_blank(text, covered, text.len())
}

fn slice<'t>(text: &'t str, chunk: &ChunkSpan) -> Result<(usize, usize, &'t str), String> {
    let (start, end) = (chunk.span.start, chunk.span.end);
    if start >= end || end > text.len() as u64 {
        return Err(format!("spans {start}..{end} of {} bytes", text.len()));
    }
    // In bounds, so both fit.
    let (start, end) = (start as usize, end as usize);
    match text.get(start..end) {
        Some(slice) => Ok((start, end, slice)),
        None => Err(format!("spans {start}..{end}, which cuts a character")),
    }
}

fn check_blank(text: &str, start: usize, end: usize) -> Checked {
    let gap = text.get(start..end).unwrap_or_default();
    if gap.trim().is_empty() {
        return Ok(());
    }
    Err(format!("no chunk covers the text at {start}..{end}"))
}

fn parent(chunks: &[ChunkSpan], index: usize) -> Checked {
    let Some(chunk) = chunks.get(index) else { return Ok(()) };
    let Some(parent) = chunk.parent else { return Ok(()) };
    let Some(holder) = chunks.get(parent as usize) else {
        return Err(format!("chunk {index} has parent {parent} of {} chunks", chunks.len()));
    };
    let (own, its) = (chunk.span, holder.span);
    // Strictly larger: so nothing is its own ancestor.
    let larger = its.end - its.start > own.end.saturating_sub(own.start);
    if its.start > own.start || its.end < own.end || !larger {
        return Err(format!("chunk {index} is not within its parent {parent}, or not smaller"));
    }
    Ok(())
}

/// Blocks of one batch of a parser, for a document of `document_bytes`. Returns what they count as output, in bytes.
pub(crate) fn blocks(blocks: &[Block], document_bytes: u64, batch_bytes_max: usize) -> Result<u64, String> {
    /// What a block costs beside its text.
    const BLOCK_BYTES: usize = 64;
    let mut bytes = 0_usize;
    for (index, block) in blocks.iter().enumerate() {
        bytes = bytes.saturating_add(block.text.len() + BLOCK_BYTES);
        if bytes > batch_bytes_max {
            return Err(format!("a batch of more than {batch_bytes_max} bytes"));
        }
        if let Some(c) = block.text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            return Err(format!("block {index} contains the control character U+{:04X}", u32::from(c)));
        }
        let location = &block.location;
        if let Some(source) = location.source
            && (source.start > source.end || source.end > document_bytes)
        {
            return Err(format!("block {index} comes from bytes {}..{}", source.start, source.end));
        }
        if let Some(area) = location.area
            && ![area.x, area.y, area.width, area.height].iter().all(|side| side.is_finite())
        {
            return Err(format!("block {index} has an area that is not finite"));
        }
        if location.part.as_ref().is_some_and(|part| part.len() > TITLE_BYTES_MAX) {
            return Err(format!("block {index} names a part of more than {TITLE_BYTES_MAX} bytes"));
        }
    }
    Ok(bytes as u64)
}

/// Title, language and attributes of a document.
pub(crate) fn summary(summary: &ParsedSummary) -> Checked {
    if summary.title.as_ref().is_some_and(|title| title.len() > TITLE_BYTES_MAX) {
        return Err(format!("a title of more than {TITLE_BYTES_MAX} bytes"));
    }
    if summary.language.as_ref().is_some_and(|language| language.len() > ID_BYTES_MAX) {
        return Err(format!("a language of more than {ID_BYTES_MAX} bytes"));
    }
    if summary.attributes.len() > ATTRIBUTES_MAX {
        return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
    }
    for (key, value) in &summary.attributes {
        id(key).map_err(|why| format!("attribute: {why}"))?;
        if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
            return Err(format!("attribute {key} has more than {ATTRIBUTE_VALUE_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// Media types that a parser accepts.
pub(crate) fn media_types(types: &[String]) -> Checked {
    if types.is_empty() || types.len() > ATTRIBUTES_MAX {
        return Err(format!("a parser accepts 1 to {ATTRIBUTES_MAX} media types, this one {}", types.len()));
    }
    let is_type = |name: &str| {
        name.len() <= ID_BYTES_MAX
            && name.matches('/').count() == 1
            && name.chars().all(|c| c.is_ascii_graphic() && !c.is_ascii_uppercase())
    };
    match types.iter().find(|name| !is_type(name)) {
        Some(name) => Err(format!("'{}' is not a media type in lower case", name.escape_debug())),
        None => Ok(()),
    }
}

/// Ids and names: not empty, bounded, printable.
pub(crate) fn id(id: &str) -> Checked {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        let shown: String = id.chars().take(40).collect();
        return Err(format!("'{}' is not a name of 1 to {ID_BYTES_MAX} bytes", shown.escape_debug()));
    }
    Ok(())
}

pub(crate) fn collection(collection: &VectorCollection) -> Checked {
    id(&collection.name)?;
    if !(1..=DIM_MAX).contains(&collection.dim) {
        return Err(format!("dimension {} is not 1 to {DIM_MAX}", collection.dim));
    }
    Ok(())
}

/// Whole rows of finite numbers.
pub(crate) fn vectors(vectors: &Vectors) -> Checked {
    if !(1..=DIM_MAX).contains(&vectors.dim) || !vectors.data.len().is_multiple_of(vectors.dim) {
        return Err(format!("{} numbers are no vectors of dimension {}", vectors.data.len(), vectors.dim));
    }
    match vectors.data.iter().position(|number| !number.is_finite()) {
        Some(place) => Err(format!("number {place} of the vectors is not finite")),
        None => Ok(()),
    }
}

/// At most `k` hits with finite scores, best first, no chunk twice.
pub(crate) fn hits(hits: &[Hit], k: u32) -> Checked {
    if hits.len() > k as usize {
        return Err(format!("{} hits, more than the {k} asked for", hits.len()));
    }
    let mut best = f32::INFINITY;
    for (index, hit) in hits.iter().enumerate() {
        id(&hit.chunk.0).map_err(|why| format!("hit {index}: {why}"))?;
        if !hit.score.is_finite() || hit.score > best {
            return Err(format!("hit {index} has score {} after {best}: not best first", hit.score));
        }
        best = hit.score;
    }
    distinct(hits.iter().map(|hit| hit.chunk.0.as_str()))
}

/// Results of a connector: no more than asked for, none twice, addresses of the web.
pub(crate) fn found(results: &[Found], limit: u32) -> Checked {
    if results.len() > limit as usize {
        return Err(format!("{} results, more than the {limit} asked for", results.len()));
    }
    for result in results {
        let url = &result.url;
        let scheme = url.starts_with("http://") || url.starts_with("https://");
        if !scheme || url.len() > URL_BYTES_MAX || url.contains(|c: char| c.is_control() || c == ' ') {
            return Err(format!("'{}' is no address of the web", url.chars().take(80).collect::<String>()));
        }
        if result.title.len() > TITLE_BYTES_MAX || result.summary.len() > SUMMARY_BYTES_MAX {
            return Err(format!("the title or summary of {url} is too long"));
        }
    }
    distinct(results.iter().map(|result| result.url.as_str()))
}

fn distinct<'a>(ids: impl Iterator<Item = &'a str>) -> Checked {
    let mut seen = std::collections::HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(format!("chunk {} twice", id.escape_debug()));
        }
    }
    Ok(())
}

/// What a retriever answers to a request for `k` hits.
pub(crate) fn retrieval(retrieval: &Retrieval, k: u32) -> Checked {
    let k = k.min(SEARCH_K_MAX);
    if retrieval.hits.len() > k as usize {
        return Err(format!("{} hits, more than the {k} asked for", retrieval.hits.len()));
    }
    for (index, hit) in retrieval.hits.iter().enumerate() {
        id(&hit.chunk.0).map_err(|why| format!("hit {index}: {why}"))?;
        let arms = &hit.evidence;
        if !hit.score.is_finite() || arms.iter().any(|arm| !arm.score.is_finite()) {
            return Err(format!("hit {index} has a score that is not finite"));
        }
        if arms.len() > EVIDENCE_MAX || arms.iter().any(|arm| arm.arm.len() > ARM_BYTES_MAX) {
            return Err(format!("hit {index} has more evidence than {EVIDENCE_MAX} short arms"));
        }
    }
    distinct(retrieval.hits.iter().map(|hit| hit.chunk.0.as_str()))?;
    let long = |step: &rag_core::search::TraceStep| {
        step.name.len() > ID_BYTES_MAX || step.detail.len() > STEP_BYTES_MAX
    };
    if retrieval.steps.len() > STEPS_MAX || retrieval.steps.iter().any(long) {
        return Err(format!("a trace of more than {STEPS_MAX} short steps"));
    }
    if retrieval.rewritten.as_ref().is_some_and(|text| text.chars().count() > QUESTION_CHARS_MAX) {
        return Err(format!("a rewritten question of more than {QUESTION_CHARS_MAX} characters"));
    }
    Ok(())
}

/// Children before parents, each under one parent (or evaluating it could take for ever), not too many, not too deep.
pub(crate) fn filter(filter: &Filter) -> Checked {
    let nodes = &filter.nodes;
    if nodes.is_empty() || nodes.len() > FILTER_NODES_MAX {
        return Err(format!("a filter has 1 to {FILTER_NODES_MAX} nodes, this one {}", nodes.len()));
    }
    let mut depths: Vec<Option<usize>> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let depth = match node {
            FilterNode::AllOf(children) | FilterNode::AnyOf(children) | FilterNode::NoneOf(children) => {
                let mut deepest = 0;
                for child in children {
                    // Taken out, so that no other node finds it.
                    let below = depths.get_mut(*child as usize).and_then(Option::take);
                    let Some(below) = below else {
                        return Err(format!(
                            "filter node {index} has a child that is not before it and free"
                        ));
                    };
                    deepest = deepest.max(below);
                }
                1 + deepest
            }
            FilterNode::Compare { field, .. } | FilterNode::Exists { field } => {
                id(field)?;
                1
            }
            FilterNode::OneOf { field, values } => {
                id(field)?;
                if values.len() > SEARCH_K_MAX as usize {
                    return Err(format!("filter node {index} lists more than {SEARCH_K_MAX} values"));
                }
                1
            }
        };
        if depth > FILTER_DEPTH_MAX {
            return Err(format!("the filter is deeper than {FILTER_DEPTH_MAX}"));
        }
        depths.push(Some(depth));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
