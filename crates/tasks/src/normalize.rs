//! Dates, telephone numbers, amounts, quantities, names and addresses in one form.
//!
//! Rules decide what they can. A model is asked only for the rest, and only where it can't invent what isn't there:
//! never for the digits of a telephone number, and what it says of an address must stand in the input.

mod address;
mod amount;
mod date;
mod name;
mod phone;
mod unit;
mod words;

pub(crate) use amount::number;

use crate::prompt::Prompt;
use crate::task::invalid;
use crate::work::{Work, unfinished};
use base::{Fault, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// LIMIT: letters of what is one date, name or number.
const TEXT_CHARS_MAX: usize = 1000;
/// LIMIT: tokens of a model's answer.
const ANSWER_TOKENS_MAX: u32 = 160;
/// LIMIT: words of a text that is one quantity.
const QUANTITY_WORDS_MAX: usize = 6;
/// What a model says when it can't tell.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Date,
    Phone,
    Amount,
    Unit,
    Name,
    Address,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Date => "date",
            Kind::Phone => "phone",
            Kind::Amount => "amount",
            Kind::Unit => "unit",
            Kind::Name => "name",
            Kind::Address => "address",
        }
    }
}

/// Which of two small numbers in a date is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateOrder {
    /// Where both can be, neither is taken.
    #[default]
    Auto,
    DayFirst,
    MonthFirst,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Normalize {
    pub text: String,
    pub kind: Kind,
    /// The country that telephone numbers without one belong to, by its two letters.
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    date_order: DateOrder,
    /// `2026-03-09`: what `tomorrow` is counted from.
    #[serde(default)]
    today: Option<String>,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Rule,
    Model,
    /// Nobody could.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Normalized {
    /// The one form; `None` where it can't be told.
    pub value: Option<String>,
    pub by: Source,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Why there is none, or what was taken for granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    Is(Found),
    /// It can't be told from these words, and no model could.
    Undecided(String),
    /// Rules don't read this.
    Unread,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) value: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) note: Option<String>,
}

/// The numbers of a text as they are written in it, and those that stand there in words.
pub(crate) fn quantities(text: &str) -> Vec<String> {
    let of = |text: &str| -> Vec<String> {
        let pieces = text.split(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | '\''));
        let bare = pieces.map(|piece| piece.trim_matches(['.', ',', '\'']).to_owned());
        bare.filter(|piece| piece.contains(|c: char| c.is_ascii_digit())).collect()
    };
    let mut found = of(text);
    if let Some(digits) = words::digits(text, words::Of::Quantity) {
        found.extend(of(&digits));
    }
    found
}

impl Normalize {
    pub(crate) fn checked(self) -> Result<Self, Fault> {
        let letters = self.text.chars().count();
        if letters > TEXT_CHARS_MAX {
            let what = format!("has {letters} characters");
            return Err(invalid(
                "text",
                &what,
                &format!("send one {} at a time, of at most {TEXT_CHARS_MAX}", self.kind.as_str()),
            ));
        }
        if let Some(region) = &self.region
            && phone::calling_code(region).is_none()
        {
            let hint = "use a country's two letters: `DE`, `US`, `GB`";
            return Err(invalid("region", &format!("is `{region}`"), hint));
        }
        if let Some(today) = &self.today
            && date::Day::parse(today).is_none()
        {
            return Err(invalid("today", &format!("is `{today}`"), "write it as 2026-03-09"));
        }
        Ok(self)
    }

    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Normalized, Fault> {
        let text = self.text.trim();
        if text.is_empty() {
            return Ok(undecided("there is nothing to read"));
        }
        match self.rule(text) {
            Ruling::Is(found) => Ok(normalized(found, Source::Rule)),
            Ruling::Undecided(note) => Ok(undecided(&note)),
            Ruling::Unread if self.kind == Kind::Phone => Ok(undecided("this doesn't read as a telephone number")),
            Ruling::Unread => self.ask(work, text),
        }
    }

