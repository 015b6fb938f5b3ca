//! Whole characters out of the bytes of tokens: one character may be spread over several tokens.

/// Assembles one answer.
#[derive(Debug, Clone, Default)]
pub struct Assembler {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Assembler {
    /// Gives the text that is complete now. Bytes that can't become a character, whatever follows,
    /// become U+FFFD at once; those that still can are held back.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut buffer = std::mem::take(&mut self.pending);
        buffer.extend_from_slice(bytes);
        let mut text = String::with_capacity(buffer.len());
        let mut rest = buffer.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        self.pending = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
    }

    /// The answer is over: half a character stays half.
    pub fn finish(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&pending).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_come_whole() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(b"na\xc3"), "na");
        assert_eq!(assembler.push(b"\xafve \xf0\x9f"), "ïve ");
        assert_eq!(assembler.push(b"\x8f"), "");
        assert_eq!(assembler.push(b"\xa1!"), "🏡!");
        assert_eq!(assembler.finish(), "");
    }

    #[test]
    fn what_is_surely_wrong_is_replaced_and_the_rest_goes_on() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(assembler.push(b"\xe2\x82"), "");
        assert_eq!(assembler.push(b"x"), "\u{fffd}x");
        assert_eq!(assembler.push(b"\xe2"), "");
        assert_eq!(assembler.finish(), "\u{fffd}");
        assert_eq!(assembler.finish(), "");
    }

    proptest! {
        #[test]
        fn any_cutting_of_any_bytes_gives_the_same_text(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(0_usize..40, 0..8),
        ) {
            let mut bounds: Vec<usize> = cuts.into_iter().filter(|&c| c <= bytes.len()).collect();
            bounds.extend([0, bytes.len()]);
            bounds.sort_unstable();
            let mut assembler = Assembler::default();
            let mut text = String::new();
            for pair in bounds.windows(2) {
                text.push_str(&assembler.push(&bytes[pair[0]..pair[1]]));
            }
            text.push_str(&assembler.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn at_most_three_bytes_are_held_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..20)) {
            let mut assembler = Assembler::default();
            for piece in pieces {
                assembler.push(&piece);
                prop_assert!(assembler.pending.len() <= 3);
            }
        }
    }
}
