//! Is a mark drawn over a letter part of it? Many fonts have no `é`: they print `´` and `e` at one place.

use unicode_normalization::char::compose;

use crate::glyphs::{Direction, Fragment, GAP_SPACE};

/// How far the lines of a letter and its mark may lie apart, in shares of the type size: over capitals it is raised.
const RAISED_MAX: f32 = 0.5;

/// A glyph that comes after others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) character: char,
    pub(crate) direction: Direction,
    /// Along and across the line.
    pub(crate) start: f32,
    pub(crate) base: f32,
    pub(crate) advance: f32,
    pub(crate) size: f32,
}

/// Makes one character of the last of a fragment and the next one where one is a mark over the other. The letter's
/// end is the fragment's.
pub(crate) fn join(fragment: &mut Fragment, next: Next) -> bool {
    let (Some(last), Some(place)) = (fragment.text.chars().next_back(), fragment.starts.last().copied())
    else {
        return false;
    };
    if next.direction != fragment.direction || (next.base - fragment.base).abs() > next.size * RAISED_MAX {
        return false;
    }
    let end = next.start + next.advance;
    match (combining(last), combining(next.character)) {
        (Some(mark), None) if next.character.is_alphabetic() => {
            if !holds(next.start, end, place, fragment.end) {
                return false;
            }
            fragment.text.pop();
            fragment.starts.pop();
            // A space before the mark, where the letter follows the one before it.
            if fragment.text.ends_with(' ')
                && fragment
                    .starts
                    .last()
                    .is_some_and(|space| next.start - space < next.size * GAP_SPACE as f32)
            {
                fragment.text.pop();
                fragment.starts.pop();
            }
            if fragment.text.is_empty() {
                (fragment.start, fragment.base) = (next.start, next.base);
            }
            push(fragment, next.character, mark, place.min(next.start));
            fragment.end = end;
        }
        (None, Some(mark)) if last.is_alphabetic() => {
            if !holds(place, fragment.end, next.start, end) {
                return false;
            }
            fragment.text.pop();
            fragment.starts.pop();
            push(fragment, last, mark, place);
        }
        _ => return false,
    }
    true
}

/// Whether a letter has the middle of a mark.
fn holds(start: f32, end: f32, mark_start: f32, mark_end: f32) -> bool {
    let middle = f32::midpoint(mark_start, mark_end);
    start < middle && middle < end
}

fn push(fragment: &mut Fragment, letter: char, mark: char, place: f32) {
    let letter = match letter {
        'ı' => 'i',
        'ȷ' => 'j',
        letter => letter,
    };
    match compose(letter, mark) {
        Some(both) => fragment.text.push(both),
        None => {
            fragment.text.extend([letter, mark]);
            fragment.starts.push(place);
        }
    }
    fragment.starts.push(place);
}

/// The mark that combines, of one that stands alone.
fn combining(mark: char) -> Option<char> {
    Some(match mark {
        '`' | '\u{2cb}' => '\u{300}',
        '´' | '\u{2ca}' => '\u{301}',
        'ˆ' => '\u{302}',
        '˜' => '\u{303}',
        '¯' | 'ˉ' => '\u{304}',
        '˘' => '\u{306}',
        '˙' => '\u{307}',
        '¨' => '\u{308}',
        '˚' => '\u{30a}',
        '˝' => '\u{30b}',
        'ˇ' => '\u{30c}',
        '¸' => '\u{327}',
        '˛' => '\u{328}',
        _ => return None,
    })
}
