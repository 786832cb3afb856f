//! Sends requests to a gateway, and judges what it answers.

use std::{error::Error as _, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Code, ConnectError, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use crate::{config::ImportTarget, error::Source, files};

/// Longest time for one call. The gateway's own deadline comes first.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The wait where a failure doesn't say how long.
const PAUSE: Duration = Duration::from_secs(5);

/// A caller of one RPC.
#[derive(Clone, Debug)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
    authorization: Option<MetadataValue<Ascii>>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in.
    Sent,
    /// It was in before: nothing was sent, and nothing of a quota is spent.
    Replayed,
    /// It isn't in, for this reason.
    Failed(String),
    /// It may be in.
    Unknown(String),
    /// It isn't in, and may be sent again after this time.
    Again(Duration),
    /// No row would get through, for this reason.
    Stop(String),
}

impl Client {
    /// A caller that connects with its first call.
    pub(super) fn new(target: &ImportTarget, path: PathAndQuery) -> Result<Self, Source> {
        let mut endpoint = Endpoint::from_shared(target.to.to_string())?
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30));
        if target.to.scheme() == "https" {
            let mut tls = ClientTlsConfig::new();
            if let Some(file) = &target.ca {
                tls = tls.ca_certificate(Certificate::from_pem(files::read(file)?));
            }
            if let Some((cert, key)) = &target.identity {
                tls = tls.identity(Identity::from_pem(files::read(cert)?, files::read(key)?));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        let authorization = match &target.bearer {
            None => None,
            Some(file) => {
                let token = files::read_text(file)?;
                let mut value = MetadataValue::try_from(format!("Bearer {}", token.trim()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            grpc: Grpc::new(endpoint.connect_lazy()),
            path,
            authorization,
        })
    }

    /// Sends one request. Where it names itself, sending it again is safe.
    pub(super) async fn send(&self, request: Bytes, is_named: bool) -> Fate {
        let mut grpc = self.grpc.clone();
        let mut request = Request::new(request);
        if let Some(value) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        let answer = match grpc.ready().await {
            Ok(()) => grpc.unary(request, self.path.clone(), Raw).await,
            Err(error) => Err(Status::from_error(error.into())),
        };
        match answer {
            Ok(answer) if answer.metadata().contains_key("onboardflow-replayed") => Fate::Replayed,
            Ok(_) => Fate::Sent,
            Err(status) => judge(&status, is_named),
        }
    }
}

/// What a failure means for the row.
fn judge(status: &Status, is_named: bool) -> Fate {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return judge_connection(status, is_named);
    };
    let reason = info.reason.as_str();
    let again = || {
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        Fate::Again(delay.unwrap_or(PAUSE))
    };
    match (status.code(), reason, info.metadata.get("write").map(String::as_str)) {
        (_, "LEDGER_OFF", _) => Fate::Stop(
            "the gateway keeps no ledger, so a row could be sent twice; --allow-duplicates goes on \
             without one"
                .to_owned(),
        ),
        (_, "WRITE_SETTLED", _) => Fate::Replayed,
        (_, "REQUEST_IN_PROGRESS", _) => again(),
        (_, _, Some("applied")) => Fate::Sent,
        (_, reason, Some("unknown")) => Fate::Unknown(reason.to_owned()),
        (Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded, _, _) => again(),
        (Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented, _, _) => {
            Fate::Stop(format!("{reason}: {}", status.message()))
        }
        (_, reason, _) => Fate::Failed(reason.to_owned()),
    }
}

/// What a failure means that isn't the gateway's word: the connection's, or that of something between.
fn judge_connection(status: &Status, is_named: bool) -> Fate {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return Fate::Again(PAUSE);
        }
        cause = error.source();
    }
    match status.code() {
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unknown
        | Code::Internal => {
            if is_named {
                Fate::Again(PAUSE)
            } else {
                Fate::Unknown("CONNECTION_LOST".to_owned())
            }
        }
        code => Fate::Stop(format!("{code:?}: {}", status.message())),
    }
}

/// Requests as their bytes; of the response nobody asks for more than that it came.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
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
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}
