//! The way out: one RPC's REST call, from the request message to the response message.

mod credentials;
mod dial;
mod http;
mod pool;
mod reply;
mod socket;

use ::http::header::InvalidHeaderValue;
use tokio::time::Instant;
use tracing::debug;

use self::{
    credentials::{Key, KeyRing},
    http::{FOREVER, Failure, Http, Reached},
};
use crate::{
    config::UpstreamConfig,
    context::Context,
    error::{Error, Loss},
    rest::{Call, Effect, Reply},
    translate::{self, Operation},
};

/// Why the upstream can't be prepared. All of them are configuration errors.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host of the base URL can't be put into a request.
    #[error("the upstream's URL has a host that can't be called")]
    Host,
    /// The CA bundle or the system's roots are unusable.
    #[error("TLS to the upstream can't be set up")]
    Tls(#[from] rustls::Error),
    /// The key can't be put into a header.
    #[error("the API key can't be put into a header")]
    Key(#[from] InvalidHeaderValue),
}

/// OnboardFlow, as the gateway calls it.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: Http,
    keys: KeyRing,
}

impl Upstream {
    /// Prepares all that calls have in common. Opens no connection yet.
    pub fn new(config: &UpstreamConfig) -> Result<Self, BuildError> {
        Ok(Self {
            http: Http::new(config)?,
            keys: KeyRing::new(&config.credentials)?,
        })
    }

    /// The same for another worker: with connections of its own, as those belong to the runtime
    /// that opened them, and all else shared.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self {
            http: self.http.for_worker(),
            ..self.clone()
        }
    }

    /// Makes one call: encode, authorize, send, decode.
    pub async fn call<Op: Operation>(
        &self,
        request: Op::Request,
        context: &Context,
    ) -> Result<Op::Response, Error> {
        let call = Op::encode(request)?;
        let key = self.keys.for_call(context)?;
        let reply = self.send(&call, &key, Op::EFFECT, context).await?;
        let decoded = Op::decode(reply).map_err(|mut error| {
            translate::redact(&mut error, &call);
            error
        })?;
        if !decoded.unknown_fields.is_empty() {
            debug!(fields = ?decoded.unknown_fields, "OnboardFlow's reply has fields unknown to the gateway");
        }
        Ok(decoded.message)
    }

    async fn send(
        &self,
        call: &Call,
        key: &Key,
        effect: Effect,
        context: &Context,
    ) -> Result<Reply, Error> {
        let sent = self.http.send(call, key, context, Instant::now() + FOREVER);
        sent.await.map_err(|failure| lost(failure, effect))
    }
}

/// A call without a reply.
fn lost(failure: Failure, effect: Effect) -> Error {
    let loss = match failure.reached {
        Reached::Nothing | Reached::Connected => Loss::Unreachable,
        Reached::Sent => Loss::Connection(effect),
    };
    Error::new(loss).because(failure.cause)
}
