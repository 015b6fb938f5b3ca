//! Runs models: admission, chat templates, the machine's means, and the workers' lives.

pub mod template;
