//! In which order are a page's fragments read? As they were written, unless columns or the order itself say otherwise.

use crate::glyphs::{Direction, Fragment};

/// Widths of the gap between columns, in points.
const GUTTER_MIN: f32 = 8.0;
/// Fragments that each column has at least.
const COLUMN_FRAGMENTS_MIN: usize = 8;

/// Where columns part, if the page has two; sorts the fragments into reading order.
pub(crate) fn arrange(fragments: &mut [Fragment]) -> Vec<f32> {
    let Some(gutter) = gutter(fragments) else {
        if is_scrambled(fragments) {
            sort_by_place(fragments);
        }
        return Vec::new();
    };
    // Bands of the page between what crosses the gutter: left column, right column, then what crosses.
    let mut crossing: Vec<f32> = fragments
        .iter()
        .filter(|fragment| {
            fragment.direction == Direction::Right && fragment.start < gutter && fragment.end > gutter
        })
        .map(|fragment| fragment.base)
        .collect();
    crossing.sort_by(f32::total_cmp);
    let rank = |fragment: &Fragment| {
        let band = crossing.partition_point(|base| *base < fragment.base - fragment.size * 0.3);
        let column = match fragment {
            _ if fragment.start < gutter && fragment.end > gutter => 2,
            _ if fragment.start >= gutter => 1,
            _ => 0,
        };
        (band, column)
    };
    // Stable: within a column the order stays as written.
    fragments.sort_by_key(rank);
    vec![gutter]
}

/// The middle of a gap that next to no fragment crosses, with a column of running text on each side.
fn gutter(fragments: &[Fragment]) -> Option<f32> {
    let level: Vec<&Fragment> =
        fragments.iter().filter(|fragment| fragment.direction == Direction::Right).collect();
    if level.len() < COLUMN_FRAGMENTS_MIN * 2 {
        return None;
    }
    let left = level.iter().map(|fragment| fragment.start).fold(f32::MAX, f32::min);
    let right = level.iter().map(|fragment| fragment.end).fold(f32::MIN, f32::max);
    let width = right - left;
    if !(width > 100.0 && width < 5_000.0) {
        return None;
    }
    let mut cover = vec![0_usize; width as usize + 2];
    for fragment in &level {
        let from = (fragment.start - left).max(0.0) as usize;
        let to = ((fragment.end - left).max(0.0) as usize).min(cover.len() - 1);
        for place in cover.iter_mut().take(to + 1).skip(from) {
            *place += 1;
        }
    }
    let crossing_max = level.len() / 12;
    let mut best: Option<(usize, usize)> = None;
    let mut open: Option<usize> = None;
    for at in (cover.len() * 3 / 10)..(cover.len() * 7 / 10) {
        let is_free = cover.get(at).is_some_and(|count| *count <= crossing_max);
        match (is_free, open) {
            (true, None) => open = Some(at),
            (false, Some(from)) => {
                if best.is_none_or(|(start, end)| end - start < at - from) {
                    best = Some((from, at));
                }
                open = None;
            }
            _ => {}
        }
    }
    let (from, to) = best.filter(|(from, to)| (*to - *from) as f32 >= GUTTER_MIN)?;
    let middle = left + (from + to) as f32 / 2.0;
    let full = |side: Vec<f32>, width: f32| {
        // Running text fills its column; cells of a table do not.
        let filling = side.iter().filter(|length| **length > width * 0.75).count();
        side.len() >= COLUMN_FRAGMENTS_MIN && filling * 2 >= side.len()
    };
    let lengths = |is_left: bool| {
        level
            .iter()
            .filter(|fragment| if is_left { fragment.end <= middle } else { fragment.start >= middle })
            .map(|fragment| fragment.end - fragment.start)
            .collect::<Vec<_>>()
    };
    (full(lengths(true), from as f32) && full(lengths(false), width - to as f32)).then_some(middle)
}

/// Whether many fragments stand above the one before them.
fn is_scrambled(fragments: &[Fragment]) -> bool {
    let mut up = 0;
    let mut steps = 0;
    for pair in fragments.windows(2) {
        if let [before, after] = pair
            && before.direction == Direction::Right
            && after.direction == Direction::Right
        {
            steps += 1;
            up += usize::from(after.base < before.base - before.size * 1.5);
        }
    }
    steps >= 12 && up * 4 > steps
}

/// Line by line from the top, each from the left.
fn sort_by_place(fragments: &mut [Fragment]) {
    fragments.sort_by(|a, b| a.base.total_cmp(&b.base));
    let mut from = 0;
    while let Some(first) = fragments.get(from) {
        let (base, size) = (first.base, first.size);
        let length = fragments
            .iter()
            .skip(from)
            .take_while(|fragment| fragment.base - base < size.max(fragment.size) * 0.3)
            .count();
        if let Some(line) = fragments.get_mut(from..from + length) {
            line.sort_by(|a, b| a.start.total_cmp(&b.start));
        }
        from += length.max(1);
    }
}
