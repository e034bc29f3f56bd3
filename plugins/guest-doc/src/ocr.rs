//! Text in pictures: what the host's recognition takes and gives, and how its lines become text.

use crate::text::is_wide;
use crate::{Area, HostError, Result};

/// A picture as the host takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// PNG, JPEG or TIFF.
    Encoded(Vec<u8>),
    /// 8-bit grey pixels, row by row.
    Grey { width: u32, height: u32, pixels: Vec<u8> },
}

/// A line that was recognised, in pixels of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct OcrLine {
    pub text: String,
    pub area: Area,
    /// From 0 to 1.
    pub confidence: f32,
}

/// Recognises text. Languages are the knowledge base's.
pub trait Ocr {
    fn recognize(&self, image: Image) -> Result<Vec<OcrLine>, HostError>;
}

/// Where nothing recognises text.
#[derive(Debug, Clone, Copy)]
pub struct NoOcr;

impl Ocr for NoOcr {
    fn recognize(&self, _: Image) -> Result<Vec<OcrLine>, HostError> {
        Err(HostError {
            code: HostError::UNAVAILABLE,
            message: "text recognition is not available".to_owned(),
            retryable: false,
        })
    }
}

/// Paragraphs of recognised lines: a gap wider than most of a line's height ends one. Lines of Han text are joined
/// without a space.
pub fn join_lines(lines: &[OcrLine]) -> Vec<(String, Area)> {
    let mut paragraphs: Vec<(String, Area)> = Vec::new();
    for line in lines.iter().filter(|line| !line.text.trim().is_empty()) {
        let text = line.text.trim();
        let near = paragraphs.last().is_some_and(|(_, area)| {
            let gap = line.area.y - (area.y + area.height);
            gap > -line.area.height && gap < line.area.height * 0.9
        });
        match paragraphs.last_mut() {
            Some((joined, area)) if near => {
                let wide = joined.chars().next_back().is_some_and(is_wide)
                    && text.chars().next().is_some_and(is_wide);
                if !wide {
                    joined.push(' ');
                }
                joined.push_str(text);
                *area = area.union(line.area);
            }
            _ => paragraphs.push((text.to_owned(), line.area)),
        }
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_join_within_a_paragraph() {
        let line = |text: &str, y: f32| OcrLine {
            text: text.to_owned(),
            area: Area { x: 10.0, y, width: 100.0, height: 20.0 },
            confidence: 0.9,
        };
        let joined = join_lines(&[
            line("知识库把文档", 0.0),
            line("变成答案", 28.0),
            line("Two", 80.0),
            line("words", 108.0),
        ]);
        let texts: Vec<&str> = joined.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["知识库把文档变成答案", "Two words"]);
        assert_eq!(joined[0].1.height, 48.0);
    }
}
