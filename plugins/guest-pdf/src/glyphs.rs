//! Which characters does a page show, and where? Glyphs that follow each other become fragments of lines.

use std::borrow::Cow;
use std::rc::Rc;

use guest_doc::text::is_wide;
use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::kurbo::{Affine, BezPath, PathEl, Point, Rect, Vec2};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};

use crate::accents::{self, Next};
use crate::collections::Collections;

/// Characters of one page; beyond them the page is no text for people.
const PAGE_CHARS_MAX: usize = 1_000_000;
/// Rules of one page that tables are looked for in.
const PAGE_RULES_MAX: usize = 4_000;
/// Gaps between glyphs in shares of the type size: below the first they touch, above the second a space is read, and
/// above the last the line ends.
const GAP_BACK: f64 = -0.6;
pub(crate) const GAP_SPACE: f64 = 0.17;
const GAP_SPACE_WIDE: f64 = 0.7;
const GAP_END: f64 = 1.2;

/// A run of characters on one baseline, in points from the page's top left.
#[derive(Debug, Clone)]
pub(crate) struct Fragment {
    pub(crate) text: String,
    /// Where each character of `text` begins along the line.
    pub(crate) starts: Vec<f32>,
    /// Along the line, from the first character to the end of the last.
    pub(crate) start: f32,
    pub(crate) end: f32,
    /// Across the line: the baseline.
    pub(crate) base: f32,
    /// Type size in points.
    pub(crate) size: f32,
    /// Direction of the line on the page.
    pub(crate) direction: Direction,
    /// Narrowest and widest advance of its Latin characters, in shares of the type size.
    pub(crate) advances: (f32, f32),
    /// Latin characters that `advances` speaks of.
    pub(crate) measured: u32,
}

/// Where a line of text runs on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Right,
    Down,
    Left,
    Up,
    /// In no direction of the page's sides, e.g. a watermark.
    Slanted,
}

/// A straight line drawn on the page, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) x0: f32,
    pub(crate) y0: f32,
    pub(crate) x1: f32,
    pub(crate) y1: f32,
}

impl Rule {
    pub(crate) fn is_level(&self) -> bool {
        self.y1 - self.y0 < self.x1 - self.x0
    }
}

/// What the interpreter told of one page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) rules: Vec<Rule>,
    /// Glyphs with and without a known character.
    pub(crate) known: usize,
    pub(crate) unknown: usize,
    /// Share of the page that pictures cover, overlaps counted twice.
    pub(crate) pictures: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// What tells characters that fonts do not, once that was needed.
    collections: Option<Rc<Collections>>,
    /// The last glyph's place, to drop what is printed twice to look bold.
    last: Option<(char, Point)>,
    /// Where the fragment that may go on ends.
    open: Option<(Point, Vec2)>,
}

impl Page {
    pub(crate) fn new((width, height): (f32, f32), collections: Option<Rc<Collections>>) -> Self {
        Page { width, height, collections, ..Page::default() }
    }

    fn glyph(&mut self, text: &str, origin: Point, along: Vec2, advance: f64, size: f64) {
        let inside = origin.x > -1.0
            && origin.y > -1.0
            && origin.x < f64::from(self.width) + 1.0
            && origin.y < f64::from(self.height) + size;
        let Some(first) = text.chars().next().filter(|_| inside && self.known < PAGE_CHARS_MAX) else {
            return;
        };
        if let Some((last, place)) = self.last
            && last == first
            && (place - origin).hypot() < size * 0.12
        {
            return;
        }
        self.last = Some((first, origin));
        if text.chars().all(|c| c.is_whitespace() || c == '\u{a0}') {
            // Its place is in the gap to the next glyph, which is read as a space at once.
            if let Some(fragment) = self.fragments.last_mut().filter(|_| self.open.is_some())
                && !fragment.text.ends_with(' ')
            {
                fragment.text.push(' ');
                fragment.starts.push(fragment.end);
                fragment.end += advance as f32;
                self.open = Some((origin + along * advance, along));
            }
            return;
        }
        let direction = direction(along);
        let (start, base) = place(direction, origin);
        let next =
            Next { character: first, direction, start, base, advance: advance as f32, size: size as f32 };
        if text.len() == first.len_utf8() && self.accent(next, origin, along) {
            return;
        }
        let space = self.continues(origin, along, size, first);
        match (space, self.fragments.last_mut()) {
            (Some(space), Some(fragment)) => {
                if space && !fragment.text.ends_with(' ') {
                    fragment.text.push(' ');
                    fragment.starts.push(fragment.end);
                }
                fragment.end = start + advance as f32;
                fragment.size = fragment.size.max(size as f32);
            }
            _ => self.fragments.push(Fragment {
                text: String::new(),
                starts: Vec::new(),
                start,
                end: start + advance as f32,
                base,
                size: size as f32,
                direction,
                advances: (f32::MAX, 0.0),
                measured: 0,
            }),
        }
        let Some(fragment) = self.fragments.last_mut() else { return };
        for c in text.chars() {
            fragment.text.push(c);
            fragment.starts.push(start);
        }
        if first.is_ascii_graphic() {
            let share = (advance / size) as f32;
            fragment.advances = (fragment.advances.0.min(share), fragment.advances.1.max(share));
            fragment.measured += 1;
        }
        self.open = Some((origin + along * advance, along));
    }

