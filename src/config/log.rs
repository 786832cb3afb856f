//! The syntax of `--log`, and of what is put to `/log`. Doesn't know who logs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Longest filter. The parser's work, and that of every log line, grows with it.
const MAX_LENGTH: usize = 1024;

/// Reads a log filter: levels, alone or for a target. A word that stands alone has to be a level:
/// tracing takes any other for a target, so that a misspelt level would switch the log off. Targets
/// are paths of modules and no patterns: `EnvFilter` knows more, and compiles regexes for it.
pub fn log_filter(text: &str) -> Result<Targets, &'static str> {
    const PROBLEM: &str = "must be off, error, warn, info, debug or trace, or such a level and targets with theirs, \
         as in warn,onboardflow_gateway::upstream=debug";
    if text.len() > MAX_LENGTH {
        return Err("must have at most 1024 bytes");
    }
    let text = text.trim();
    if text.split(',').map(str::trim).all(is_directive) {
        text.parse().map_err(|_| PROBLEM)
    } else {
        Err(PROBLEM)
    }
}

fn is_directive(directive: &str) -> bool {
    let is_level = |level: &str| !level.is_empty() && level.parse::<LevelFilter>().is_ok();
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    match directive.split_once('=') {
        Some((target, level)) => target.chars().all(in_path) && is_level(level),
        None => is_level(directive),
    }
}
