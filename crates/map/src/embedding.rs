//! From passages to vectors. A text that the model refuses costs only its own vector.

use crate::index::stem;
use crate::map::Embed;
use crate::record::Unembedded;
use base::{Code, Fault};

/// LIMIT: times that a text is shortened for a model with a small window.
const SHORTENINGS_MAX: u32 = 24;
/// A text shorter than this isn't refused for its length.
const SHORTENED_BYTES_MIN: usize = 32;
/// More of a title would crowd the passage out of what is embedded.
const TITLE_CHARS_MAX: usize = 160;

/// What became of one text.
#[derive(Debug, PartialEq)]
pub(crate) enum Embedded {
    Whole(Vec<f32>),
    /// Only the beginning fitted into the model's window.
    Beginning(Vec<f32>),
    /// The model takes no part of it.
    Refused(Fault),
}

/// Embeds a batch, one for one. Texts that don't fit are tried by themselves and shortened: they come from
/// strangers' files, so one of them mustn't end the work for the others.
///
/// # Errors
/// When the model can't be run at all.
pub(crate) fn batch(embed: &dyn Embed, texts: &[String]) -> Result<Vec<Embedded>, Fault> {
    match vectors(embed, texts) {
        Ok(vectors) => Ok(vectors.into_iter().map(Embedded::Whole).collect()),
        Err(fault) if refuses_text(&fault) => texts.iter().map(|text| alone(embed, text)).collect(),
        Err(fault) => Err(fault),
    }
}

/// Embeds one text, or as much of its beginning as the model takes.
pub(crate) fn alone(embed: &dyn Embed, text: &str) -> Result<Embedded, Fault> {
    let mut piece = text;
    let mut shortened = 0;
    loop {
        match vectors(embed, &[piece.to_owned()]) {
            Ok(mut vectors) => {
                let vector = vectors.pop().unwrap_or_default();
                return Ok(if shortened == 0 { Embedded::Whole(vector) } else { Embedded::Beginning(vector) });
            }
            Err(fault) if refuses_text(&fault) => {
                let shorter = beginning(piece);
                if shorter.len() < SHORTENED_BYTES_MIN || shortened == SHORTENINGS_MAX {
                    return Ok(Embedded::Refused(fault));
                }
                piece = shorter;
                shortened += 1;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Whether the fault lies in what was asked, not in the model.
fn refuses_text(fault: &Fault) -> bool {
    matches!(fault.code, Code::ContextOverflow | Code::InvalidAsk)
}

/// About three quarters of a text, cut between words where there are any.
fn beginning(text: &str) -> &str {
    let mut end = text.len() / 4 * 3;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = &text[..end];
    cut.rfind(char::is_whitespace).filter(|space| *space * 2 > end).map_or(cut, |space| &cut[..space]).trim_end()
}

fn vectors(embed: &dyn Embed, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
    let vectors = embed.embed(texts)?;
    let width = vectors.first().map_or(0, Vec::len);
    let whole = vectors.len() == texts.len()
        && width > 0
        && vectors.iter().all(|vector| vector.len() == width && vector.iter().all(|value| value.is_finite()));
    if whole { Ok(vectors) } else { Err(Fault::new(Code::ModelUnfit, "the embedding model gave no whole vectors")) }
}

/// What is embedded: title and headings give a passage its context; they are no part of what is cited.
pub(crate) fn text(passage: &Unembedded) -> String {
    // A file's name speaks when it is made of words; `IMG_0042` or `17` would only blur the passage.
    let named = stem(&passage.path).replace(['_', '-'], " ");
    let named = Some(named).filter(|name| name.chars().filter(|c| c.is_alphabetic()).count() > 3);
    let title = passage.title.clone().or(named).unwrap_or_default();
    in_context(&title, &passage.heading, &passage.text)
}

/// A passage as a model reads it, below its title and headings.
pub(crate) fn in_context(title: &str, heading: &str, passage: &str) -> String {
    let title: String = title.chars().take(TITLE_CHARS_MAX).collect();
    let heading = heading.strip_prefix(title.as_str()).map_or(heading, |rest| rest.trim_start_matches(" > "));
    let mut text = String::with_capacity(title.len() + heading.len() + passage.len() + 4);
    for part in [title.as_str(), heading] {
        // A heading that the passage begins with needn't be said twice.
        if !part.is_empty() && !passage.starts_with(part) {
            text.push_str(part);
            text.push('\n');
        }
    }
    text.push_str(passage);
    text
}
