//! What a matcher allows, asked of it only as far as somebody wants to know. Nearly always the token that the model finds
//! likeliest fits, and to look at one token costs a hundredth of looking at all.

use crate::ffi::Token;
use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokenId};
use std::cell::{Cell, OnceCell, RefCell};

pub(super) struct Asked<'a> {
    matcher: RefCell<&'a mut Matcher>,
    /// Tokens that end a turn.
    ends: &'a [Token],
    mask: OnceCell<Result<SimpleVob, String>>,
    /// A token that was looked at alone, and fits.
    fits: Cell<Option<TokenId>>,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("is_whole", &self.mask.get().is_some()).finish_non_exhaustive()
    }
}

impl<'a> Asked<'a> {
    pub(super) fn new(matcher: &'a mut Matcher, ends: &'a [Token]) -> Self {
        Self { matcher: RefCell::new(matcher), ends, mask: OnceCell::new(), fits: Cell::new(None) }
    }

    /// All that is allowed; nothing where the matcher failed.
    pub(super) fn mask(&self) -> Option<&SimpleVob> {
        let compute = || self.matcher.borrow_mut().compute_mask().map_err(|error| error.to_string());
        self.mask.get_or_init(compute).as_ref().ok()
    }

    /// Why the matcher failed, or whether it allows nothing, as far as all was asked for.
    pub(super) fn failure(&self) -> Option<Result<(), &str>> {
        match self.mask.get()? {
            Ok(mask) => mask.is_zero().then_some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    pub(super) fn has(&self, token: Token) -> bool {
        let Ok(id) = TokenId::try_from(token) else { return false };
        let is_alone = self.mask.get().is_none() && !self.ends.contains(&token);
        if is_alone && (self.fits.get() == Some(id) || self.is_said_to_fit(id)) {
            self.fits.set(Some(id));
            return true;
        }
        // What is refused alone is looked up among all: the mask decides.
        self.mask().is_some_and(|mask| (id as usize) < mask.len() && mask.get(id as usize))
    }

    /// Of tokens that stand for text alone: ends and marks have rules of their own.
    fn is_said_to_fit(&self, id: TokenId) -> bool {
        let mut matcher = self.matcher.borrow_mut();
        let is_text = matcher.tok_env().is_ok_and(|env| {
            let trie = env.tok_trie();
            (id as usize) < trie.vocab_size() && !trie.is_special_token(id) && !trie.token(id).is_empty()
        });
        is_text && !matcher.is_stopped() && matcher.validate_tokens(&[id]).is_ok_and(|fitting| fitting == 1)
    }
}
