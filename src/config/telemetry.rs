//! What an operator is shown: which of traces and metrics are sent, and the configuration that is in force,
//! without what may be a secret.

use std::{collections::BTreeMap, str::FromStr as _, time::Duration};

use clap::{ArgMatches, Command, parser::ValueSource};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use url::Url;

use super::{Problems, checked};

/// Longest time that an export may take, where the environment does not say.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between exports of metrics, where the environment does not say.
const EXPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Whether calls are traced, and whether metrics are sent too.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    /// Whether spans are sent by OTLP. The exporter reads the rest of `OTEL_*` itself.
    pub traces: bool,
    /// How metrics are sent by OTLP, where they are.
    pub metrics: Option<MetricsExport>,
}

impl Exports {
    /// What the environment asks for, by OpenTelemetry's standard variables.
    pub(super) fn check(problems: &mut Problems) -> Self {
        let traces = Signal("TRACES").endpoint(&["none"], problems);
        let metrics = Signal("METRICS").endpoint(&["none", "prometheus"], problems);
        let metrics = metrics.map(|endpoint| Signal("METRICS").export(endpoint, problems));
        Self {
            traces: traces.is_some(),
            metrics: metrics.flatten(),
        }
    }
}

/// Where metrics are sent, and how often.
#[derive(Clone, Debug)]
pub struct MetricsExport {
    /// The collector's URL for metrics.
    pub endpoint: Url,
    /// Headers to send with them.
    pub headers: HeaderMap,
    /// Longest time that an export may take.
    pub timeout: Duration,
    /// Time between exports.
    pub interval: Duration,
}

/// A signal, as the variables call it.
#[derive(Clone, Copy)]
struct Signal(&'static str);

impl Signal {
    /// A variable of this signal, or of all of them.
    fn variable(self, rest: &str) -> Option<String> {
        let own = variable(&format!("OTEL_EXPORTER_OTLP_{}_{rest}", self.0));
        own.or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{rest}")))
    }

    /// Where it is sent by OTLP, if it is.
    fn endpoint(self, others: &[&str], problems: &mut Problems) -> Option<Url> {
        let name = format!("OTEL_{}_EXPORTER", self.0);
        let is_disabled =
            variable("OTEL_SDK_DISABLED").is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let is_wanted = match variable(&name).as_deref() {
            Some("otlp") => true,
            Some(other) if others.contains(&other) => false,
            None => self.variable("ENDPOINT").is_some(),
            Some(_) => {
                problems.add_named(
                    &name,
                    format_args!("must be otlp or {}", others.join(" or ")),
                );
                false
            }
        };
        if is_disabled || !is_wanted {
            return None;
        }
        if self
            .variable("PROTOCOL")
            .is_some_and(|protocol| protocol != "http/protobuf")
        {
            problems.add_named(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "must be http/protobuf, the only one that the gateway speaks",
            );
            return None;
        }
        let endpoint = self.url();
        if endpoint.is_none() {
            problems.add_named(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "must be an http or https URL",
            );
        }
        endpoint
    }

    /// The URL of the signal itself is taken as it is, the common one gets the signal's path.
    fn url(self) -> Option<Url> {
        let own = variable(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", self.0));
        let url = own.unwrap_or_else(|| {
            let common = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
            let common = common.unwrap_or_else(|| "http://localhost:4318".to_owned());
            format!(
                "{}/v1/{}",
                common.trim_end_matches('/'),
                self.0.to_lowercase()
            )
        });
        let url = Url::parse(&url).ok()?;
        matches!(url.scheme(), "http" | "https").then_some(url)
    }

    /// How it is sent to this URL.
    fn export(self, endpoint: Url, problems: &mut Problems) -> Option<MetricsExport> {
        let headers = headers(&self.variable("HEADERS").unwrap_or_default());
        if headers.is_none() {
            problems.add_named(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "must be like name=value,name=value",
            );
        }
        let millis = |text: Option<String>, default| {
            let millis = text
                .and_then(|millis| millis.parse().ok())
                .filter(|millis| *millis > 0);
            millis.map_or(default, Duration::from_millis)
        };
        Some(MetricsExport {
            endpoint,
            headers: headers?,
            timeout: millis(self.variable("TIMEOUT"), EXPORT_TIMEOUT),
            interval: millis(variable("OTEL_METRIC_EXPORT_INTERVAL"), EXPORT_INTERVAL),
        })
    }
}

/// Headers as the specification writes them: a list of pairs, whose values may be percent-encoded.
fn headers(text: &str) -> Option<HeaderMap> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_str(name.trim()).ok()?, value))
    };
    pairs.map(header).collect()
}

fn variable(name: &str) -> Option<String> {
    checked::variable(name)?.into_string().ok()
}

/// Every flag's value, and where it came from. No flag holds a secret: the API key has a file or a
/// variable of its own.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Effective(BTreeMap<String, Setting>);

const ENVIRONMENT: &str = "environment";

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
                ValueSource::EnvVariable => ENVIRONMENT,
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

    /// Whether the flag's value is its variable's.
    pub(super) fn is_from_environment(&self, flag: &str) -> bool {
        let setting = self.0.get(flag);
        setting.is_some_and(|setting| setting.from == ENVIRONMENT)
    }

    /// As JSON.
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
