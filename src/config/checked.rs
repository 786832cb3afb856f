//! Values from the command line and the environment, and everything that is wrong with them: told at once,
//! by flag and never by value, which may be a key put in the wrong place. Knows no flag.

use std::{
    env, ffi::OsString, fmt, net::SocketAddr, ops::RangeBounds, str::FromStr, time::Duration,
};

use clap::{Args, Command, ValueEnum};
use http::uri::Authority;
use url::Url;

use super::Effective;

/// A value, or why it isn't one.
pub(super) type Checked<T> = Result<T, &'static str>;

/// The value of a flag's default, which is one.
#[expect(
    clippy::expect_used,
    reason = "the program's own text: every test that starts a gateway reads it"
)]
pub(super) fn proven<T, E: fmt::Debug>(value: Result<T, E>) -> T {
    value.expect("a flag's default must be a value of it")
}

/// What the flags say when nobody gives them: so each default stands in one place, with its flag.
pub(super) fn defaults<T: Args>() -> T {
    let command = T::augment_args(Command::new(""));
    let matches = command.try_get_matches_from([""]);
    proven(matches.and_then(|matches| T::from_arg_matches(&matches)))
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    /// As it is shown: a flag with its dashes.
    name: String,
    what: String,
}

impl Problems {
    /// Notes a problem with a flag.
    pub(super) fn add(&mut self, flag: &str, problem: impl fmt::Display) {
        self.add_named(&format!("--{flag}"), problem);
    }

    /// Notes a problem with an argument or a variable that has no flag.
    pub(super) fn add_named(&mut self, name: &str, problem: impl fmt::Display) {
        self.0.push(Problem {
            name: name.to_owned(),
            what: problem.to_string(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The same, where a flag's value came from its variable by the name of that.
    #[must_use]
    pub fn named_as_set(mut self, effective: &Effective) -> Self {
        for problem in &mut self.0 {
            if let Some(flag) = problem.name.strip_prefix("--")
                && effective.is_from_environment(flag)
            {
                problem.name = variable_of(flag);
            }
        }
        self
    }

    /// The value, if it is one; notes the problem otherwise.
    pub(super) fn check<T>(
        &mut self,
        flag: &str,
        value: Result<T, impl fmt::Display>,
    ) -> Option<T> {
        value.map_err(|problem| self.add(flag, problem)).ok()
    }

    /// What was built, or all that is wrong with it.
    pub(super) fn finish<T>(self, config: Option<T>) -> Result<T, Self> {
        config.filter(|_| self.is_empty()).ok_or(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems = self.0.iter();
        problems.try_for_each(|Problem { name, what }| writeln!(f, "  {name}: {what}"))
    }
}

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "ONBOARDFLOW_";

/// The variable that holds a flag's value.
pub(super) fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_uppercase())
}

/// A variable of the environment. An empty one is a missing one: that is how a manifest leaves it
/// out, and how OpenTelemetry has it.
pub(super) fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "this is config")]
    let value = env::var_os(name);
    value.filter(|value| !value.is_empty())
}

pub(super) fn address(text: &str) -> Checked<SocketAddr> {
    text.parse()
        .map_err(|_| "must be an IP address and port, such as 127.0.0.1:50051 or [::]:50051")
}

/// A host, by name or number, and a port.
pub(super) fn authority(text: &str) -> Checked<Authority> {
    text.parse()
        .ok()
        .filter(|address: &Authority| address.port_u16().is_some() && !text.contains('@'))
        .ok_or("must be a host and a port, such as localhost:9090")
}

/// A duration that can be added to any time without leaving what clocks can hold.
pub(super) fn duration(text: &str) -> Checked<Duration> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("must not be longer than a year"),
        Err(_) => Err("must be a duration, such as 500ms, 10s or 30m"),
    }
}

/// A duration that may not be zero.
pub(super) fn timeout(text: &str) -> Checked<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero"),
        timeout => Ok(timeout),
    }
}

fn number<T: FromStr + PartialOrd>(text: &str, range: impl RangeBounds<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// A number of things, at least one.
pub(super) fn count<T: FromStr + PartialOrd + From<u8> + TryFrom<u32>>(text: &str) -> Checked<T> {
    number(text, T::from(1)..)
        .filter(|count| T::try_from(1 << 20).is_ok_and(|most| *count <= most))
        .ok_or("must be a whole number from 1 to 1048576")
}

/// One of the values that help names.
pub(super) fn choice<T: ValueEnum>(text: &str) -> Checked<T> {
    T::from_str(text, false).map_err(|_| "must be one of the values that --help names")
}

pub(super) fn attempts(text: &str) -> Checked<u32> {
    number(text, 1..=10).ok_or("must be a number from 1 to 10")
}

pub(super) fn warm_connections(text: &str) -> Checked<usize> {
    number(text, ..=16).ok_or("must be a number from 0 to 16")
}

pub(super) fn quota(text: &str) -> Checked<u64> {
    number(text, 1..).ok_or("must be a number above zero")
}

pub(super) fn boolean(text: &str) -> Checked<bool> {
    text.parse().map_err(|_| "must be true or false")
}

pub(super) fn size(text: &str) -> Checked<usize> {
    text.parse::<bytesize::ByteSize>()
        .ok()
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| (1..=1 << 30).contains(size))
        .ok_or("must be a size between 1B and 1GiB, such as 64KiB")
}

pub(super) fn base_url(text: &str) -> Checked<Url> {
    let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must be an http or https URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold credentials; use --token-file");
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment");
    }
    Ok(url)
}
