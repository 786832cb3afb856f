//! Sends requests to a gateway, and judges what it answers. Knows neither files nor rows, and doesn't wait.

use std::{
    error::Error,
    io,
    iter::successors,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Code, ConnectError, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::{How, requests::Rpc};
use crate::{
    config::{ImportConfig, ImportTarget, RELOAD_INTERVAL},
    error::Source,
    files,
    reload::{Files, Reloaded},
    telemetry::{Metrics, Secret},
};

/// Longest time for one call. The gateway's own deadline comes first.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The wait where a failure doesn't say how long.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    rpc: Rpc,
    /// Followed: an import may take days, and a token of Kubernetes lasts an hour.
    authorization: Option<Reloaded<MetadataValue<Ascii>>>,
    /// Whether requests name themselves, so that sending one again is safe.
    are_named: bool,
}

/// What the gateway answered, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) fate: Fate,
    pub(super) spent: Spent,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in.
    Sent,
    /// It was in before: nothing was sent.
    Replayed,
    /// It isn't in, for this reason.
    Failed(String),
    /// It may be in.
    Unknown(String),
    /// It isn't in, and may be sent again after this time; and why it isn't.
    Again(Duration, String),
    /// No row would get through: the import ends like this.
    Stop(How),
}

/// Whether a row took one of OnboardFlow's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// This call did.
    Now,
    /// The first one for this row did, at that time.
    Before(SystemTime),
    /// None that is known of.
    Nothing,
}

impl Fate {
    fn with(self, spent: Spent) -> Answer {
        Answer { fate: self, spent }
    }
}

impl Client {
    /// A caller that connects with its first call.
    pub(super) fn new(config: &ImportConfig, rpc: Rpc) -> Result<Self, Source> {
        let target = &config.target;
        let mut endpoint = Endpoint::from_shared(target.to.to_string())?
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30));
        if target.to.scheme() == "https" {
            endpoint = endpoint.tls_config(tls(target)?)?;
        }
        let authorization = target.bearer.clone().map(follow).transpose()?;
        Ok(Self {
            grpc: Grpc::new(endpoint.connect_lazy()),
            rpc,
            authorization,
            are_named: !config.allow_duplicates,
        })
    }

    pub(super) async fn send(&self, request: Bytes) -> Answer {
        let mut grpc = self.grpc.clone();
        let mut request = Request::new(request);
        if let Some(value) = &self.authorization {
            let value = MetadataValue::clone(&value.get());
            request.metadata_mut().insert("authorization", value);
        }
        let answer = match grpc.ready().await {
            Ok(()) => grpc.unary(request, self.rpc.path.clone(), Raw).await,
            Err(error) => Err(Status::from_error(error.into())),
        };
        match answer {
            Ok(answer) if answer.metadata().contains_key("onboardflow-replayed") => {
                let recorded = self.rpc.recorded(answer.into_inner());
                Fate::Replayed.with(recorded.map_or(Spent::Nothing, Spent::Before))
            }
            Ok(_) => Fate::Sent.with(Spent::Now),
            Err(status) => judge(&status, self.are_named),
        }
    }
}

fn tls(target: &ImportTarget) -> Result<ClientTlsConfig, Source> {
    let mut tls = ClientTlsConfig::new();
    if let Some(file) = &target.ca {
        tls = tls.ca_certificate(Certificate::from_pem(files::read(file)?));
    }
    if let (Some(cert), Some(key)) = (&target.cert, &target.key) {
        tls = tls.identity(Identity::from_pem(files::read(cert)?, files::read(key)?));
    }
    Ok(tls)
}

fn follow(file: PathBuf) -> Result<Reloaded<MetadataValue<Ascii>>, Source> {
    let files = Files {
        secret: Secret::Token,
        paths: vec![file.clone()],
        interval: RELOAD_INTERVAL,
        metrics: Metrics::new().secrets,
    };
    Reloaded::follow(files, move || bearer(&file))
}

fn bearer(file: &Path) -> Result<MetadataValue<Ascii>, Source> {
    let token = files::read_text(file)?;
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.trim()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a failure means for the row.
fn judge(status: &Status, are_named: bool) -> Answer {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return judge_connection(status, are_named).with(Spent::Nothing);
    };
    let (reason, write) = (&info.reason, info.metadata.get("write").map(String::as_str));
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    match (reason.as_str(), write, status.code()) {
        ("LEDGER_OFF", _, _) => stop(
            "the gateway keeps no ledger, so a row could be sent twice; --allow-duplicates goes on \
             without one",
        )
        .with(Spent::Nothing),
        ("REQUEST_IN_PROGRESS", _, _) => again(delay, reason),
        ("WRITE_SETTLED", _, _) => Fate::Replayed.with(Spent::Nothing),
        ("WRITE_UNKNOWN", _, _) => {
            let first = info.metadata.get("first_attempt");
            let first = first.and_then(|time| humantime::parse_rfc3339(time).ok());
            Fate::Unknown(reason.clone()).with(first.map_or(Spent::Nothing, Spent::Before))
        }
        (_, Some("applied"), _) => Fate::Sent.with(Spent::Now),
        (_, Some("unknown"), _) => Fate::Unknown(reason.clone()).with(Spent::Now),
        ("UPSTREAM_CREDENTIALS_REJECTED", _, _)
        | (_, _, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) => {
            stop(format!("{reason}: {}", status.message())).with(Spent::Now)
        }
        (_, _, Code::Unavailable | Code::DeadlineExceeded) => again(delay, reason),
        // Unless it says when, sending it again changes nothing.
        (_, _, _) if delay.is_some() => again(delay, reason),
        (_, Some("rejected"), _) => Fate::Failed(reason.clone()).with(Spent::Now),
        (_, _, _) => Fate::Failed(reason.clone()).with(Spent::Nothing),
    }
}

fn stop(why: impl Into<String>) -> Fate {
    Fate::Stop(How::Stopped(why.into()))
}

fn again(delay: Option<Duration>, why: &str) -> Answer {
    Fate::Again(delay.unwrap_or(PAUSE), why.to_owned()).with(Spent::Nothing)
}

/// What a failure means that isn't the gateway's word: the connection's, or that of something between.
fn judge_connection(status: &Status, are_named: bool) -> Fate {
    let causes: Vec<_> = successors(status.source(), |error: &&(dyn Error + 'static)| {
        (*error).source()
    })
    .collect();
    // The innermost says most.
    let cause = causes.last();
    let cause = cause.map_or_else(|| status.message().to_owned(), ToString::to_string);
    if causes.iter().any(|error| is_of_tls(*error)) {
        return Fate::Stop(How::BadInput(format!(
            "no TLS with the gateway: {cause} (see --to-ca, --to-cert and --to-key)"
        )));
    }
    if causes.iter().any(|error| error.is::<ConnectError>()) {
        return Fate::Again(PAUSE, format!("no connection to the gateway: {cause}"));
    }
    match status.code() {
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unknown
        | Code::Internal => {
            if are_named {
                Fate::Again(
                    PAUSE,
                    format!("the connection to the gateway was lost: {cause}"),
                )
            } else {
                Fate::Unknown("CONNECTION_LOST".to_owned())
            }
        }
        code => stop(format!("{code:?}: {}", status.message())),
    }
}

/// Whether the two sides don't trust each other, which no wait changes. In TLS 1.3 a server looks at the client's
/// certificate when the client takes the handshake for done: then h2 reads what rustls says, and keeps only its
/// text and its kind, which no socket has.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// Requests and responses as their bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, request: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(request);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
