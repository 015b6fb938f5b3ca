//! How the model's own tokenizer cuts a text, told to the matcher.
//!
//! A matcher whose tokenizer says of itself that it knows the cut narrows its masks by it. Here the guide decides when
//! a cut is taken, so the tokenizer says so only while it is asked by [`forced`].

use crate::ffi::{Model, Token};
use llguidance::Matcher;
use llguidance::toktrie::{TokTrie, TokenId, TokenizerEnv};
use std::cell::Cell;
use std::sync::Arc;

/// Put before a text where a tokenizer would add a space of its own: no token goes beyond the end of a line.
const LINE: &str = "\n";

/// What became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Not,
    Sure,
    /// Some of the text can't be cut so that it comes back as it was.
    Unsure,
}

thread_local! {
    /// Whether this thread is within [`forced`]: one tokenizer serves all answers, and another thread compiles with it.
    static ASKED: Cell<Asked> = const { Cell::new(Asked::Not) };
}

/// The tokenizer of a model as the matcher sees it.
pub(super) struct Tokenizer {
    trie: TokTrie,
    model: Arc<Model>,
}

impl Tokenizer {
    pub(super) fn new(trie: TokTrie, model: Arc<Model>) -> Self {
        Self { trie, model }
    }

    /// The cut whose tokens are the very text and no special ones.
    fn cut(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let text = str::from_utf8(bytes).ok()?;
        let same = |tokens: &Vec<TokenId>| self.trie.decode_raw(tokens) == bytes;
        self.cut_behind("", text).filter(same).or_else(|| self.cut_behind(LINE, text).filter(same))
    }

    fn cut_behind(&self, before: &str, text: &str) -> Option<Vec<TokenId>> {
        let ids = |text: &str| -> Option<Vec<TokenId>> {
            let tokens: Vec<Token> = self.model.tokens(text, false, false).ok()?;
            tokens.into_iter().map(|token| TokenId::try_from(token).ok()).collect()
        };
        let before_ids = if before.is_empty() { Vec::new() } else { ids(before)? };
        ids(&format!("{before}{text}"))?.strip_prefix(before_ids.as_slice()).map(<[TokenId]>::to_vec)
    }
}

impl TokenizerEnv for Tokenizer {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.cut(bytes).unwrap_or_else(|| {
            ASKED.set(Asked::Unsure);
            self.trie.greedy_tokenize(bytes)
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        ASKED.get() != Asked::Not
    }
}

/// The tokens that come next whatever is chosen later, where the matcher leaves only one text: its own cut, together with
/// the token before where that stays as it is, and without tokens at the end that a longer text could change. None of them is special.
pub(super) fn forced(matcher: &mut Matcher) -> Vec<TokenId> {
    ASKED.set(Asked::Sure);
    let mut tokens = matcher.compute_ff_tokens();
    let asked = ASKED.replace(Asked::Not);
    let Ok(tokenizer) = matcher.tok_env() else { return Vec::new() };
    let text = tokens.iter().take_while(|token| !tokenizer.tok_trie().is_special_token(**token)).count();
    tokens.truncate(if asked == Asked::Sure { text } else { 0 });
    tokens
}
