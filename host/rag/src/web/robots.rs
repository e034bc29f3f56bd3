//! What a site's robots.txt allows (RFC 9309): the group for us or for all, the longest matching rule.

use std::time::Duration;

/// How sites may name us.
const OURS: &str = "rwkv-rag";
/// Of a file that is read, and rules that are kept.
const BYTES_MAX: usize = 500 << 10;
const RULES_MAX: usize = 5_000;
/// Longest wait between two pages that a site may ask for.
const DELAY_MAX: Duration = Duration::from_secs(30);

/// The rules that hold for us. None allows everything.
#[derive(Debug, Default)]
pub(super) struct Robots {
    /// Whether it allows, and what it matches.
    rules: Vec<(bool, String)>,
    delay: Duration,
}

impl Robots {
    pub(super) fn parse(text: &str) -> Self {
        let text = text.get(..text.floor_char_boundary(BYTES_MAX)).unwrap_or_default();
        let (mut ours, mut all) = (None::<Robots>, Robots::default());
        // Agents of the group that is being read, and whether its rules have begun.
        let (mut for_us, mut for_all, mut in_rules) = (false, false, false);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if key == "user-agent" {
                if std::mem::take(&mut in_rules) {
                    (for_us, for_all) = (false, false);
                }
                for_us |= value.eq_ignore_ascii_case(OURS);
                for_all |= value == "*";
                if for_us {
                    ours.get_or_insert_default();
                }
                continue;
            }
            in_rules |= matches!(key.as_str(), "allow" | "disallow" | "crawl-delay");
            if for_us {
                ours.get_or_insert_default().add(&key, value);
            }
            if for_all {
                all.add(&key, value);
            }
        }
        ours.unwrap_or(all)
    }

    fn add(&mut self, key: &str, value: &str) {
        match key {
            // An empty rule matches nothing.
            "allow" | "disallow" if !value.is_empty() && self.rules.len() < RULES_MAX => {
                self.rules.push((key == "allow", value.to_owned()));
            }
            "crawl-delay" => {
                let seconds = value.parse::<f64>().unwrap_or(0.0).clamp(0.0, DELAY_MAX.as_secs_f64());
                self.delay = Duration::from_secs_f64(seconds);
            }
            _ => {}
        }
    }

    /// Whether a path with its query may be read: the longest rule decides, an allowing one among equals.
    pub(super) fn allow(&self, path: &str) -> bool {
        let matching = self.rules.iter().filter(|(_, rule)| matches(rule, path));
        matching.max_by_key(|(allow, rule)| (rule.len(), *allow)).is_none_or(|(allow, _)| *allow)
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }
}

/// `*` stands for anything, `$` at the end for the end; else a rule is a beginning. Linear in both lengths' product at
/// worst: a star only moves forward.
fn matches(rule: &str, path: &str) -> bool {
    let (rule, to_the_end) = match rule.strip_suffix('$') {
        Some(rule) => (rule, true),
        None => (rule, false),
    };
    let mut parts = rule.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return !to_the_end || rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() && to_the_end {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_of_the_right_group_decides() {
        let robots = Robots::parse(
            "\u{feff}# ours\nUser-agent: OtherBot\nUser-agent: *\nDisallow: /private\nAllow: /private/open\n\
             Disallow: /*.cgi$\nDisallow: /a*b\nCrawl-delay: 2\n\nUser-agent: greedy\nDisallow: /\n",
        );
        for (path, expected) in [
            ("/", true),
            ("/private", false),
            ("/private/x", false),
            ("/private/open/x", true),
            ("/x.cgi", false),
            ("/x.cgi?y", true),
            ("/axxb", false),
            ("/axx", true),
            ("/Private", true),
        ] {
            assert_eq!(robots.allow(path), expected, "{path}");
        }
        assert_eq!(robots.delay(), Duration::from_secs(2));
        let ours = Robots::parse("User-agent: *\nDisallow: /\nUser-agent: RWKV-RAG\nDisallow: /no\n");
        assert!(ours.allow("/yes") && !ours.allow("/no"));
        let silent = Robots::parse("User-agent: *\nDisallow:\n");
        assert!(silent.allow("/x"));
        assert!(Robots::parse("<html>not found</html>").allow("/x"));
        assert!(Robots::parse("User-agent: *\nAllow: /p\nDisallow: /p").allow("/p"));
        let slow = Robots::parse("User-agent: *\nCrawl-delay: 1e300");
        assert_eq!(slow.delay(), DELAY_MAX);
    }

    #[test]
    fn rules_made_to_be_slow_are_not() {
        let rule = "/*a".repeat(2_000);
        assert!(!matches(&rule, &"/aaaa".repeat(100)));
    }
}
