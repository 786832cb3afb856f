//! What is wrong with a command line and its variables as such: names that nobody knows, values that are
//! missing or can't be parsed. clap stops at the first of them, so each is noted and taken out, and the rest
//! is read again. Knows no flag.
//!
//! Names are told, values never: a value may be a key in the wrong place.

use std::{env, error::Error as _, ffi::OsString};

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::checked::{PREFIX, Problems, variable_of};

/// Kubernetes makes such variables of a Service that is named `onboardflow-gateway`.
const OF_THE_SERVICE: &str = "ONBOARDFLOW_GATEWAY_";
/// The settings that have a variable and no flag.
const WITHOUT_FLAG: [&str; 1] = ["token"];

/// Why there is no command to run.
#[derive(Debug)]
pub enum Unread {
    /// Help or the version was asked for, or no command was given.
    Other(clap::Error),
    /// The configuration is bad.
    Configuration(Problems),
}

/// Notes what the error is about, and mends the arguments, so that what else is wrong can be found. A flag
/// whose variable can't be used goes to `unusable`. False where no more can be found.
pub(super) fn mend(
    error: &clap::Error,
    args: &mut Vec<OsString>,
    unusable: &mut Vec<String>,
    problems: &mut Problems,
) -> bool {
    let named = text(error, ContextKind::InvalidArg);
    let named = named.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let meant = text(error, ContextKind::SuggestedArg);
            unexpected(shown(named), meant, problems);
            replace(args, named, meant)
        }
        ErrorKind::InvalidSubcommand => {
            let meant = text(error, ContextKind::SuggestedSubcommand);
            unexpected("the command", meant, problems);
            !meant.is_empty() && replace(args, text(error, ContextKind::InvalidSubcommand), meant)
        }
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg);
            let other = other.split([' ', '=']).next().unwrap_or_default();
            if other.is_empty() || other == named {
                problems.add_named(named, "given more than once");
            } else {
                problems.add_named(named, format_args!("can't be given together with {other}"));
            }
            replace(args, named, "")
        }
        ErrorKind::ValueValidation => bad_value(error, named, args, unusable, problems),
        ErrorKind::InvalidValue => {
            problems.add_named(shown(named), "needs a value");
            replace(args, named, "")
        }
        ErrorKind::MissingRequiredArgument => {
            problems.add_named(text(error, ContextKind::InvalidArg), "is required");
            false
        }
        kind => {
            problems.add_named(shown(named), kind.as_str().unwrap_or("bad arguments"));
            false
        }
    }
}

/// Notes why a value can't be parsed, in our parser's words, and takes it out: of the arguments, or else it
/// is its variable's.
fn bad_value(
    error: &clap::Error,
    named: &str,
    args: &mut Vec<OsString>,
    unusable: &mut Vec<String>,
    problems: &mut Problems,
) -> bool {
    let problem = error.source().map(ToString::to_string).unwrap_or_default();
    let Some(flag) = named.strip_prefix("--") else {
        problems.add_named(named.trim_matches(['[', ']', '<', '>', '.']), problem);
        return false;
    };
    let value = text(error, ContextKind::InvalidValue);
    let whole = format!("{named}={value}");
    let given = |at: &usize| {
        let follows = args.get(at + 1).map(|next| next.to_string_lossy());
        args[*at].to_string_lossy() == whole
            || (args[*at] == named && follows.is_some_and(|next| next == value))
    };
    if let Some(at) = (1..args.len()).rev().find(given) {
        problems.add(flag, problem);
        let last = if args[at] == named { at + 1 } else { at };
        args.drain(at..=last);
    } else if unusable.iter().any(|other| other == flag) {
        return false;
    } else {
        problems.add_named(&variable_of(flag), problem);
        unusable.push(flag.to_owned());
    }
    true
}

/// Notes each variable that no flag of any command knows.
pub(super) fn note_unknown_variables(command: &Command, problems: &mut Problems) {
    #[expect(clippy::disallowed_methods, reason = "this is config")]
    let variables = env::vars_os();
    let set = variables.filter(|(_, value)| !value.is_empty());
    let mut names: Vec<_> = set
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && !name.starts_with(OF_THE_SERVICE))
        .collect();
    names.sort();
    let flags = WITHOUT_FLAG.iter().map(|flag| (*flag).to_owned());
    let flags: Vec<_> = flags.chain(flags_of(command)).collect();
    names.retain(|name| !flags.iter().any(|flag| variable_of(flag) == *name));
    for name in names {
        let meant = similar(&name, &flags).map(|flag| variable_of(&flag));
        unexpected(&name, &meant.unwrap_or_default(), problems);
    }
}

fn flags_of(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(Arg::get_long);
    let below = command.get_subcommands().flat_map(flags_of);
    own.map(str::to_owned).chain(below).collect()
}

/// The flag that clap would suggest, if the variable were one.
fn similar(variable: &str, flags: &[String]) -> Option<String> {
    let mut flags = flags.to_vec();
    flags.sort();
    flags.dedup();
    let args = flags
        .into_iter()
        .map(|flag| Arg::new(flag.clone()).long(flag));
    let flag = variable
        .trim_start_matches(PREFIX)
        .to_lowercase()
        .replace('_', "-");
    let parsed = Command::new("")
        .args(args)
        .try_get_matches_from(["", &format!("--{flag}")]);
    let error = parsed.err()?;
    let meant = text(&error, ContextKind::SuggestedArg).trim_start_matches("--");
    (!meant.is_empty()).then(|| meant.to_owned())
}

fn unexpected(name: &str, meant: &str, problems: &mut Problems) {
    if meant.is_empty() {
        problems.add_named(name, "unexpected argument; see --help");
    } else {
        problems.add_named(
            name,
            format_args!("unexpected argument; did you mean {meant}?"),
        );
    }
}

/// A flag's name; of anything else, that it is one.
fn shown(name: &str) -> &str {
    if name.starts_with("--") {
        name
    } else {
        "the command line"
    }
}

/// Puts another name, or none, in the place of the last argument of this name. Without a name its value
/// goes too. False if there is no such argument.
fn replace(args: &mut Vec<OsString>, name: &str, by: &str) -> bool {
    let value_of = |arg: &OsString| {
        let rest = arg.to_str()?.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('=')).then(|| rest.to_owned())
    };
    let mut found = args.iter().enumerate().skip(1).rev();
    let found = found.find_map(|(place, arg)| Some((place, value_of(arg)?)));
    let Some((place, value)) = found else {
        return false;
    };
    let is_given = args.iter().any(|arg| arg == by);
    if !by.is_empty() && !is_given {
        args[place] = format!("{by}{value}").into();
        return true;
    }
    args.remove(place);
    let next_is_value = |arg: &OsString| !arg.to_string_lossy().starts_with('-');
    if name.starts_with("--") && value.is_empty() && args.get(place).is_some_and(next_is_value) {
        args.remove(place);
    }
    true
}

fn text(error: &clap::Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        Some(ContextValue::Strings(texts)) => texts.first().map_or("", String::as_str),
        _ => "",
    }
}
