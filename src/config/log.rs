//! The syntax of `--log`, and of what is put to `/log`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Reads a log filter. A word that stands alone has to be a level: tracing takes any other for a
/// target, so that a misspelt level would switch the log off.
pub fn log_filter(text: &str) -> Result<EnvFilter, &'static str> {
    const PROBLEM: &str = "must be off, error, warn, info, debug or trace, or such a level and targets with theirs, \
         as in warn,onboardflow_gateway::upstream=debug";
    let is_directive = |directive: &str| {
        let directive = directive.trim();
        let level = directive.rsplit('=').next().unwrap_or_default();
        !level.is_empty()
            && level.parse::<LevelFilter>().is_ok()
            && !directive.contains(char::is_whitespace)
    };
    if !text.split(',').all(is_directive) {
        return Err(PROBLEM);
    }
    EnvFilter::try_new(text.trim()).map_err(|_| PROBLEM)
}
