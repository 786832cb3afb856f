//! The way out: one RPC's REST call, from the request message to the response message.

mod credentials;
mod http;

pub use self::http::BuildError;
use self::{credentials::KeyRing, http::Http};
use crate::{
    config::{Credentials, UpstreamConfig},
    context::Context,
    error::Error,
    telemetry::{Metrics, Secret, UpstreamMetrics},
    translate::{self, Operation},
};

/// OnboardFlow, as the gateway calls it.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: Http,
    keys: KeyRing,
    metrics: UpstreamMetrics,
}

impl Upstream {
    /// Prepares all that calls have in common. Opens no connection yet.
    pub fn new(config: &UpstreamConfig, metrics: &Metrics) -> Result<Self, BuildError> {
        if let Credentials::Gateway { .. } = config.credentials {
            metrics.secrets.loaded(Secret::Token);
        }
        Ok(Self {
            http: Http::new(config, metrics)?,
            keys: KeyRing::new(&config.credentials)?,
            metrics: metrics.upstream.clone(),
        })
    }

    /// Makes one call: encode, authorize, send, decode.
    pub async fn call<Op: Operation>(
        &self,
        request: Op::Request,
        context: &Context,
    ) -> Result<Op::Response, Error> {
        let call = Op::encode(request)?;
        let key = self.keys.for_call(context)?;
        let reply = self.http.send(&call, &key, Op::EFFECT, context).await?;
        let decoded = Op::decode(reply).map_err(|mut error| {
            translate::redact(&mut error, &call, &key.authorization);
            error
        })?;
        for path in &decoded.unknown_fields {
            self.metrics.unknown_field(path);
        }
        Ok(decoded.message)
    }
}
