//! Which parts of a page are ruled tables? Grids of drawn lines, with the fragments in their cells.

use guest_doc::{Area, table};

use crate::glyphs::{Direction, Fragment, Rule};

/// How far lines that meet may miss each other, in points.
const SLACK: f32 = 3.0;
/// Rows and columns of one table.
const ROWS_MAX: usize = 400;
const COLUMNS_MAX: usize = 40;
/// Lines of one page beyond which it is a drawing.
const RULES_MAX: usize = 2_000;

/// A grid of at least two columns and two rows.
#[derive(Debug)]
struct Grid {
    xs: Vec<f32>,
    ys: Vec<f32>,
}

/// A table's text and place, and where in the order of fragments it stands.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) parts: Vec<String>,
    pub(crate) area: Area,
    /// Index of the fragment that it comes before.
    pub(crate) before: usize,
}

/// Takes the fragments of ruled tables out of the page.
pub(crate) fn take(fragments: &mut Vec<Fragment>, rules: &[Rule]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for grid in grids(rules) {
        let inside = |fragment: &Fragment| fragment.direction == Direction::Right && grid.holds(fragment);
        let Some(before) = fragments.iter().position(inside) else { continue };
        let mut cells = vec![vec![String::new(); grid.xs.len() - 1]; grid.ys.len() - 1];
        for fragment in fragments.iter().filter(|fragment| inside(fragment)) {
            grid.fill(&mut cells, fragment);
        }
        let filled_rows = cells.iter().filter(|row| row.iter().any(|cell| !cell.trim().is_empty())).count();
        let is_column =
            |at: usize| cells.iter().any(|row| row.get(at).is_some_and(|cell| !cell.trim().is_empty()));
        let columns: Vec<usize> = (0..grid.xs.len() - 1).filter(|at| is_column(*at)).collect();
        if filled_rows < 2 || columns.len() < 2 {
            continue;
        }
        let rows: Vec<Vec<String>> = cells
            .iter()
            .map(|row| columns.iter().map(|at| row.get(*at).cloned().unwrap_or_default()).collect())
            .collect();
        for earlier in &mut tables {
            let Table { before, .. } = earlier;
            *before -= fragments.iter().take(*before).filter(|fragment| inside(fragment)).count();
        }
        fragments.retain(|fragment| !inside(fragment));
        tables.push(Table { parts: table::tables(&rows), area: grid.area(), before });
    }
    tables.sort_by_key(|table| table.before);
    tables
}

impl Grid {
    fn holds(&self, fragment: &Fragment) -> bool {
        let (Some(left), Some(right)) = (self.xs.first(), self.xs.last()) else { return false };
        let (Some(top), Some(bottom)) = (self.ys.first(), self.ys.last()) else { return false };
        let middle = fragment.base - fragment.size * 0.3;
        fragment.start > left - SLACK
            && fragment.end < right + SLACK * 2.0
            && middle > *top
            && middle < *bottom
    }

    /// Puts a fragment's characters into the cells that they stand in.
    fn fill(&self, cells: &mut [Vec<String>], fragment: &Fragment) {
        let row = interval(&self.ys, fragment.base - fragment.size * 0.3);
        let Some(row) = cells.get_mut(row) else { return };
        let mut last = None;
        for (c, start) in fragment.text.chars().zip(&fragment.starts) {
            let column = interval(&self.xs, start + fragment.size * 0.15);
            let Some(cell) = row.get_mut(column) else { continue };
            if last != Some(column) && !cell.is_empty() {
                let glued = cell.chars().next_back().is_some_and(guest_doc::text::is_wide)
                    && guest_doc::text::is_wide(c);
                cell.push_str(if glued { "" } else { " " });
            }
            last = Some(column);
            cell.push(c);
        }
    }

    fn area(&self) -> Area {
        let side = |places: &[f32]| {
            let (first, last) =
                (places.first().copied().unwrap_or(0.0), places.last().copied().unwrap_or(0.0));
            (first, last - first)
        };
        let ((x, width), (y, height)) = (side(&self.xs), side(&self.ys));
        Area { x, y, width, height }
    }
}

/// Which interval of sorted places a value lies in; the nearest outside of them.
fn interval(places: &[f32], value: f32) -> usize {
    places.partition_point(|place| *place <= value).clamp(1, places.len().max(2) - 1) - 1
}

/// Grids of rules that touch each other.
fn grids(rules: &[Rule]) -> Vec<Grid> {
    if rules.len() > RULES_MAX {
        return Vec::new();
    }
    let mut group: Vec<usize> = (0..rules.len()).collect();
    for (at, rule) in rules.iter().enumerate() {
        for (other_at, other) in rules.iter().enumerate().take(at) {
            if touch(rule, other) {
                let (a, b) = (root(&group, at), root(&group, other_at));
                if let Some(entry) = group.get_mut(a.max(b)) {
                    *entry = a.min(b);
                }
            }
        }
    }
    let mut found: Vec<Grid> = Vec::new();
    for at in 0..rules.len() {
        if root(&group, at) != at {
            continue;
        }
        let members: Vec<&Rule> = rules
            .iter()
            .enumerate()
            .filter(|(other, _)| root(&group, *other) == at)
            .map(|(_, rule)| rule)
            .collect();
        let places = |level: bool| {
            let of = |rule: &&&Rule| rule.is_level() == level;
            let mut places: Vec<f32> = members
                .iter()
                .filter(of)
                .map(|rule| if level { (rule.y0 + rule.y1) / 2.0 } else { (rule.x0 + rule.x1) / 2.0 })
                .collect();
            // Tables are often open at their sides: there the lines across them end.
            let across = || members.iter().filter(|rule| rule.is_level() != level);
            if !places.is_empty() {
                let (from, to) = if level {
                    (
                        across().map(|rule| rule.y0).fold(f32::MAX, f32::min),
                        across().map(|rule| rule.y1).fold(f32::MIN, f32::max),
                    )
                } else {
                    (
                        across().map(|rule| rule.x0).fold(f32::MAX, f32::min),
                        across().map(|rule| rule.x1).fold(f32::MIN, f32::max),
                    )
                };
                places.extend([from, to].into_iter().filter(|place| place.abs() < 100_000.0));
            }
            places.sort_by(f32::total_cmp);
            places.dedup_by(|b, a| *b - *a < SLACK);
            places
        };
        let grid = Grid { xs: places(false), ys: places(true) };
        if (3..=COLUMNS_MAX + 1).contains(&grid.xs.len()) && (3..=ROWS_MAX + 1).contains(&grid.ys.len()) {
            found.push(grid);
        }
    }
    found.sort_by(|a, b| a.area().y.total_cmp(&b.area().y));
    found
}

fn root(group: &[usize], mut at: usize) -> usize {
    while let Some(up) = group.get(at).filter(|up| **up != at) {
        at = *up;
    }
    at
}

fn touch(a: &Rule, b: &Rule) -> bool {
    a.x0 <= b.x1 + SLACK && b.x0 <= a.x1 + SLACK && a.y0 <= b.y1 + SLACK && b.y0 <= a.y1 + SLACK
}
