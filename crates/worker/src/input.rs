//! What an embedder reads: texts, and pairs of a query and a document, as tokens that fit its window.
//!
//! A text is data: names of special tokens in it are only letters.

use crate::ffi::{Model, Token};
use wire::WireFault;

/// One text, ready to be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) tokens: Vec<Token>,
    /// Tokens at the end of the text that the window has no room for.
    pub(crate) left_out: u32,
}

/// A text with the tokens that frame every text of this model.
///
/// # Errors
/// An empty text; one that doesn't fit, unless its end may be left out.
pub(crate) fn text(model: &Model, text: &str, window: u32, truncate: bool) -> Result<Input, WireFault> {
    let framed = model.tokens(text, true, false).map_err(WireFault::Invalid)?;
    if framed.is_empty() {
        return Err(WireFault::Invalid("one of the texts is empty".into()));
    }
    if count(&framed) <= window {
        return Ok(Input { tokens: framed, left_out: 0 });
    }
    if !truncate {
        return Err(WireFault::ContextOverflow { requested: count(&framed), available: window });
    }
    let bare = model.tokens(text, false, false).map_err(WireFault::Invalid)?;
    let tail = frame_behind(&framed, &bare);
    fit(framed, tail, window)
}

/// How this model wants a query and a document put together.
#[derive(Debug)]
pub(crate) struct Pairs {
    before_query: Vec<Token>,
    between: Vec<Token>,
    after: Vec<Token>,
    /// The template names the document first.
    document_first: bool,
}

impl Pairs {
    /// By the template in the file; without one, by the tokens that frame and separate its texts: as in
    /// `[CLS] query [SEP] document [SEP]` or `<s> query </s></s> document </s>`.
    ///
    /// # Errors
    /// When the template has no place for one of the two.
    pub(crate) fn of(model: &Model) -> Result<Self, WireFault> {
        const QUERY: &str = "{query}";
        const DOCUMENT: &str = "{document}";
        let Some(template) = model.rank_template() else {
            let (end, separator) = (model.end_token(), model.separating_token());
            return Ok(Self {
                before_query: model.begin_token().into_iter().collect(),
                between: end.into_iter().chain(separator).collect(),
                after: end.or(separator).into_iter().collect(),
                document_first: false,
            });
        };
        let places = (template.find(QUERY), template.find(DOCUMENT));
        let (Some(query), Some(document)) = places else {
            return Err(WireFault::LoadFailed("the file's template for ranking has no place for both texts".into()));
        };
        let document_first = document < query;
        let ((first, first_name), (second, second_name)) = if document_first {
            ((document, DOCUMENT), (query, QUERY))
        } else {
            ((query, QUERY), (document, DOCUMENT))
        };
        let piece = |text: &str| model.tokens(text, false, true).map_err(WireFault::Invalid);
        let mut before_query = piece(&template[..first])?;
        if let Some(begin) = model.begin_token().filter(|begin| before_query.first() != Some(begin)) {
            before_query.insert(0, begin);
        }
        let between = piece(&template[first + first_name.len()..second])?;
        Ok(Self { before_query, between, after: piece(&template[second + second_name.len()..])?, document_first })
    }

    /// One pair. Only the document may be shortened.
    ///
    /// # Errors
    /// A pair that doesn't fit, unless the end of its document may be left out; a query that doesn't fit in any
    /// case.
    pub(crate) fn join(
        &self,
        query: &[Token],
        document: &[Token],
        window: u32,
        truncate: bool,
    ) -> Result<Input, WireFault> {
        let frame = self.before_query.len() + self.between.len() + self.after.len();
        let whole = frame + query.len() + document.len();
        let requested = u32::try_from(whole).unwrap_or(u32::MAX);
        let excess = whole.saturating_sub(usize::try_from(window).unwrap_or(usize::MAX));
        // Of a document, something must be left to be judged.
        if excess > 0 && (!truncate || excess >= document.len()) {
            return Err(WireFault::ContextOverflow { requested, available: window });
        }
        let document = &document[..document.len() - excess];
        let (first, second) = if self.document_first { (document, query) } else { (query, document) };
        let tokens = [&self.before_query, first, &self.between, second, &self.after].concat();
        Ok(Input { tokens, left_out: u32::try_from(excess).unwrap_or(u32::MAX) })
    }
}

fn count(tokens: &[Token]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}

/// How many tokens of the frame stand behind the text.
fn frame_behind(framed: &[Token], bare: &[Token]) -> usize {
    let more = framed.len().saturating_sub(bare.len());
    (0..=more).find(|before| framed[*before..].starts_with(bare)).map_or(0, |before| more - before)
}

/// Leaves out what lies beyond the window, but not the frame behind it.
fn fit(mut framed: Vec<Token>, tail: usize, window: u32) -> Result<Input, WireFault> {
    let room = usize::try_from(window).unwrap_or(usize::MAX);
    let left_out = framed.len().saturating_sub(room);
    if room <= tail {
        return Err(WireFault::ContextOverflow { requested: count(&framed), available: window });
    }
    let end = framed.len() - tail;
    framed.drain(end - left_out..end);
    Ok(Input { tokens: framed, left_out: u32::try_from(left_out).unwrap_or(u32::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_stays_when_the_end_of_a_text_goes() {
        assert_eq!(frame_behind(&[101, 5, 6, 7, 102], &[5, 6, 7]), 1);
        assert_eq!(frame_behind(&[1, 5, 6], &[5, 6]), 0);
        assert_eq!(frame_behind(&[5, 6, 2, 3], &[5, 6]), 2);
        let cut = fit(vec![101, 5, 6, 7, 8, 102], 1, 4).unwrap();
        assert_eq!(cut, Input { tokens: vec![101, 5, 6, 102], left_out: 2 });
        assert!(fit(vec![101, 5, 102], 1, 1).is_err());
    }

    #[test]
    fn of_a_pair_only_the_document_is_shortened() {
        let pairs = Pairs { before_query: vec![101], between: vec![102], after: vec![102], document_first: false };
        let whole = pairs.join(&[1, 2], &[3, 4, 5], 8, false).unwrap();
        assert_eq!(whole, Input { tokens: vec![101, 1, 2, 102, 3, 4, 5, 102], left_out: 0 });
        let over = WireFault::ContextOverflow { requested: 8, available: 7 };
        assert_eq!(pairs.join(&[1, 2], &[3, 4, 5], 7, false), Err(over));
        let cut = pairs.join(&[1, 2], &[3, 4, 5], 6, true).unwrap();
        assert_eq!(cut, Input { tokens: vec![101, 1, 2, 102, 3, 102], left_out: 2 });
        let over = WireFault::ContextOverflow { requested: 8, available: 5 };
        assert_eq!(pairs.join(&[1, 2], &[3, 4, 5], 5, true), Err(over));
        let other = Pairs { document_first: true, ..pairs };
        assert_eq!(other.join(&[1], &[3], 9, false).unwrap().tokens, [101, 3, 102, 1, 102]);
    }
}
