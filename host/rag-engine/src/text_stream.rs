//! Turns a stream of token bytes into text that is complete UTF-8 and ends before the first stop string.

/// Holds back what may still become a character or a stop string.
#[derive(Debug)]
pub(crate) struct TextStream {
    pending: Vec<u8>,
    stops: Vec<Vec<u8>>,
}

/// What one token made ready.
#[derive(Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) text: String,
    /// A stop string was completed: `text` is the last.
    pub(crate) stopped: bool,
}

impl TextStream {
    /// Empty stop strings are ignored.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).map(|stop| stop.clone().into_bytes());
        Self { pending: Vec::new(), stops: stops.collect() }
    }

    /// Takes the bytes of one token.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Ready {
        self.pending.extend_from_slice(bytes);
        let found = self.stops.iter().filter_map(|stop| position(&self.pending, stop)).min();
        if let Some(end) = found {
            self.pending.truncate(end);
            return Ready { text: self.finish(), stopped: true };
        }
        let free = self.pending.len() - self.held();
        let ready = complete(&self.pending[..free]);
        let text = String::from_utf8_lossy(&self.pending[..ready]).into_owned();
        self.pending.drain(..ready);
        Ready { text, stopped: false }
    }

    /// What is left at the end; an unfinished character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Length of the longest end of `pending` with which a stop string may begin.
    fn held(&self) -> usize {
        let longest = |stop: &Vec<u8>| {
            (1..stop.len().min(self.pending.len() + 1))
                .rev()
                .find(|&len| self.pending.ends_with(&stop[..len]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Length of the part of `bytes` that does not end within a character. Bytes that no more input can mend count as
/// complete.
fn complete(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(len) => at += error.valid_up_to() + len,
                None => return at + error.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut stream = TextStream::new(&stops);
        let mut out = Vec::new();
        for piece in pieces {
            let ready = stream.push(piece);
            out.push(ready.text);
            if ready.stopped {
                return (out, true);
            }
        }
        out.push(stream.finish());
        (out, false)
    }

    #[test]
    fn characters_wait_until_they_are_whole() {
        let smile = "😀".as_bytes();
        assert_eq!(stream(&[], &[&smile[..1], &smile[1..3], &smile[3..]]).0, ["", "", "😀", ""]);
        assert_eq!(stream(&[], &[b"a\xe4\xbd", b"\xa0b"]).0, ["a", "你b", ""]);
        assert_eq!(
            stream(&[], &[b"a\xffb", b"\xe4x", b"\xe4"]).0,
            ["a\u{fffd}b", "\u{fffd}x", "", "\u{fffd}"]
        );
    }

    #[test]
    fn stop_strings_never_appear() {
        assert_eq!(
            stream(&["\n\n"], &[b"a", b"\n", b"\nUser"]),
            (vec!["a".into(), "".into(), "".into()], true)
        );
        assert_eq!(stream(&["\n\n"], &[b"a\n", b"b"]), (vec!["a".into(), "\nb".into(), "".into()], false));
        assert_eq!(stream(&["\n\n"], &[b"a\n"]), (vec!["a".into(), "\n".into()], false));
        // The earliest of several wins, whatever their order.
        assert_eq!(stream(&["yz", "x"], &[b"abxyz"]), (vec!["ab".into()], true));
        assert_eq!(stream(&["。", ""], &["好。的".as_bytes()]), (vec!["好".into()], true));
        // Part of a character of a stop string is held back too.
        let stop = "好".as_bytes();
        assert!(stream(&["好"], &[b"a", &stop[..2], &stop[2..]]).1);
        assert_eq!(stream(&["aab"], &[b"aa", b"ab"]), (vec!["".into(), "a".into()], true));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab好\n]{0,30}", stop in "[ab好\n]{1,4}", cuts in prop::collection::vec(1usize..4, 40)) {
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(head);
                rest = tail;
            }
            let (out, stopped) = stream(&[&stop], &pieces);
            let want = text.split(&stop).next().unwrap();
            prop_assert_eq!(out.concat(), if text.contains(&stop) { want } else { &text });
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
