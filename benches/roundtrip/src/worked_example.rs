//! The specification's worked example: what a caller sends, what OnboardFlow answers, and what the
//! caller has to get.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost_types::{Struct, Timestamp};

use crate::{
    envoy::proto as mirrored,
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, Customer, CustomerEvent, EventData,
        EventMeta,
    },
};

/// The upstream's answer to a create: 531 bytes.
pub(crate) const CREATED: &str = include_str!("../../../tests/fixtures/created.json");
/// The request's JSON, for gateways that don't translate.
pub(crate) const REQUEST_JSON: &str = r#"{"site_key":"f37F2PPh","event_date":1583020800,"user_id":"user_123XYZ","customer_id":"cus_123XYZ","customer_first_name":"Joe","customer_has_payment_method":true,"customer_email":"test@onboardflow.com"}"#;

/// An RPC. Both have the same messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Create,
    Update,
}

impl Rpc {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Create => "/onboardflow.customer.v1.CustomerService/CreateCustomer",
            Self::Update => "/onboardflow.customer.v1.CustomerService/UpdateCustomer",
        }
    }

    /// With the messages that mirror the JSON.
    pub(crate) fn mirrored_path(self) -> &'static str {
        match self {
            Self::Create => "/roundtrip.mirrored.v1.MirroredService/Create",
            Self::Update => "/roundtrip.mirrored.v1.MirroredService/Update",
        }
    }

    pub(crate) fn event_type(self) -> &'static str {
        match self {
            Self::Create => "CUSTOMER_CREATED",
            Self::Update => "CUSTOMER_UPDATED",
        }
    }
}

/// The request message in its gRPC frame. An empty id names nothing.
pub(crate) fn request_frame(request_id: String) -> Bytes {
    let message = CreateCustomerRequest {
        site_key: "f37F2PPh".to_owned(),
        event_date: timestamp(1_583_020_800),
        customer: Some(customer()),
        custom_properties: None,
        request_id,
    };
    frame(&message.encode_to_vec())
}

/// The response message in its gRPC frame: what every reply is compared with.
pub(crate) fn response_frame(rpc: Rpc) -> Bytes {
    let event = CustomerEvent {
        id: 979_924,
        event_provider: "API".to_owned(),
        site_user: Some(Struct::default()),
        site_hash: "f37F2PPh".to_owned(),
        session_id: "f37F2PPh-1585922303".to_owned(),
        event_date: timestamp(1_583_020_800),
        event_value: "1923c497cf0fc93ff63414795ec58c59d4ccab38".to_owned(),
        event_type: "PROVIDER_EVENT".to_owned(),
        event_meta: Some(EventMeta {
            data: Some(EventData {
                customer: Some(customer()),
                custom_properties: None,
            }),
            r#type: rpc.event_type().to_owned(),
            created: timestamp(1_583_020_800),
        }),
        updated: timestamp(1_585_918_703),
        created: timestamp(1_585_918_703),
    };
    frame(&CreateCustomerResponse { event: Some(event) }.encode_to_vec())
}

/// The request that mirrors the JSON.
pub(crate) fn mirrored_request_frame() -> Bytes {
    let request = mirrored::Request {
        site_key: "f37F2PPh".to_owned(),
        event_date: 1_583_020_800,
        user_id: "user_123XYZ".to_owned(),
        customer_id: "cus_123XYZ".to_owned(),
        customer_first_name: "Joe".to_owned(),
        customer_has_payment_method: true,
        customer_email: "test@onboardflow.com".to_owned(),
    };
    frame(&request.encode_to_vec())
}

/// The response that mirrors the JSON: what Envoy's replies are compared with.
pub(crate) fn mirrored_response_frame(rpc: Rpc) -> Bytes {
    let customer = mirrored::Customer {
        id: "cus_123XYZ".to_owned(),
        email: "test@onboardflow.com".to_owned(),
        user_id: "user_123XYZ".to_owned(),
        image_url: None,
        last_name: None,
        first_name: "Joe".to_owned(),
        has_payment_method: true,
    };
    let event = mirrored::Event {
        id: 979_924,
        event_provider: "API".to_owned(),
        site_user: Some(Struct::default()),
        site_hash: "f37F2PPh".to_owned(),
        session_id: "f37F2PPh-1585922303".to_owned(),
        event_date: 1_583_020_800_000,
        event_value: "1923c497cf0fc93ff63414795ec58c59d4ccab38".to_owned(),
        event_type: "PROVIDER_EVENT".to_owned(),
        event_meta: Some(mirrored::EventMeta {
            data: Some(mirrored::EventData {
                customer: Some(customer),
            }),
            r#type: rpc.event_type().to_owned(),
            created: 1_583_020_800,
        }),
        updated: 1_585_918_703_000,
        created: 1_585_918_703_000,
    };
    let reply = mirrored::Reply {
        success: true,
        data: Some(event),
    };
    frame(&reply.encode_to_vec())
}

fn customer() -> Customer {
    Customer {
        id: "cus_123XYZ".to_owned(),
        user_id: "user_123XYZ".to_owned(),
        email: "test@onboardflow.com".to_owned(),
        first_name: Some("Joe".to_owned()),
        last_name: None,
        image_url: None,
        has_payment_method: Some(true),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the messages' fields are optional"
)]
fn timestamp(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0); // not compressed
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
