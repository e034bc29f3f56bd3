//! Which lines are running titles and page numbers? Those that stand at the same height on many pages with the same
//! words, digits apart.

use std::collections::HashMap;

use crate::document::{Item, PageText};
use crate::lines::Line;

/// Share of the page's height at top and bottom that is looked at.
const MARGIN: f32 = 0.11;
/// Pages that a line repeats on at least, and their share of the pages that could have it.
const PAGES_MIN: usize = 3;
const SHARE_MIN: f32 = 0.3;

/// What is alike on every page: height in steps of four points, and words.
type Key = (bool, String);

/// Takes running titles and page numbers out of the pages.
pub(crate) fn remove(pages: &mut [PageText]) {
    let mut counts: HashMap<Key, usize> = HashMap::new();
    for page in pages.iter() {
        let mut seen: Vec<Key> = page.lines().filter_map(|line| key(line, page.height)).collect();
        seen.sort();
        seen.dedup();
        for key in seen {
            *counts.entry(key).or_default() += 1;
        }
    }
    let total = pages.len() as f32;
    let is_furniture = |key: &Key| {
        let count = counts.get(key).copied().unwrap_or(0);
        // Page numbers alone repeat everywhere; titles of chapters on fewer pages.
        let only_number = key.1.chars().all(|c| !c.is_alphabetic());
        let share = if only_number { SHARE_MIN } else { SHARE_MIN / 6.0 };
        count >= PAGES_MIN && count as f32 >= total * share
    };
    for page in pages.iter_mut() {
        let height = page.height;
        page.items.retain(|item| match item {
            Item::Line(line) => key(line, height).is_none_or(|key| !is_furniture(&key)),
            Item::Table(_) => true,
        });
    }
}

/// None for a line in the middle of the page.
fn key(line: &Line, height: f32) -> Option<Key> {
    let area = line.area();
    let top = area.y + area.height < height * MARGIN;
    let bottom = area.y > height * (1.0 - MARGIN);
    if !(top || bottom) || line.text.len() > 300 {
        return None;
    }
    // A page number stands first or last, in digits or Roman numerals.
    let tokens: Vec<&str> = line.text.split_whitespace().collect();
    let is_number = |token: &&str| {
        let token = token.trim_matches(|c: char| !c.is_alphanumeric());
        token.chars().all(|c| c.is_numeric())
            || token.len() <= 8 && token.chars().all(|c| "ivxlcIVXLC".contains(c))
    };
    let words: String = match tokens.as_slice() {
        [only] if is_number(only) => String::new(),
        [rest @ .., last] if is_number(last) => rest.concat(),
        [first, rest @ ..] if is_number(first) => rest.concat(),
        all => all.concat(),
    };
    let mut alike = String::new();
    for c in words.chars() {
        if !c.is_numeric() {
            alike.push(c);
        } else if !alike.ends_with('#') {
            alike.push('#');
        }
    }
    Some((top, alike))
}
