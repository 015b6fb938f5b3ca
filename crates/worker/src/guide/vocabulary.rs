//! A model's tokens as the matcher sees them: their bytes, and which are special.

use super::cut::Tokenizer;
use crate::ffi::{Model, Token};
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie};
use std::collections::HashMap;
use std::sync::Arc;

/// LIMIT: bytes of white space in one token between reasoning and shape.
const BLANK_BYTES_MAX: usize = 4;

/// LIMIT: bytes of a token that a shaped answer may have.
const TOKEN_BYTES_MAX: usize = 1000;

/// Made once for each model, when the first shape is asked for.
pub(crate) struct Vocabulary {
    env: TokEnv,
    /// Ends of a turn.
    ends: Vec<Token>,
    /// Some white space.
    blanks: Vec<Token>,
    /// By their names; ends of a turn aren't among them.
    special: HashMap<String, u32>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.env.tok_trie().vocab_size()).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// # Errors
    /// In words, when the model has no token that ends a turn.
    pub(crate) fn of(model: &Arc<Model>) -> Result<Self, String> {
        let count = model.vocabulary_size();
        let (mut words, mut blanks, mut special) = (Vec::with_capacity(count), Vec::new(), HashMap::new());
        for token in 0..Token::try_from(count).map_err(|_| "the vocabulary is too large".to_owned())? {
            let mut bytes = Vec::new();
            if model.ends(token) || model.is_special(token) {
                // The mark makes it a token that text can't be: only a grammar that names it has it.
                bytes.push(TokTrie::SPECIAL_TOKEN_MARKER);
                model.whole_piece(token, &mut bytes);
                if let (false, Ok(name), Ok(id)) =
                    (model.ends(token), str::from_utf8(&bytes[1..]), u32::try_from(token))
                {
                    special.insert(name.to_owned(), id);
                }
            } else {
                model.piece(token, &mut bytes);
                // No UTF-8 has the mark, so neither has any text that a shape allows.
                if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                    bytes.clear();
                }
            }
            // The tree takes no longer ones; all that they say can be said by shorter tokens.
            if bytes.len() > TOKEN_BYTES_MAX {
                bytes.clear();
            }
            if (1..=BLANK_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_whitespace) {
                blanks.push(token);
            }
            words.push(bytes);
        }
        let ends = model.end_tokens().to_vec();
        let numbers: Vec<u32> = ends.iter().filter_map(|token| u32::try_from(*token).ok()).collect();
        let Some(first) = numbers.first() else {
            return Err("the model has no token that ends a turn".into());
        };
        let size = u32::try_from(count).map_err(|_| "the vocabulary is too large".to_owned())?;
        let trie = TokTrie::from(&TokRxInfo::new(size, *first), &words).with_eos_tokens(&numbers);
        Ok(Self { env: Arc::new(Tokenizer::new(trie, Arc::clone(model))), ends, blanks, special })
    }

    pub(super) fn env(&self) -> &TokEnv {
        &self.env
    }

    pub(super) fn ends(&self) -> &[Token] {
        &self.ends
    }

    pub(super) fn blanks(&self) -> &[Token] {
        &self.blanks
    }

    /// No token at all.
    pub(super) fn none(&self) -> SimpleVob {
        self.env.tok_trie().alloc_token_set()
    }

    /// Some tokens that are these bytes together; not how the model would cut them.
    pub(super) fn tokens_of(&self, bytes: &[u8]) -> Vec<u32> {
        self.env.tok_trie().greedy_tokenize(bytes)
    }

    /// The special token of this name.
    pub(super) fn special(&self, name: &str) -> Option<u32> {
        self.special.get(name).copied()
    }

    /// The special token of this name, or the tokens of its letters.
    pub(super) fn tokens_of_mark(&self, mark: &str) -> Vec<u32> {
        self.special(mark).map_or_else(|| self.tokens_of(mark.as_bytes()), |token| vec![token])
    }
}
