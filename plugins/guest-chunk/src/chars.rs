//! How many characters (Unicode scalar values) has a text, and where are so many over?
//!
//! The standard library of WebAssembly is built without vector instructions and counts in words of 32 bits; loops
//! compiled with the component have them.

/// Bytes that are counted at once; their number fits in a byte.
const BLOCK: usize = 64;

/// Number of characters.
pub fn count(text: &str) -> usize {
    let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK>();
    blocks.iter().map(starts).sum::<usize>() + rest.iter().filter(|byte| is_start(**byte)).count()
}

/// Where `count` characters from byte `start` on are over, or the end of the text.
pub fn after(text: &str, start: usize, count: usize) -> usize {
    let bytes = text.as_bytes().get(start..).unwrap_or_default();
    let mut left = count;
    let mut skipped = 0;
    for block in bytes.as_chunks::<BLOCK>().0 {
        let here = starts(block);
        if here > left {
            break;
        }
        left -= here;
        skipped += BLOCK;
    }
    for (at, byte) in bytes.iter().enumerate().skip(skipped) {
        if is_start(*byte) {
            if left == 0 {
                return start + at;
            }
            left -= 1;
        }
    }
    text.len()
}

fn starts(block: &[u8; BLOCK]) -> usize {
    usize::from(block.iter().map(|byte| u8::from(is_start(*byte))).sum::<u8>())
}

/// Whether a byte of UTF-8 begins a character.
fn is_start(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_and_places_are_those_of_the_standard_library(
            text in "[a-z知识，é🐧 ]{0,300}", from in 0usize..300, many in 0usize..300,
        ) {
            prop_assert_eq!(count(&text), text.chars().count());
            let place = |nth: usize| text.char_indices().nth(nth).map_or(text.len(), |(at, _)| at);
            prop_assert_eq!(after(&text, place(from), many), place(from + many));
        }
    }
}
