//! The way out: one RPC's REST call, from the request message to the response message. Knows no resource:
//! what a call means, its operation says.

mod addresses;
mod attempts;
mod breaker;
mod credentials;
mod dial;
mod evidence;
mod failure;
mod http;
mod memory;
mod once;
mod pool;
mod quota;
mod repeats;
mod reply;
mod retry;
mod socket;
mod time;

use std::sync::Arc;

use ::http::header::InvalidHeaderValue;

pub use self::once::{Origin, Outcome};
use self::{
    attempts::Answered,
    breaker::Breaker,
    credentials::{Key, KeyRing},
    http::Http,
    quota::{Counted, Quota},
    repeats::{Before, Repeats},
    retry::{Backoff, Budget},
};
use crate::{
    config::UpstreamConfig,
    context::Context,
    error::{Answer, Error, Kind, Loss},
    ledger::Ledger,
    rest::{Call, KeyHolder},
    telemetry::{Attempts, CallerMetrics, Metrics, UpstreamMetrics},
    translate::{self, Operation, Response as _},
};

/// Why the upstream can't be prepared.
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
    /// The files with the keys can't be used. Doesn't quote them.
    #[error("{0}")]
    Files(String),
}

/// OnboardFlow, as the gateway calls it.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: Http,
    shared: Arc<Shared>,
    ledger: Option<Ledger>,
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    keys: KeyRing,
    breaker: Breaker,
    quota: Quota,
    budget: Budget,
    backoff: Backoff,
    repeats: Repeats,
    max_attempts: u32,
    metrics: UpstreamMetrics,
    callers: CallerMetrics,
    attempts: Attempts,
}

impl Upstream {
    /// Prepares all that calls have in common. Opens no connection yet. Keys in files are followed
    /// on the runtime that this is called in.
    pub fn new(
        config: &UpstreamConfig,
        ledger: Option<Ledger>,
        metrics: &Metrics,
    ) -> Result<Self, BuildError> {
        let shared = Shared {
            keys: KeyRing::new(&config.credentials, &metrics.secrets)?,
            breaker: Breaker::new(config.breaker, metrics.upstream.clone()),
            quota: Quota::new(config, ledger.as_ref()),
            budget: Budget::new(),
            backoff: Backoff::default(),
            repeats: Repeats::new(),
            max_attempts: config.max_attempts,
            metrics: metrics.upstream.clone(),
            callers: metrics.callers.clone(),
            attempts: metrics.upstream.attempts(&config.base_url),
        };
        let shared = Arc::new(shared);
        metrics.collect(quota::Shown(Arc::downgrade(&shared)));
        Ok(Self {
            http: Http::new(config, metrics.outward.clone())?,
            shared,
            ledger,
        })
    }

    /// The same for another worker: with connections of its own, as those belong to the runtime
    /// that opened them, and all else shared.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self {
            http: self.http.for_worker(),
            shared: Arc::clone(&self.shared),
            ledger: self.ledger.clone(),
        }
    }

    /// Makes one call: authorize, send, decode. One that names itself is sent once.
    pub async fn call<Op: Operation>(
        &self,
        call: &Call,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        // Here, as the site is known for the first time.
        context.check_caller(&call.site_key)?;
        let key = self.shared.keys.for_call(context, &call.site_key)?;
        self.once::<Op>(call, &key, context).await
    }

    /// Sends a call, with what is known of it where it is a repeat.
    async fn send<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
        counted: Option<Counted<'_>>,
    ) -> Result<Op::Response, Error> {
        if !Op::INTENT.effect.may_repeat() {
            return self.exchange::<Op>(call, key, context, counted, None).await;
        }
        let repeats = &self.shared.repeats;
        let before = repeats.before(call, context);
        let ended = self.exchange::<Op>(call, key, context, counted, before);
        let ended = ended.await;
        if let Err(error) = &ended {
            repeats.failed(call, context, error, before);
        }
        ended
    }

    async fn exchange<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
        counted: Option<Counted<'_>>,
        before: Option<Before>,
    ) -> Result<Op::Response, Error> {
        let most = self.most_attempts(context, before)?;
        let effect = Op::INTENT.effect;
        let ended = self.attempt(call, key, effect, context, counted, most);
        let answered = ended.await?;
        self.read::<Op>(call, key, answered)
    }

    /// The response in a reply, if it is this call's.
    fn read<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        answered: Answered,
    ) -> Result<Op::Response, Error> {
        let Answered { reply, earlier } = answered;
        let sample = self.shared.metrics.samples_fields();
        let sample = sample.then(|| reply.clone());
        let response = Op::decode(reply).map_err(|mut error| {
            translate::redact(&mut error, call, &key.authorization);
            if is_our_key(error.kind) {
                error = error.because(format!("the key is {}", key.name));
            }
            error.after(earlier)
        })?;
        if !call.names.can_be_answered_by(&response.names()) {
            // A connection that is one answer ahead: this call's own comes to the next one, or never.
            self.http.trust_no_kept_connection();
            let lost = Error::new(Loss::Connection(Op::INTENT.effect));
            let lost = lost.because("the reply names another record: it is another call's");
            return Err(lost.after(earlier));
        }
        for path in sample.iter().flat_map(Op::Response::unknown_fields) {
            self.shared.metrics.unknown_field(&path);
        }
        Ok(response)
    }
}

/// Whether OnboardFlow refused a key of the gateway's own. The log names it then: there may be many.
fn is_our_key(kind: Kind) -> bool {
    use KeyHolder::Gateway;

    matches!(
        kind,
        Kind::Answered(Answer::KeyRefused(Gateway) | Answer::KeyForbidden(Gateway))
    )
}
