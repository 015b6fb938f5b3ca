//! Text that a shape leaves no choice about, as tokens.

use super::Vocabulary;
use crate::ffi::{Model, Token};
use batch::draft;

/// LIMIT: bytes that are looked at: more than the tokens of one draft have.
const BYTES_MAX: usize = 16 * draft::TOKENS_MAX as usize;

/// How the model itself would most likely cut `bytes`, behind `last`. Without the last token of the run, which may be the
/// beginning of a longer one that goes on beyond it: `"` of `":`.
pub(super) fn tokens(bytes: &[u8], model: &Model, vocabulary: &Vocabulary, last: Option<Token>) -> Vec<Token> {
    let text = plain(bytes);
    if text.is_empty() {
        return Vec::new();
    }
    let mut tokens = behind(text, model, last).unwrap_or_else(|| greedy(text, vocabulary));
    tokens.pop();
    tokens
}

/// Whole characters of text: what is no text, as the names of special tokens here, ends it.
fn plain(bytes: &[u8]) -> &str {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// As the tokenizer cuts it together with the token before, if that stays as it is.
fn behind(text: &str, model: &Model, last: Option<Token>) -> Option<Vec<Token>> {
    let last = last?;
    let mut before = Vec::new();
    model.piece(last, &mut before);
    let before = String::from_utf8(before).ok().filter(|before| !before.is_empty())?;
    let mut tokens = model.tokens(&(before + text), false, false).ok()?;
    if tokens.first() != Some(&last) {
        return None;
    }
    tokens.remove(0);
    Some(tokens)
}

/// The longest token first.
fn greedy(text: &str, vocabulary: &Vocabulary) -> Vec<Token> {
    let tokens = vocabulary.tokens_of(text.as_bytes());
    tokens.into_iter().filter_map(|token| Token::try_from(token).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_characters_of_text_are_looked_at() {
        assert_eq!(plain("grün".as_bytes()), "grün");
        assert_eq!(plain(&"grün".as_bytes()[..3]), "gr");
        assert_eq!(plain(b"ab\xff[12]cd"), "ab");
        assert_eq!(plain(&[b'a'; 4000]).len(), BYTES_MAX);
        assert_eq!(plain(&[]), "");
    }
}