    /// Joins a letter and its mark, where this glyph and the last one are such.
    fn accent(&mut self, next: Next, origin: Point, along: Vec2) -> bool {
        let Some(fragment) = self.fragments.last_mut().filter(|_| self.open.is_some()) else { return false };
        if !accents::join(fragment, next) {
            return false;
        }
        let rest = f64::from(fragment.end - next.start);
        self.open = Some((origin + along * rest, along));
        true
    }

    /// Whether a glyph goes on the last fragment, and then whether a space lies between.
    fn continues(&self, origin: Point, along: Vec2, size: f64, first: char) -> Option<bool> {
        let (end, before) = self.open?;
        let fragment = self.fragments.last()?;
        if before.dot(along) < 0.99 {
            return None;
        }
        let step = origin - end;
        let (gap, across) = (step.dot(along), step.cross(along).abs());
        let larger = size.max(f64::from(fragment.size));
        let smaller = size.min(f64::from(fragment.size));
        // Raised and lowered small type belongs to its line.
        let reach = if smaller < larger * 0.85 { 0.55 } else { 0.25 };
        if across > larger * reach || gap < larger * GAP_BACK || gap > larger * GAP_END {
            return None;
        }
        let wide = is_wide(first) && fragment.text.chars().next_back().is_some_and(is_wide);
        Some(gap > larger * if wide { GAP_SPACE_WIDE } else { GAP_SPACE })
    }

    fn rule(&mut self, area: Rect) {
        const THIN: f64 = 2.5;
        const LONG: f64 = 6.0;
        let (thin, long) = (area.width().min(area.height()), area.width().max(area.height()));
        if self.rules.len() < PAGE_RULES_MAX && thin <= THIN && long >= LONG && long.is_finite() {
            let (x0, y0) = (area.x0 as f32, area.y0 as f32);
            self.rules.push(Rule { x0, y0, x1: area.x1 as f32, y1: area.y1 as f32 });
        }
    }

    /// The sides of a drawn box, or a box so thin that it is a line.
    fn outline(&mut self, area: Rect, filled: bool) {
        if area.width().min(area.height()) <= 2.5 {
            return self.rule(area);
        }
        if !filled {
            for side in [
                Rect::new(area.x0, area.y0, area.x1, area.y0),
                Rect::new(area.x0, area.y1, area.x1, area.y1),
                Rect::new(area.x0, area.y0, area.x0, area.y1),
                Rect::new(area.x1, area.y0, area.x1, area.y1),
            ] {
                self.rule(side);
            }
        }
    }
}

