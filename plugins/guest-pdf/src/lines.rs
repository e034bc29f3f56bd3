//! How do fragments become lines? Those on one baseline, each to the right of the one before.

use guest_doc::Area;
use guest_doc::text::is_wide;

use crate::glyphs::{Direction, Fragment};

/// A line of text on a page, in points along and across its direction.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) start: f32,
    pub(crate) end: f32,
    pub(crate) base: f32,
    pub(crate) size: f32,
    pub(crate) direction: Direction,
    /// Every letter as wide as every other.
    pub(crate) mono: bool,
}

impl Line {
    /// Its rectangle on the page.
    pub(crate) fn area(&self) -> Area {
        let (top, height) = (self.base - self.size * 0.85, self.size * 1.1);
        let (length, start) = (self.end - self.start, self.start);
        match self.direction {
            Direction::Right | Direction::Slanted => Area { x: start, y: top, width: length, height },
            Direction::Left => Area { x: -self.end, y: -self.base, width: length, height },
            Direction::Down => Area { x: -self.base, y: start, width: height, height: length },
            Direction::Up => Area { x: top, y: -self.end, width: height, height: length },
        }
    }
}

/// Lines of fragments, in their order. `gutters` part columns that no line crosses.
pub(crate) fn join(fragments: &[Fragment], gutters: &[f32]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut mono: Vec<Mono> = Vec::new();
    for fragment in fragments.iter().filter(|fragment| !fragment.text.trim().is_empty()) {
        let joined = lines.last_mut().filter(|line| goes_on(line, fragment, gutters));
        match (joined, mono.last_mut()) {
            (Some(line), Some(mono)) => {
                let last = line.text.chars().next_back();
                let first = fragment.text.chars().next();
                let close = fragment.start - line.end < line.size * 0.17;
                let wide = last.is_some_and(is_wide) && first.is_some_and(is_wide);
                if !(close || wide && fragment.start - line.end < line.size || last == Some(' ')) {
                    line.text.push(' ');
                }
                line.text.push_str(&fragment.text);
                line.end = line.end.max(fragment.end);
                line.size = line.size.max(fragment.size);
                mono.add(fragment);
            }
            _ => {
                lines.push(Line {
                    text: fragment.text.clone(),
                    start: fragment.start,
                    end: fragment.end,
                    base: fragment.base,
                    size: fragment.size,
                    direction: fragment.direction,
                    mono: false,
                });
                mono.push(Mono::default());
                if let Some(mono) = mono.last_mut() {
                    mono.add(fragment);
                }
            }
        }
    }
    for (line, mono) in lines.iter_mut().zip(mono) {
        line.mono = mono.is();
        let trimmed = line.text.trim();
        line.text = trimmed.to_owned();
    }
    lines.retain(|line| !line.text.is_empty());
    lines
}

fn goes_on(line: &Line, next: &Fragment, gutters: &[f32]) -> bool {
    let size = line.size.max(next.size);
    let on_line = (line.base - next.base).abs() < size * 0.3;
    let crosses = gutters.iter().any(|gutter| line.end <= *gutter && next.start >= *gutter);
    line.direction == next.direction && on_line && next.start > line.end - size * 0.6 && !crosses
}

/// Collects what tells whether type is monospaced.
#[derive(Debug, Default)]
struct Mono {
    low: f32,
    high: f32,
    measured: u32,
    other: usize,
}

impl Mono {
    fn add(&mut self, fragment: &Fragment) {
        if fragment.measured > 0 {
            let fresh = self.measured == 0;
            self.low = if fresh { fragment.advances.0 } else { self.low.min(fragment.advances.0) };
            self.high = self.high.max(fragment.advances.1);
            self.measured += fragment.measured;
        }
        self.other += fragment.text.chars().filter(|c| is_wide(*c)).count();
    }

    fn is(&self) -> bool {
        self.measured >= 4
            && self.high - self.low < 0.02
            && self.high > 0.3
            && self.other * 3 < self.measured as usize
    }
}
