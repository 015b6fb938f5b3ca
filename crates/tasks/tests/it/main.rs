//! Tasks as a whole, with models that play a script: prompts, plans, and what becomes of good and bad answers.

mod borders;
mod flows;
mod long;
mod played;
