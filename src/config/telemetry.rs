//! What an operator is shown: whether calls are traced, and the configuration that is in force.

use std::{collections::BTreeMap, time::Duration};

use clap::{ArgMatches, Command, parser::ValueSource};
use serde::Serialize;
use url::Url;

use super::{Problems, checked};

/// Longest time that an export may take, where the environment does not say.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether calls are traced. The exporter reads the rest of `OTEL_*` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// No exporter is asked for.
    Off,
    /// Spans are sent by OTLP.
    Otlp {
        /// Longest time that an export may take.
        timeout: Duration,
    },
}

impl Tracing {
    /// What the environment asks for, by OpenTelemetry's standard variables.
    pub(super) fn check(problems: &mut Problems) -> Option<Self> {
        let otlp = |rest: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{rest}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{rest}")))
        };
        let exporter = variable("OTEL_TRACES_EXPORTER");
        let disabled =
            variable("OTEL_SDK_DISABLED").is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let wanted = match exporter.as_deref() {
            Some("none") => false,
            Some("otlp") => true,
            None => otlp("ENDPOINT").is_some(),
            Some(_) => {
                problems.add_named("OTEL_TRACES_EXPORTER", "must be otlp or none");
                return None;
            }
        };
        if disabled || !wanted {
            return Some(Self::Off);
        }
        if otlp("PROTOCOL").is_some_and(|protocol| protocol != "http/protobuf") {
            problems.add_named(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "must be http/protobuf, the only one that the gateway speaks",
            );
            return None;
        }
        let is_usable = |endpoint: &str| {
            Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        if otlp("ENDPOINT").is_some_and(|endpoint| !is_usable(&endpoint)) {
            problems.add_named(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "must be an http or https URL",
            );
            return None;
        }
        let timeout = otlp("TIMEOUT").and_then(|millis| millis.parse().ok());
        Some(Self::Otlp {
            timeout: timeout.map_or(EXPORT_TIMEOUT, Duration::from_millis),
        })
    }
}

fn variable(name: &str) -> Option<String> {
    checked::variable(name)?.into_string().ok()
}

/// Every flag's value, and where it came from. No flag holds a secret: the API key has a file or a
/// variable of its own.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Effective(BTreeMap<String, Setting>);

#[derive(Clone, Debug, Serialize)]
struct Setting {
    value: String,
    from: &'static str,
}

impl Effective {
    /// What clap read for this command.
    pub(super) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let setting = |id: &str| {
            let values = matches.get_raw(id)?;
            let values: Vec<_> = values
                .map(|value| shown(&value.to_string_lossy()))
                .collect();
            let from = match matches.value_source(id)? {
                ValueSource::CommandLine => "command line",
                ValueSource::EnvVariable => "environment",
                _ => "default",
            };
            Some(Setting {
                value: values.join(","),
                from,
            })
        };
        let flags = command.get_arguments().filter_map(|arg| {
            let flag = arg.get_long()?;
            Some((flag.to_owned(), setting(arg.get_id().as_str())?))
        });
        Self(flags.collect())
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A value as it may be shown: a URL without its password and its query, which may hold secrets.
fn shown(value: &str) -> String {
    let Ok(mut url) = Url::parse(value) else {
        return value.to_owned();
    };
    if url.query().is_none() && url.password().is_none() {
        return value.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some("redacted"));
    }
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return "redacted".to_owned();
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use crate::config::Cli;

    #[test]
    fn every_flag_is_shown_and_no_query() {
        let args = [
            "gateway",
            "serve",
            "--upstream-url",
            "https://example.com/x?key=hidden",
        ];
        let cli = Cli::read(args.map(Into::into)).unwrap();
        let json = cli.effective.to_json();
        assert!(!json.contains("hidden"), "{json}");
        let url =
            r#""upstream-url":{"value":"https://example.com/x?redacted","from":"command line"}"#;
        assert!(json.contains(url), "{json}");
        let timeout = r#""default-timeout":{"value":"10s","from":"default"}"#;
        assert!(json.contains(timeout), "{json}");
    }
}
