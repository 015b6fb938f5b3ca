//! What a matcher allows, asked of it only as far as somebody wants to know. Nearly always the token that the model finds
//! likeliest fits, and to look at one token costs a hundredth of looking at all.

use super::compile::STEP_WORK_MAX;
use crate::ffi::Token;
use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokenId};
use std::cell::{Cell, OnceCell, RefCell};

/// So many tokens are looked at alone before all are: the matcher's allowance of work is filled up only then, and one that
/// runs out ends the answer …
const ALONE_MAX: u32 = 32;
/// … and none where a look at all, with what went before it, took more than such a share of that allowance.
const WORK_SHARE: u64 = 64;

/// How many tokens of one answer may still be looked at alone.
pub(super) type Alone = Cell<u32>;

pub(super) struct Asked<'a> {
    matcher: RefCell<&'a mut Matcher>,
    /// Tokens that end a turn.
    ends: &'a [Token],
    alone: &'a Alone,
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
    pub(super) fn new(matcher: &'a mut Matcher, ends: &'a [Token], alone: &'a Alone) -> Self {
        Self { matcher: RefCell::new(matcher), ends, alone, mask: OnceCell::new(), fits: Cell::new(None) }
    }

    /// All that is allowed; nothing where the matcher failed.
    pub(super) fn mask(&self) -> Option<&SimpleVob> {
        let compute = || {
            let mut matcher = self.matcher.borrow_mut();
            let mask = matcher.compute_mask().map_err(|error| error.to_string());
            let is_little = |work: u64| work < STEP_WORK_MAX / WORK_SHARE;
            let may_go_on = matcher.last_step_stats().is_ok_and(|stats| is_little(stats.lexer_cost));
            self.alone.set(if may_go_on { ALONE_MAX } else { 0 });
            mask
        };
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
        if self.fits.get() == Some(id) {
            return true;
        }
        let may_be_alone = self.mask.get().is_none() && self.alone.get() > 0 && !self.ends.contains(&token);
        if may_be_alone && self.is_said_to_fit(id) {
            self.alone.set(self.alone.get() - 1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use llguidance::ParserFactory;
    use llguidance::api::TopLevelGrammar;
    use llguidance::earley::SlicedBiasComputer;
    use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
    use serde_json::json;
    use std::sync::Arc;

    /// All bytes, some words of JSON, a mark and an end.
    fn vocabulary() -> (TokEnv, Token) {
        let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let more = ["ab", "abc", "\"a", "\":", "\", \"", "{\"", "\"}", "true", "tru", "12", "1.5", "  ", "\\u00", "é"];
        words.extend(more.map(|word| word.as_bytes().to_vec()));
        words.extend([b"\xFF<|call|>".to_vec(), b"\xFF<|end|>".to_vec()]);
        let end = u32::try_from(words.len() - 1).unwrap();
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        (Arc::new(ApproximateTokEnv::new(trie)), end.cast_signed())
    }

    #[test]
    fn a_token_that_fits_alone_is_one_of_the_mask() {
        let (env, end) = vocabulary();
        let size = Token::try_from(env.tok_trie().vocab_size()).unwrap();
        let caps = InferenceCapabilities::default();
        let factory = ParserFactory::new(&env, caps, &SlicedBiasComputer::general_slices()).unwrap();
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["a", "bc"], "properties": {
            "a": {"type": "string", "maxLength": 5}, "bc": {"anyOf": [{"type": "number"}, {"type": "boolean"}]},
            "d": {"type": "array", "items": {"enum": ["ab", "abc", null]}, "maxItems": 3}}});
        let grammars = [
            TopLevelGrammar::from_json_schema(schema),
            TopLevelGrammar::from_regex(r"[a-c]{2,6}( 12)?\.5*"),
            TopLevelGrammar::from_lark("start: \"ab\"+ <|call|> (\"c\" | start)?".into()),
        ];
        let mut looked = 0;
        for (number, grammar) in grammars.into_iter().enumerate() {
            for seed in 0..12_usize {
                let mut matcher = Matcher::new(factory.create_parser(grammar.clone()));
                for step in 0..40 {
                    let mask = matcher.compute_mask().unwrap();
                    let alone = Alone::new(u32::MAX);
                    for token in 0..size {
                        let asked = Asked::new(&mut matcher, std::slice::from_ref(&end), &alone);
                        let wanted = mask.get(usize::try_from(token).unwrap());
                        assert_eq!(asked.has(token), wanted, "{number}, {seed}, {step}: token {token}");
                        looked += usize::from(asked.mask.get().is_none());
                    }
                    let may: Vec<TokenId> = mask.iter().filter(|token| *token != end.cast_unsigned()).collect();
                    if may.is_empty() {
                        break;
                    }
                    matcher.consume_token(may[(seed * 31 + step * 17) % may.len()]).unwrap();
                    if matcher.is_stopped() {
                        break;
                    }
                }
            }
        }
        assert!(looked > 1000, "{looked} were looked at alone");
    }

    #[test]
    fn now_and_then_all_are_looked_at() {
        let (env, end) = vocabulary();
        let caps = InferenceCapabilities::default();
        let factory = ParserFactory::new(&env, caps, &SlicedBiasComputer::general_slices()).unwrap();
        let parser = factory.create_parser(TopLevelGrammar::from_regex("a*"));
        let (mut matcher, alone) = (Matcher::new(parser), Alone::default());
        let mut whole = Vec::new();
        for step in 0..100 {
            let asked = Asked::new(&mut matcher, std::slice::from_ref(&end), &alone);
            assert!(asked.has(i32::from(b'a')) && asked.has(i32::from(b'a')));
            whole.extend(asked.mask.get().map(|_| step));
            matcher.consume_token(u32::from(b'a')).unwrap();
        }
        assert_eq!(whole, [0, 33, 66, 99]);
    }
}
