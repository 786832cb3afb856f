//! `connectrpc.conformance.v1.ConformanceService`, as the suite's documentation describes it: a request says what it is
//! to be answered with, and the answer says what arrived.
//!
//! Calls with a stream of requests stay unimplemented: the gateway's listener takes one message a call
//! (`known-failing.txt`).

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, Response as HttpResponse};
use http_body::Frame;
use http_body_util::BodyExt as _;
use onboardflow_gateway::server::Services;
use prost::Message;
use prost_types::Any;
use tokio::time::sleep;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codec::CompressionEncoding::{Gzip, Zstd},
    metadata::MetadataMap,
};
use tower::{ServiceExt, util::BoxCloneSyncService};

use self::proto::{
    ConformancePayload, Error, Header, ServerStreamRequest, ServerStreamResponse, UnaryRequest,
    UnaryResponse,
    conformance_payload::RequestInfo,
    conformance_service_server::{self, ConformanceService, ConformanceServiceServer},
    unary_response_definition::Response as Answer,
};

#[allow(clippy::pedantic, dead_code, unreachable_pub, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("connectrpc.conformance.v1");
}

/// The suite's service, which takes messages up to this size.
pub(crate) fn services(max_request_bytes: usize) -> Services {
    let service = ConformanceServiceServer::new(Conformance)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd)
        .max_decoding_message_size(max_request_bytes);
    let service = BoxCloneSyncService::new(ServiceExt::<HttpRequest<Body>>::map_response(
        service,
        add_trailers,
    ));
    Services::default().with(conformance_service_server::SERVICE_NAME, service)
}

struct Conformance;

/// Trailers of an answer that isn't a failure, for which tonic has no place.
#[derive(Clone)]
struct Trailers(HeaderMap);

fn add_trailers(mut response: HttpResponse<Body>) -> HttpResponse<Body> {
    let Some(Trailers(more)) = response.extensions_mut().remove() else {
        return response;
    };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                trailers.extend(more.clone());
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }))
    })
}

#[tonic::async_trait]
impl ConformanceService for Conformance {
    async fn unary(
        &self,
        request: Request<UnaryRequest>,
    ) -> Result<Response<UnaryResponse>, Status> {
        let info = info("UnaryRequest", &request);
        let definition = request.into_inner().response_definition.unwrap_or_default();
        sleep(Duration::from_millis(definition.response_delay_ms.into())).await;
        let data = match definition.response {
            Some(Answer::Error(error)) => {
                let metadata = [definition.response_headers, definition.response_trailers].concat();
                return Err(status(error, Some(&info), &metadata));
            }
            Some(Answer::ResponseData(data)) => data,
            None => Vec::new(),
        };
        let payload = ConformancePayload {
            data,
            request_info: Some(info),
        };
        let response = Response::new(UnaryResponse {
            payload: Some(payload),
        });
        Ok(with_metadata(
            response,
            &definition.response_headers,
            &definition.response_trailers,
        ))
    }

    async fn server_stream(
        &self,
        request: Request<ServerStreamRequest>,
    ) -> Result<Response<BoxStream<'static, Result<ServerStreamResponse, Status>>>, Status> {
        let mut info = Some(info("ServerStreamRequest", &request));
        let definition = request.into_inner().response_definition.unwrap_or_default();
        let delay = Duration::from_millis(definition.response_delay_ms.into());
        let mut answers = Vec::new();
        for data in definition.response_data {
            let payload = ConformancePayload {
                data,
                request_info: info.take(),
            };
            answers.push(Ok(ServerStreamResponse {
                payload: Some(payload),
            }));
        }
        let error = definition.error;
        let failure =
            error.map(|error| Err(status(error, info.as_ref(), &definition.response_trailers)));
        let answers = stream::iter(answers).then(move |answer| sleep(delay).map(|()| answer));
        let response = Response::new(answers.chain(stream::iter(failure)).boxed());
        Ok(with_metadata(
            response,
            &definition.response_headers,
            &definition.response_trailers,
        ))
    }
}

/// What arrived.
fn info<T: Message>(name: &str, request: &Request<T>) -> RequestInfo {
    let headers = request.metadata().clone().into_headers();
    RequestInfo {
        timeout_ms: headers.get("grpc-timeout").and_then(millis),
        request_headers: headers
            .keys()
            .map(|name| Header {
                name: name.to_string(),
                value: headers
                    .get_all(name)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .map(str::to_owned)
                    .collect(),
            })
            .collect(),
        requests: vec![any(name, request.get_ref())],
        connect_get_info: None,
    }
}

/// Of a `grpc-timeout`.
fn millis(timeout: &HeaderValue) -> Option<i64> {
    let text = timeout.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = digits.parse().ok()?;
    Some(match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number / 1000,
        "n" => number / 1_000_000,
        _ => return None,
    })
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/connectrpc.conformance.v1.{name}"),
        value: message.encode_to_vec(),
    }
}

/// The failure that a definition asks for. It says what arrived, where nothing else has.
fn status(error: Error, info: Option<&RequestInfo>, metadata: &[Header]) -> Status {
    let message = error.message.unwrap_or_default();
    let mut details = error.details;
    details.extend(info.map(|info| any("ConformancePayload.RequestInfo", info)));
    let rich = tonic_types::pb::Status {
        code: error.code,
        message: message.clone(),
        details,
    };
    let metadata = MetadataMap::from_headers(headers(metadata));
    Status::with_details_and_metadata(
        Code::from_i32(error.code),
        message,
        rich.encode_to_vec().into(),
        metadata,
    )
}

fn with_metadata<T>(
    mut response: Response<T>,
    leading: &[Header],
    trailing: &[Header],
) -> Response<T> {
    *response.metadata_mut() = MetadataMap::from_headers(headers(leading));
    response
        .extensions_mut()
        .insert(Trailers(headers(trailing)));
    response
}

fn headers(given: &[Header]) -> HeaderMap {
    let values = given
        .iter()
        .flat_map(|header| header.value.iter().map(move |value| (&header.name, value)));
    values
        .filter_map(|(name, value)| {
            Some((
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(value).ok()?,
            ))
        })
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}
