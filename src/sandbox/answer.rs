//! What the emulated OnboardFlow can say: JSON as Django REST framework writes it, and the HTML
//! pages of the proxy in front. Knows no resource.

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE},
};
use http_body_util::StreamBody;
use serde_json::json;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// An HTTP answer. One header beside the content type is all that the answers of this API need.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    header: Option<(HeaderName, &'static str)>,
    body: Bytes,
}

impl Answer {
    /// 200 with this JSON, whole or not.
    pub(super) fn ok(body: impl Into<Bytes>) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, JSON, body.into())
    }

    /// The framework's body for an error that concerns no field.
    pub(super) fn detail(status: StatusCode, detail: &str) -> Self {
        Self::json(status, json!({ "detail": detail }).to_string())
    }

    pub(super) fn unauthorized(detail: &str) -> Self {
        Self::detail(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, "Token")
    }

    pub(super) fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not found.")
    }

    /// axum adds `Allow`.
    pub(super) fn not_allowed(method: &Method) -> Self {
        let detail = format!("Method \"{method}\" not allowed.");
        Self::detail(StatusCode::METHOD_NOT_ALLOWED, &detail)
    }

    pub(super) fn moved(location: &'static str) -> Self {
        Self::new(StatusCode::MOVED_PERMANENTLY, HTML, Bytes::new()).with(LOCATION, location)
    }

    /// A page of the proxy in front, which has never heard of JSON.
    pub(super) fn proxy_page(status: StatusCode, title: &str) -> Self {
        let page = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
             <center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n\
             </body>\r\n</html>\r\n"
        );
        Self::new(status, HTML, page.into())
    }

    /// Sets the answer's one further header.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    fn new(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        Self {
            status,
            content_type,
            header: None,
            body,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = [(CONTENT_TYPE, self.content_type)];
        let mut response = (self.status, content_type, self.body).into_response();
        if let Some((name, value)) = self.header {
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Closes the connection without an answer: a body that fails at once takes its head, which isn't
/// written yet, along.
pub(super) fn hang_up() -> Response {
    let fails = futures_util::stream::iter([Err::<http_body::Frame<Bytes>, _>("hung up")]);
    Response::new(Body::new(StreamBody::new(fails)))
}
