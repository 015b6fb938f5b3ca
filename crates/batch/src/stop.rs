//! Ends an answer at a stop string, of which not one character is ever sent.
//!
//! Text comes in pieces of any size. What could be the beginning of a stop string is held back
//! until it is known not to be one.

/// Watches one answer.
#[derive(Debug, Clone)]
pub struct Stops {
    strings: Vec<String>,
    held: String,
}

/// What may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub text: String,
    /// A stop string is complete: nothing after `text` belongs to the answer.
    pub stopped: bool,
}

impl Stops {
    /// Empty strings are ignored: they would end every answer before it began.
    pub fn new(strings: &[String]) -> Self {
        Self { strings: strings.iter().filter(|s| !s.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes the next piece. The first stop string to be complete ends the answer; when several are
    /// complete at the same character, the longest counts.
    pub fn push(&mut self, piece: &str) -> Passed {
        if self.strings.is_empty() {
            return Passed { text: piece.to_owned(), stopped: false };
        }
        let seen = self.held.len();
        self.held.push_str(piece);
        for (at, c) in self.held[seen..].char_indices() {
            let end = seen + at + c.len_utf8();
            let complete =
                self.strings.iter().filter(|s| self.held[..end].ends_with(s.as_str())).map(String::len).max();
            if let Some(length) = complete {
                let mut text = std::mem::take(&mut self.held);
                text.truncate(end - length);
                return Passed { text, stopped: true };
            }
        }
        let kept = self.held.split_off(self.safe_bytes());
        Passed { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// The answer ended otherwise: what was held back was no stop string after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How much of what is held can't be part of a stop string any more: all before the longest
    /// ending that begins one.
    fn safe_bytes(&self) -> usize {
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        self.held
            .char_indices()
            .map(|(at, _)| at)
            .filter(|&at| at >= from)
            .find(|&at| self.strings.iter().any(|s| s.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stops = Stops::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut out = String::new();
        for piece in pieces {
            let passed = stops.push(piece);
            out.push_str(&passed.text);
            if passed.stopped {
                return (out, true);
            }
        }
        out.push_str(&stops.finish());
        (out, false)
    }

    #[test]
    fn a_stop_string_ends_the_answer_wherever_the_pieces_break() {
        let cases: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &["ab", "c"], "abc", false),
            (&[""], &["ab"], "ab", false),
            (&["END"], &["the E", "N", "D of it"], "the ", true),
            (&["END"], &["the EN", "TRY"], "the ENTRY", false),
            (&["END"], &["EEN", "D"], "E", true),
            (&["\n\n"], &["one\n", "two\n", "\nthree"], "one\ntwo", true),
            // Complete first wins, even when another began earlier.
            (&["abcde", "cd"], &["xabcdef"], "xab", true),
            // Complete together: the longest.
            (&["bc", "abc"], &["xabc"], "x", true),
            (&["aab"], &["aaab"], "a", true),
            (&["ß!"], &["Stra", "ß", "e ß", "!"], "Straße ", true),
            (&["stop"], &["sto"], "sto", false),
        ];
        for (stops, pieces, text, stopped) in cases {
            assert_eq!(run(stops, pieces), ((*text).to_owned(), *stopped), "{stops:?} {pieces:?}");
        }
    }

    #[test]
    fn what_can_be_sent_is_sent_at_once() {
        let mut stops = Stops::new(&["</s>".to_owned()]);
        assert_eq!(stops.push("hello <").text, "hello ");
        assert_eq!(stops.push("b> ").text, "<b> ");
        assert_eq!(stops.push("<").text, "");
        assert_eq!(stops.push("<").text, "<");
    }

    proptest! {
        #[test]
        fn the_pieces_make_no_difference(
            text in "[abé]{0,24}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(0_usize..24, 0..6),
        ) {
            let whole = run(&stops.iter().map(String::as_str).collect::<Vec<_>>(), &[&text]);
            let mut bounds: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let pieces: Vec<&str> = bounds.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let cut = run(&stops.iter().map(String::as_str).collect::<Vec<_>>(), &pieces);
            prop_assert_eq!(&whole, &cut);
            // Against the plain definition.
            let first_end = (0..=text.len()).filter(|&e| text.is_char_boundary(e)).find_map(|end| {
                stops.iter().filter(|s| text[..end].ends_with(s.as_str())).map(|s| end - s.len()).min()
            });
            match first_end {
                Some(start) => prop_assert_eq!(whole, (text[..start].to_owned(), true)),
                None => prop_assert_eq!(whole, (text, false)),
            }
        }

        #[test]
        fn no_part_of_a_stop_string_is_ever_sent(
            pieces in prop::collection::vec("[ab]{0,3}", 0..12),
            stop in "[ab]{1,5}",
        ) {
            let mut stops = Stops::new(std::slice::from_ref(&stop));
            let mut sent = String::new();
            for piece in &pieces {
                let passed = stops.push(piece);
                sent.push_str(&passed.text);
                prop_assert!(!sent.contains(&stop));
                if passed.stopped {
                    let up_to_here = sent.clone() + &stop;
                    prop_assert!(pieces.concat().starts_with(&up_to_here));
                    break;
                }
            }
        }
    }
}