    /// What rules say of the words as they are, else of their numbers in digits.
    fn rule(&self, text: &str) -> Ruling {
        let found = self.read(text);
        if found != Ruling::Unread {
            return found;
        }
        let of = match self.kind {
            Kind::Date => words::Of::Day,
            Kind::Amount | Kind::Unit => words::Of::Quantity,
            Kind::Phone | Kind::Name | Kind::Address => return found,
        };
        let digits = words::digits(text, of);
        let plain = digits.as_deref().unwrap_or(text);
        let cents = if self.kind == Kind::Amount { words::with_cents(plain) } else { None };
        cents.or(digits).map_or(found, |digits| self.read(&digits))
    }

    fn read(&self, text: &str) -> Ruling {
        match self.kind {
            Kind::Date => date::read(text, self.date_order, self.today.as_deref().and_then(date::Day::parse)),
            Kind::Phone => phone::read(text, self.region.as_deref()),
            Kind::Amount => amount::read(text),
            Kind::Unit => unit::read(text),
            Kind::Name => name::read(text),
            Kind::Address => address::read(text),
        }
    }

    fn ask(&self, work: &mut Work<'_>, text: &str) -> Result<Normalized, Fault> {
        let (shape, check): (Shape, fn(&str, &str) -> Ruling) = match self.kind {
            Kind::Date => (Shape::regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]|unknown")?, |_, said| {
                date::read(said, DateOrder::Auto, None)
            }),
            Kind::Amount => {
                (Shape::regex(r"-?[0-9]{1,15}(\.[0-9]{1,4})?( [A-Z]{3})?|unknown")?, |_, said| amount::read(said))
            }
            Kind::Unit => {
                (Shape::regex(r"-?[0-9]{1,15}(\.[0-9]{1,9})? [a-zA-Z°/0-9]{1,8}|unknown")?, |_, said| unit::read(said))
            }
            Kind::Name => (Shape::regex(r"[^\s,][^\n,]{0,200}")?, name::of_model),
            Kind::Address => (Shape::json_schema(address::SCHEMA)?, address::of_model),
            Kind::Phone => return Ok(undecided("a model would invent digits")),
        };
        let tier = work.tier("normalize", self.kind.as_str())?;
        let today = self.today.clone().unwrap_or_else(|| "not known".to_owned());
        let prompt = Prompt::new(tier, vec![("today", today)]);
        work.declare(1, None);
        let answer = work.complete(prompt.messages(text), shape, ANSWER_TOKENS_MAX)?;
        let said = answer.text.trim();
        if tier.grounded && !self.stands(text, said) {
            return Ok(undecided("neither rules nor the model can tell"));
        }
        if unfinished(answer.finish) || said.is_empty() || said.eq_ignore_ascii_case(UNKNOWN) {
            return Ok(undecided("neither rules nor the model can tell"));
        }
        match check(text, said) {
            Ruling::Is(found) => Ok(normalized(found, Source::Model)),
            Ruling::Undecided(note) => Ok(undecided(&note)),
            Ruling::Unread => Ok(undecided("the model's answer doesn't hold up")),
        }
    }
}

impl Normalize {
    /// Whether the numbers of a small model's answer are those of the text, which it would make up else.
    fn stands(&self, text: &str, said: &str) -> bool {
        let of = if self.kind == Kind::Date { words::Of::Day } else { words::Of::Quantity };
        let plain = words::digits(text, of).unwrap_or_else(|| text.to_lowercase());
        match self.kind {
            Kind::Date => date::stands(&plain, said),
            Kind::Amount | Kind::Unit => {
                let number = said.split_whitespace().next().and_then(number);
                // One quantity takes few words: in a longer text there may be several.
                let few = text.split_whitespace().count() <= QUANTITY_WORDS_MAX;
                few && quantities(&plain).iter().any(|own| self::number(own) == number)
            }
            Kind::Phone | Kind::Name | Kind::Address => true,
        }
    }
}

fn normalized(found: Found, by: Source) -> Normalized {
    let fields = found.fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Normalized { value: Some(found.value), by, fields, note: found.note }
}

fn undecided(note: &str) -> Normalized {
    Normalized { value: None, by: Source::None, fields: BTreeMap::new(), note: Some(note.to_owned()) }
}
