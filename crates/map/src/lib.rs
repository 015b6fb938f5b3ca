//! Documents to passages, passages to an index, questions to hits with citations that are checked.
//!
//! Documents are parsed by a confined child (`__extract`, entered through [`run_extractor`]); this side never
//! parses one. SQLite holds the record, everything else is derived from it. Whether the files hold an
//! answer (`evidence`) and what is cited (`cite`) is decided here in code, never by a model's word.
//! Start with [`Map::index`] and [`Map::search`].

mod about;
mod alike;
mod catalogue;
pub mod chunk;
pub mod cite;
pub mod document;
mod embedding;
pub mod evidence;
mod extract;
mod filter;
mod forget;
pub mod fuse;
#[doc(hidden)]
pub mod fuzz;
mod half;
mod index;
mod inspect;
mod large;
mod lexical;
mod map;
pub mod merge;
mod part;
pub mod place;
mod reader;
mod recognise;
mod record;
pub mod rerank;
pub mod scope;
mod score;
mod search;
pub mod sentence;
pub mod settle;
pub mod source;
pub mod syntax;
mod vector;
mod vectorize;
pub mod verify;
mod walk;
pub mod watch;
pub mod words;

pub use about::{About, Day};
pub use extract::{FILE_BYTES_MAX, run as run_extractor};
pub use filter::Filter;
pub use forget::{Forgotten, Trace};
pub use index::{IndexStep, Refreshed, Report, Stage, nothing_read};
pub use inspect::{Inspection, Problem};
pub use lexical::{Boosts, Part};
pub use map::{Embed, Map};
pub use part::FilePart;
pub use reader::{Reader, ReaderLimits};
pub use recognise::{Languages, Ready, Recogniser, RecogniserLimits};
pub use record::Summary;
pub use rerank::Rerank;
pub use scope::Scope;
pub use search::{Found, Hit, Query, Source, Tuning, Why};
pub use walk::{Stamp, is_secret, never_read};
