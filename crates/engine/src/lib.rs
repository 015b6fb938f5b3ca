//! Runs models: admission, chat templates, the machine's means, and the workers' lives.

mod admit;
pub mod machine;
pub mod plan;
pub mod template;
