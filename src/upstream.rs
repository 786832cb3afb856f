//! The way out: one RPC's REST call, from the request message to the response message.

mod credentials;
mod http;

use tracing::debug;

pub use self::http::BuildError;
use self::{credentials::KeyRing, http::Http};
use crate::{
    config::UpstreamConfig,
    context::Context,
    error::Error,
    translate::{self, Operation},
};

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
            translate::redact(&mut error, &call);
            error
        })?;
        if !decoded.unknown_fields.is_empty() {
            debug!(fields = ?decoded.unknown_fields, "OnboardFlow's reply has fields unknown to the gateway");
        }
        Ok(decoded.message)
    }
}
