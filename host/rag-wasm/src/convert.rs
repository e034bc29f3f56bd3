//! The one place where component types and domain types become each other.

use rag_core::document::{Block, BlockKind, ChunkId, Location, Rect, Span, Vectors};
use rag_core::search::{CompareOp, Filter, FilterNode, Hit, Metric, Value};
use rag_core::{Error, ErrorCode};

use crate::bindings::ragkit::types::types as wit;
use crate::sink::clean;

/// Longest message of an error that crosses in either direction, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What a guest is told of a port's failure.
pub(crate) fn error_to_guest(err: &Error) -> wit::Error {
    let code = match err.code() {
        ErrorCode::InvalidInput => wit::ErrorCode::InvalidInput,
        ErrorCode::Unsupported => wit::ErrorCode::Unsupported,
        ErrorCode::NotFound => wit::ErrorCode::NotFound,
        ErrorCode::Conflict => wit::ErrorCode::Conflict,
        ErrorCode::Quota => wit::ErrorCode::Quota,
        ErrorCode::Denied | ErrorCode::Unavailable | ErrorCode::Cancelled => wit::ErrorCode::Unavailable,
        ErrorCode::Timeout => wit::ErrorCode::Timeout,
        ErrorCode::Internal => wit::ErrorCode::Internal,
    };
    wit::Error { code, message: clean(&err.to_string(), MESSAGE_BYTES_MAX), retryable: err.retryable() }
}

/// A guest's code in the host's words.
pub(crate) fn code_from_guest(code: wit::ErrorCode) -> ErrorCode {
    match code {
        wit::ErrorCode::InvalidInput => ErrorCode::InvalidInput,
        wit::ErrorCode::Unsupported => ErrorCode::Unsupported,
        wit::ErrorCode::NotFound => ErrorCode::NotFound,
        wit::ErrorCode::Conflict => ErrorCode::Conflict,
        wit::ErrorCode::Quota => ErrorCode::Quota,
        wit::ErrorCode::Unavailable => ErrorCode::Unavailable,
        wit::ErrorCode::Timeout => ErrorCode::Timeout,
        wit::ErrorCode::Internal => ErrorCode::Internal,
    }
}

pub(crate) fn vectors_to_guest(vectors: &Vectors) -> wit::Vectors {
    wit::Vectors { dim: u32_of(vectors.dim), data: vectors.data.clone() }
}

pub(crate) fn metric_to_guest(metric: Metric) -> wit::Metric {
    match metric {
        Metric::Cosine => wit::Metric::Cosine,
        Metric::Dot => wit::Metric::Dot,
        Metric::Euclidean => wit::Metric::Euclidean,
    }
}

pub(crate) fn metric_from_guest(metric: wit::Metric) -> Metric {
    match metric {
        wit::Metric::Cosine => Metric::Cosine,
        wit::Metric::Dot => Metric::Dot,
        wit::Metric::Euclidean => Metric::Euclidean,
    }
}

pub(crate) fn value_to_guest(value: &Value) -> wit::Value {
    match value {
        Value::Text(text) => wit::Value::Text(text.clone()),
        Value::Integer(integer) => wit::Value::Integer(*integer),
        Value::Number(number) => wit::Value::Number(*number),
        Value::Boolean(boolean) => wit::Value::Boolean(*boolean),
    }
}

pub(crate) fn value_from_guest(value: wit::Value) -> Value {
    match value {
        wit::Value::Text(text) => Value::Text(text),
        wit::Value::Integer(integer) => Value::Integer(integer),
        wit::Value::Number(number) => Value::Number(number),
        wit::Value::Boolean(boolean) => Value::Boolean(boolean),
    }
}

/// One list of fields a row.
pub(crate) fn fields_to_guest(fields: &[Vec<(String, Value)>]) -> Vec<Vec<(String, wit::Value)>> {
    let row = |row: &Vec<(String, Value)>| row.iter().map(|(k, v)| (k.clone(), value_to_guest(v))).collect();
    fields.iter().map(row).collect()
}

pub(crate) fn fields_from_guest(fields: Vec<Vec<(String, wit::Value)>>) -> Vec<Vec<(String, Value)>> {
    let row =
        |row: Vec<(String, wit::Value)>| row.into_iter().map(|(k, v)| (k, value_from_guest(v))).collect();
    fields.into_iter().map(row).collect()
}

