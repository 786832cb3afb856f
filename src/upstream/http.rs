//! The transport: the only file that opens sockets outward.
//!
//! What all calls have in common (URLs, headers, TLS) is prepared once. Redirects are off, as one
//! would turn a write into a read; so are reqwest's own retries, as they know nothing of a write's
//! effect, and proxies from the environment, as they are not the upstream that was configured.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, SystemTime},
};

use ::http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use reqwest::{Certificate, Client, Response, redirect};
use url::Url;

use super::credentials::Key;
use crate::{
    config::UpstreamConfig,
    context::{Context, Progress, REQUEST_ID},
    error::{Error, Loss, Sent},
    rest::{Call, Effect, Ending, Reply},
};

/// Sent as `User-Agent`.
const USER_AGENT: &str = concat!("onboardflow-gateway/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why the upstream can't be prepared. Both are configuration errors.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The CA bundle or the TLS set-up is unusable.
    #[error("the HTTP client can't be set up")]
    Client(#[from] reqwest::Error),
    /// The key can't be put into a header.
    #[error("the API key can't be put into a header")]
    Key(#[from] InvalidHeaderValue),
}

/// A pool of connections to OnboardFlow.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    base_url: Url,
    max_response_bytes: usize,
}

impl Http {
    pub(super) fn new(config: &UpstreamConfig) -> Result<Self, BuildError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON), (ACCEPT, JSON)]);
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true);
        for certificate in &config.extra_roots {
            client = client.tls_certs_merge([Certificate::from_der(certificate)?]);
        }
        Ok(Self {
            client: client.build()?,
            base_url: config.base_url.clone(),
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// Sends a call once, and reads what comes back. A status that is no success is a [`Reply`]
    /// like any other; an error means that there was none.
    pub(super) async fn send(
        &self,
        call: &Call,
        key: &Key,
        effect: Effect,
        context: &Context,
    ) -> Result<Reply, Error> {
        let progress = &context.progress;
        let body = TrackedBody {
            bytes: Some(call.body.clone()),
            progress: progress.clone(),
        };
        let response = self
            .client
            .request(call.method.clone(), self.url(call.path))
            .header(AUTHORIZATION, key.authorization.clone())
            .header(REQUEST_ID, context.request_id.clone())
            .body(reqwest::Body::wrap(body))
            .send()
            .await
            .map_err(|error| lost(progress.sent(), effect, error))?;

        let status = response.status();
        #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date")]
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let (body, ending) = self.read(response).await;
        Ok(Reply {
            status,
            retry_after,
            body,
            ending,
            key_holder: key.holder,
        })
    }

    /// The base URL's own path stays in front, and its query behind.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        let prefix = url.path().trim_end_matches('/');
        let path = format!("{prefix}{path}");
        url.set_path(&path);
        url
    }

    /// Reads a body up to the cap, and stops reading there.
    async fn read(&self, mut response: Response) -> (Bytes, Ending) {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_response_bytes => {
                    body.extend_from_slice(&chunk[..self.max_response_bytes - body.len()]);
                    return (body.freeze(), Ending::TooLarge);
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return (body.freeze(), Ending::Complete),
                Err(_) => return (body.freeze(), Ending::CutShort),
            }
        }
    }
}

/// An exchange without a reply. The URL is left out of the cause: its query may hold a secret.
fn lost(sent: Sent, effect: Effect, error: reqwest::Error) -> Error {
    let loss = match sent {
        Sent::No => Loss::Unreachable,
        Sent::Maybe => Loss::Connection(effect),
    };
    Error::new(loss).because(error.without_url())
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// A request body that notes when it begins to leave. hyper asks for it once it has a connection,
/// before it writes the first byte of the head.
struct TrackedBody {
    bytes: Option<Bytes>,
    progress: Progress,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.progress.sending();
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn delay(value: &'static str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        retry_after(&headers, now).map(|delay| delay.as_secs())
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        assert_eq!(delay("86399"), Some(86_399));
        assert_eq!(delay("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(delay("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!(delay("soon"), None);
        assert_eq!(delay("-1"), None);
    }
}
