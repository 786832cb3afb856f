//! `sandbox`: a gateway in front of an emulated OnboardFlow, in one process.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use onboardflow_gateway::{
    config::{AuthScheme, Credentials, LedgerConfig, Location, SandboxConfig, UpstreamConfig},
    ledger::Ledger,
    port,
    sandbox::{OnboardFlow, Welcome},
    upstream::Upstream,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;
use tracing::warn;
use url::Url;

use super::{seen::Seen, serve::Gateway};
use crate::Failure;

/// Longer than anyone tries things in one sandbox.
const RETENTION: Duration = Duration::from_secs(72 * 3600);

pub(crate) async fn sandbox(config: &SandboxConfig, seen: &Seen) -> Result<(), Failure> {
    let rest = port::open("rest-listen", config.rest_listen).await?;
    let directory = tempfile::tempdir();
    let ledger = match &directory {
        Ok(directory) => {
            let config = LedgerConfig {
                location: Location::Sqlite(directory.path().join("ledger.db")),
                retention: RETENTION,
            };
            Some(Ledger::follow(&config, &seen.telemetry.metrics).await?)
        }
        Err(error) => {
            warn!(%error, "no temporary directory, so no ledger: calls with a request_id are refused");
            None
        }
    };
    let gateway = Gateway::open(&config.process, seen, ledger.clone()).await?;
    let token = SecretString::from(sandbox_key());
    let welcome = Welcome {
        grpc: gateway.listener.local_addr()?,
        rest: rest.local_addr()?,
        token: token.expose_secret(),
    };
    writeln!(io::stdout(), "{welcome}")?;
    let credentials = Credentials::Gateway {
        token: token.clone(),
        scheme: AuthScheme::Token,
    };
    let upstream = UpstreamConfig {
        max_response_bytes: config.process.max_response_bytes,
        // Each call meets what its site key names, whatever calls before it met.
        breaker: None,
        heed_retry_after: false,
        ..UpstreamConfig::new(
            Url::parse(&format!("http://{}", welcome.rest))?,
            credentials,
        )
    };

    // The emulated API outlives the gateway, so that calls in flight can finish.
    let (drained, until_drained) = oneshot::channel::<()>();
    let emulated = tokio::spawn(OnboardFlow::new(token).serve(rest, async {
        let _ = until_drained.await;
    }));
    let upstream = Upstream::new(&upstream, ledger.clone(), &seen.telemetry.metrics)?;
    gateway.run(upstream, ledger).await?;
    drop(drained);
    emulated.await??;
    Ok(())
}

/// 40 hex digits, as a real key has, and another one for each run.
fn sandbox_key() -> String {
    (0..40)
        .map(|_| char::from_digit(fastrand::u32(..16), 16).unwrap_or('0'))
        .collect()
}
