//! Logs of the daemon: to stderr, never with the text of a prompt or a document.

use base::{Code, Fault};

/// Starts logging at the level of the settings (`error`, `warn`, `info`, `debug`, `trace`).
///
/// # Errors
/// [`Code::ConfigInvalid`] when the level isn't one.
pub fn start_logs(level: &str) -> Result<(), Fault> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).map_err(|error| {
        Fault::new(Code::ConfigInvalid, format!("log level `{level}` can't be used"))
            .cause(error)
            .hint("use one of error, warn, info, debug, trace: `FREEHOLD_LOG=info`")
    })?;
    // A second call happens in tests only, and changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    Ok(())
}
