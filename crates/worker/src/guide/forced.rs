//! Text that a shape leaves no choice about. It is said in the tokens that the model's own tokenizer cuts it into: those are
//! what the model was trained with, and as they are known beforehand several can be computed in one step.

use super::{Allowed, Which, cut};
use crate::ffi::Token;
use llguidance::Matcher;
use llguidance::toktrie::{TokTrie, TokenId, parse_numeric_token};
use std::collections::VecDeque;

/// LIMIT: bytes of one run, and of a shape in which runs are looked for. More is chosen token by token as all else: it would
/// be looked through and cut as a whole, while other answers wait.
pub(super) const BYTES_MAX: usize = 16 << 10;

/// The tokens that are due in one answer.
#[derive(Debug, Default)]
pub(super) struct Run {
    due: VecDeque<Token>,
    /// Nothing has come since `due` was found.
    looked: bool,
    /// Its shape counts tokens, or holds so much text that it takes long to say what is forced.
    never: bool,
}

impl Run {
    pub(super) fn new(forces: bool) -> Self {
        Self { never: !forces, ..Self::default() }
    }

    /// The tokens that come next, as far as they are known. They stay the same until another one is chosen.
    pub(super) fn due(&mut self, matcher: &mut Matcher) -> &VecDeque<Token> {
        if !self.looked && !self.never && !matcher.is_stopped() {
            self.looked = true;
            self.due.extend(find(matcher).into_iter().map_while(|token| Token::try_from(token).ok()));
        }
        &self.due
    }

    /// A token was chosen.
    pub(super) fn said(&mut self, token: Token) {
        if self.due.pop_front() != Some(token) {
            self.due.clear();
        }
        self.looked = !self.due.is_empty();
    }
}

fn find(matcher: &mut Matcher) -> Vec<TokenId> {
    let bytes = matcher.compute_ff_bytes();
    match bytes.as_slice() {
        [] => Vec::new(),
        // Who has looked has to take it: the matcher's masks don't have it any more.
        [TokTrie::SPECIAL_TOKEN_MARKER, number @ ..] => {
            parse_numeric_token(number).map(|(_, token)| token).into_iter().collect()
        }
        bytes if bytes.len() > BYTES_MAX => Vec::new(),
        _ => cut::forced(matcher),
    }
}

/// Offers the token that is due alone. `None`: none is, or it isn't wanted.
pub(super) fn pick(
    run: &mut Run,
    matcher: &mut Matcher,
    pick: &mut impl FnMut(&Allowed<'_>) -> Option<Token>,
) -> Option<Token> {
    let due = *run.due(matcher).front()?;
    let tokenizer = matcher.tok_env().ok()?;
    let (trie, id) = (tokenizer.tok_trie(), TokenId::try_from(due).ok()?);
    // No other token says what a special one says, so there is nothing to be preferred to it.
    let chosen = if trie.is_special_token(id) {
        pick(&Allowed(Which::Only(&trie.singleton_token_set(id))))
    } else {
        pick(&Allowed(Which::One(due)))
    };
    chosen.filter(|token| *token == due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_until_another_token_comes() {
        let mut run = Run { due: [1, 2, 3].into(), looked: true, never: false };
        run.said(1);
        assert_eq!((&run.due, run.looked), (&[2, 3].into(), true));
        run.said(3);
        assert_eq!((run.due.len(), run.looked), (0, false));
        run.said(4);
        assert_eq!((run.due.len(), run.looked), (0, false));
    }
}