pub(crate) fn filter_to_guest(filter: &Filter) -> wit::Filter {
    let node = |node: &FilterNode| match node {
        FilterNode::AllOf(children) => wit::FilterNode::AllOf(children.clone()),
        FilterNode::AnyOf(children) => wit::FilterNode::AnyOf(children.clone()),
        FilterNode::NoneOf(children) => wit::FilterNode::NoneOf(children.clone()),
        FilterNode::Compare { field, op, value } => wit::FilterNode::Compare(wit::Comparison {
            field: field.clone(),
            op: match op {
                CompareOp::Eq => wit::CompareOp::Eq,
                CompareOp::Ne => wit::CompareOp::Ne,
                CompareOp::Lt => wit::CompareOp::Lt,
                CompareOp::Le => wit::CompareOp::Le,
                CompareOp::Gt => wit::CompareOp::Gt,
                CompareOp::Ge => wit::CompareOp::Ge,
            },
            value: value_to_guest(value),
        }),
        FilterNode::OneOf { field, values } => wit::FilterNode::OneOf(wit::Membership {
            field: field.clone(),
            values: values.iter().map(value_to_guest).collect(),
        }),
        FilterNode::Exists { field } => wit::FilterNode::Exists(field.clone()),
    };
    wit::Filter { nodes: filter.nodes.iter().map(node).collect() }
}

/// Not yet checked: see `check::filter`.
pub(crate) fn filter_from_guest(filter: wit::Filter) -> Filter {
    let node = |node: wit::FilterNode| match node {
        wit::FilterNode::AllOf(children) => FilterNode::AllOf(children),
        wit::FilterNode::AnyOf(children) => FilterNode::AnyOf(children),
        wit::FilterNode::NoneOf(children) => FilterNode::NoneOf(children),
        wit::FilterNode::Compare(comparison) => FilterNode::Compare {
            field: comparison.field,
            op: match comparison.op {
                wit::CompareOp::Eq => CompareOp::Eq,
                wit::CompareOp::Ne => CompareOp::Ne,
                wit::CompareOp::Lt => CompareOp::Lt,
                wit::CompareOp::Le => CompareOp::Le,
                wit::CompareOp::Gt => CompareOp::Gt,
                wit::CompareOp::Ge => CompareOp::Ge,
            },
            value: value_from_guest(comparison.value),
        },
        wit::FilterNode::OneOf(membership) => FilterNode::OneOf {
            field: membership.field,
            values: membership.values.into_iter().map(value_from_guest).collect(),
        },
        wit::FilterNode::Exists(field) => FilterNode::Exists { field },
    };
    Filter { nodes: filter.nodes.into_iter().map(node).collect() }
}

pub(crate) fn hits_to_guest(hits: Vec<Hit>) -> Vec<wit::Hit> {
    hits.into_iter().map(|hit| wit::Hit { chunk: hit.chunk.0, score: hit.score }).collect()
}

pub(crate) fn hits_from_guest(hits: Vec<wit::Hit>) -> Vec<Hit> {
    hits.into_iter().map(|hit| Hit { chunk: ChunkId(hit.chunk), score: hit.score }).collect()
}

pub(crate) fn kind_to_guest(kind: BlockKind) -> wit::BlockKind {
    match kind {
        BlockKind::Title => wit::BlockKind::Title,
        BlockKind::Heading => wit::BlockKind::Heading,
        BlockKind::Paragraph => wit::BlockKind::Paragraph,
        BlockKind::ListItem => wit::BlockKind::ListItem,
        BlockKind::Table => wit::BlockKind::Table,
        BlockKind::Code => wit::BlockKind::Code,
        BlockKind::Quote => wit::BlockKind::Quote,
        BlockKind::Caption => wit::BlockKind::Caption,
        BlockKind::Footnote => wit::BlockKind::Footnote,
        BlockKind::Image => wit::BlockKind::Image,
    }
}

fn kind_from_guest(kind: wit::BlockKind) -> BlockKind {
    match kind {
        wit::BlockKind::Title => BlockKind::Title,
        wit::BlockKind::Heading => BlockKind::Heading,
        wit::BlockKind::Paragraph => BlockKind::Paragraph,
        wit::BlockKind::ListItem => BlockKind::ListItem,
        wit::BlockKind::Table => BlockKind::Table,
        wit::BlockKind::Code => BlockKind::Code,
        wit::BlockKind::Quote => BlockKind::Quote,
        wit::BlockKind::Caption => BlockKind::Caption,
        wit::BlockKind::Footnote => BlockKind::Footnote,
        wit::BlockKind::Image => BlockKind::Image,
    }
}

pub(crate) fn block_from_guest(block: wit::Block) -> Block {
    let wit::Location { page, part, row, area, source } = block.location;
    Block {
        kind: kind_from_guest(block.kind),
        level: block.level,
        text: block.text,
        location: Location {
            page,
            part,
            row,
            area: area.map(|wit::Rect { x, y, width, height }| Rect { x, y, width, height }),
            source: source.map(|range| Span { start: range.start, end: range.end }),
        },
    }
}

/// Sizes that limits keep far below 2^32.
pub(crate) fn u32_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