impl<'a> Device<'a> for Page {
    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'a>, mode: &DrawMode) {
        if self.rules.len() >= PAGE_RULES_MAX || path.elements().len() > 4_000 {
            return;
        }
        let filled = matches!(mode, DrawMode::Fill(_));
        let mut corners: Vec<Point> = Vec::new();
        let mut straight = true;
        for element in path.elements() {
            match *element {
                PathEl::MoveTo(point) => {
                    self.figure(&corners, straight, filled);
                    corners.clear();
                    corners.push(props.transform * point);
                    straight = true;
                }
                PathEl::LineTo(point) => corners.push(props.transform * point),
                PathEl::ClosePath => {}
                PathEl::QuadTo(..) | PathEl::CurveTo(..) => straight = false,
            }
        }
        self.figure(&corners, straight, filled);
    }

    fn draw_rect(&mut self, rect: &Rect, props: DrawProps<'a>, mode: &DrawMode) {
        self.outline(props.transform.transform_rect_bbox(*rect), matches!(mode, DrawMode::Fill(_)));
    }

    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        let vertical = matches!(run.writing_mode(), WritingMode::Vertical);
        for positioned in run.glyphs() {
            let transform: Affine = props.transform * positioned.transform();
            let glyph: &Glyph<'_> = positioned;
            let looked_up = || self.collections.as_ref()?.character(glyph);
            // A number of a bitmap font may look like a name: `AE` is 14.
            let known = match glyph {
                Glyph::Outline(_) => glyph.as_unicode().or_else(looked_up),
                Glyph::Type3(_) => looked_up().or_else(|| glyph.as_unicode()),
            };
            let mut one = [0; 4];
            let text: &str = match &known {
                Some(BfString::Char(c)) => c.encode_utf8(&mut one),
                Some(BfString::String(text)) => text,
                None => "",
            };
            let is_type3 = matches!(glyph, Glyph::Type3(_));
            let advance = match glyph {
                Glyph::Outline(glyph) => glyph.advance_width(),
                Glyph::Type3(glyph) => glyph.advance_width(),
            };
            let origin = transform * Point::ZERO;
            let unit = transform * Point::new(1000.0, 0.0) - origin;
            let up = transform * Point::new(0.0, 1000.0) - origin;
            let size = up.hypot();
            if !(origin.is_finite() && size.is_finite() && size > 0.05 && unit.hypot() > 0.05) {
                continue;
            }
            let usable = text.chars().any(|c| !c.is_control() && c != '\u{fffd}' && !is_private(c));
            if !usable {
                // A space by any other name is no lost character.
                self.unknown += usize::from(!text.chars().all(|c| c.is_control()) || text.is_empty());
                continue;
            }
            self.known += 1;
            let along = if vertical { -up / size } else { unit / unit.hypot() };
            let share =
                f64::from(advance.unwrap_or(if is_wide_text(text) { 1000.0 } else { 500.0 })) / 1000.0;
            let advance = if vertical { size } else { share * unit.hypot() };
            // Type 3 fonts have a scale of their own; their advance tells the size as well as anything.
            let size = if is_type3 { size.max(advance) } else { size };
            self.glyph(&letters(text), origin, along, advance, size);
        }
    }

    fn draw_image(&mut self, image: Image<'a, '_>, props: ImageDrawProps<'a>) {
        let area = props.transform.transform_rect_bbox(Rect::new(
            0.0,
            0.0,
            f64::from(image.width()),
            f64::from(image.height()),
        ));
        let page = Rect::new(0.0, 0.0, f64::from(self.width), f64::from(self.height));
        let share = area.intersect(page).area() / page.area().max(1.0);
        self.pictures += if share.is_finite() { share as f32 } else { 0.0 };
    }

    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

impl Page {
    /// One outline of a path: a line, a box, or nothing that matters.
    fn figure(&mut self, corners: &[Point], straight: bool, filled: bool) {
        let (Some(first), true) = (corners.first(), straight && (2..=5).contains(&corners.len())) else {
            return;
        };
        let mut area = Rect::from_points(*first, *first);
        for corner in corners {
            area = area.union_pt(*corner);
        }
        let level =
            |pair: &[Point]| (pair[0].x - pair[1].x).abs() < 0.6 || (pair[0].y - pair[1].y).abs() < 0.6;
        if corners.windows(2).all(level) {
            self.outline(area, filled);
        }
    }
}

/// Without control characters, presentation forms of Latin ligatures as letters.
fn letters(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() || ('\u{fb00}'..='\u{fb06}').contains(&c)) {
        return Cow::Borrowed(text);
    }
    let mut letters = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '\u{fb00}' => letters.push_str("ff"),
            '\u{fb01}' => letters.push_str("fi"),
            '\u{fb02}' => letters.push_str("fl"),
            '\u{fb03}' => letters.push_str("ffi"),
            '\u{fb04}' => letters.push_str("ffl"),
            '\u{fb05}' | '\u{fb06}' => letters.push_str("st"),
            c => letters.push(c),
        }
    }
    Cow::Owned(letters)
}

fn is_wide_text(text: &str) -> bool {
    text.chars().any(is_wide)
}

fn is_private(c: char) -> bool {
    matches!(u32::from(c), 0xe000..=0xf8ff | 0xf0000..=0x10ffff)
}

fn direction(along: Vec2) -> Direction {
    if along.x > 0.98 {
        Direction::Right
    } else if along.x < -0.98 {
        Direction::Left
    } else if along.y > 0.98 {
        Direction::Down
    } else if along.y < -0.98 {
        Direction::Up
    } else {
        Direction::Slanted
    }
}

/// A point along and across lines of a direction: both grow in the order of reading.
fn place(direction: Direction, point: Point) -> (f32, f32) {
    let (x, y) = (point.x as f32, point.y as f32);
    match direction {
        Direction::Right | Direction::Slanted => (x, y),
        Direction::Left => (-x, -y),
        // Columns from right to left, and lines of pages turned by a quarter.
        Direction::Down => (y, -x),
        Direction::Up => (-y, x),
    }
}
