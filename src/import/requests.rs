//! What an import sends: the RPC, its message, and the rules that the gateway itself holds requests to. Knows
//! neither files nor connections.

use std::time::SystemTime;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};
use prost_types::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    config::{ImportOperation, ImportResource},
    error::{Error, Source, Violation},
    proto::FILE_DESCRIPTOR_SET,
    translate::{Operation, customer, subscription},
};

/// The namespace of the ids that are made of rows.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f6e_626f_6172_6466_6c6f_775f_696d_7074);

#[derive(Clone, Debug)]
pub(super) struct Rpc {
    /// Its path, as HTTP/2 has it.
    pub(super) path: PathAndQuery,
    /// What it takes.
    pub(super) message: MessageDescriptor,
    response: MessageDescriptor,
    request_id: FieldDescriptor,
    check: fn(&[u8]) -> Result<Checked, String>,
}

/// A request that breaks no rule.
struct Checked {
    site_key: String,
    request_id: Option<String>,
    /// The same bytes for the same request, whatever order its JSON had.
    bytes: Vec<u8>,
}

impl Rpc {
    pub(super) fn of(resource: ImportResource, operation: ImportOperation) -> Result<Self, Source> {
        use {ImportOperation as Do, ImportResource as Of};

        const CUSTOMERS: &str = "onboardflow.customer.v1.CustomerService";
        const SUBSCRIPTIONS: &str = "onboardflow.subscription.v1.SubscriptionService";
        let (service, method, check): (_, _, fn(&[u8]) -> _) = match (resource, operation) {
            (Of::Customer, Do::Create) => (CUSTOMERS, "CreateCustomer", check::<customer::Create>),
            (Of::Customer, Do::Update) => (CUSTOMERS, "UpdateCustomer", check::<customer::Update>),
            (Of::Subscription, Do::Create) => (
                SUBSCRIPTIONS,
                "CreateSubscription",
                check::<subscription::Create>,
            ),
            (Of::Subscription, Do::Update) => (
                SUBSCRIPTIONS,
                "UpdateSubscription",
                check::<subscription::Update>,
            ),
        };
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        let descriptor = pool.get_service_by_name(service);
        let descriptor =
            descriptor.and_then(|service| service.methods().find(|rpc| rpc.name() == method));
        let descriptor = descriptor.ok_or("the RPC is not in the proto")?;
        let message = descriptor.input();
        let request_id = message.get_field_by_name("request_id");
        Ok(Self {
            path: format!("/{service}/{method}").parse()?,
            request_id: request_id.ok_or("the request has no request_id")?,
            message,
            response: descriptor.output(),
            check,
        })
    }

    /// The bytes of a request in Protobuf's JSON mapping, or all the rules that it breaks. It names itself
    /// by its content where `is_named`, unless the row has an id of its own.
    pub(super) fn request(&self, json: Value, is_named: bool) -> Result<Vec<u8>, String> {
        let message = DynamicMessage::deserialize(self.message.clone(), json)
            .map_err(|error| format!("is no {}: {error}", self.message.name()))?;
        let checked = (self.check)(&message.encode_to_vec())?;
        let mut bytes = checked.bytes;
        if is_named && checked.request_id.is_none() {
            let id = self.name(&checked.site_key, &bytes);
            prost::encoding::string::encode(self.request_id.number(), &id, &mut bytes);
        }
        Ok(bytes)
    }

    /// When OnboardFlow recorded the event of a response.
    pub(super) fn recorded(&self, response: Bytes) -> Option<SystemTime> {
        let response = DynamicMessage::decode(self.response.clone(), response).ok()?;
        let event = response.get_field_by_name("event")?;
        let created = event.as_message()?.get_field_by_name("created")?;
        let created: Timestamp = created.as_message()?.transcode_to().ok()?;
        created.try_into().ok()
    }

    /// The same id for the same row, in every run on every machine.
    fn name(&self, site_key: &str, content: &[u8]) -> String {
        let mut named = Vec::with_capacity(content.len() + 128);
        for part in [self.path.as_str().as_bytes(), site_key.as_bytes()] {
            named.extend_from_slice(part);
            named.push(0);
        }
        named.extend_from_slice(content);
        Uuid::new_v5(&NAMESPACE, &named).to_string()
    }
}

/// The server's own translation, which is pure, says what is wrong.
fn check<Op: Operation>(bytes: &[u8]) -> Result<Checked, String>
where
    Op::Request: Message + Default,
{
    let request = Op::Request::decode(bytes).map_err(|error| error.to_string())?;
    let bytes = request.encode_to_vec();
    let call = Op::encode(request).map_err(|error| told(&error))?;
    Ok(Checked {
        site_key: call.site_key,
        request_id: call.request_id,
        bytes,
    })
}

fn told(error: &Error) -> String {
    if error.violations.is_empty() {
        return error.to_string();
    }
    let one = |Violation { field, description }: &Violation| format!("{field}: {description}");
    let all: Vec<_> = error.violations.iter().map(one).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::CreateCustomerRequest;

    fn create() -> Rpc {
        Rpc::of(ImportResource::Customer, ImportOperation::Create).unwrap()
    }

    fn row() -> Value {
        json!({
            "site_key": "f37F2PPh",
            "eventDate": "2023-01-02T03:04:05Z",
            "customer": {"id": "cus_1", "userId": "u1", "email": "a@example.com", "hasPaymentMethod": true},
            "customProperties": {"plan": "pro", "a": 1, "b": 2, "c": [true]},
        })
    }

    fn id(bytes: &[u8]) -> String {
        CreateCustomerRequest::decode(bytes).unwrap().request_id
    }

    #[test]
    fn a_row_has_the_same_id_in_every_run() {
        let rpc = create();
        let first = rpc.request(row(), true).unwrap();
        assert_eq!(rpc.request(row(), true).unwrap(), first);
        // Pinned: another id would send what is in already.
        assert_eq!(id(&first), "5eb35f25-e0d2-5432-9627-a5bf4415b2e9");
        let mut other = row();
        other["customer"]["email"] = "b@example.com".into();
        assert_ne!(id(&rpc.request(other, true).unwrap()), id(&first));
        let update = Rpc::of(ImportResource::Customer, ImportOperation::Update).unwrap();
        assert_ne!(id(&update.request(row(), true).unwrap()), id(&first));
        assert_eq!(id(&rpc.request(row(), false).unwrap()), "");
        let own = "8c5c5d0e-3a53-4e1c-9b0a-6b2b8a3a3f10";
        let mut named = row();
        named["request_id"] = own.into();
        assert_eq!(id(&rpc.request(named, true).unwrap()), own);
    }

    #[test]
    fn all_rules_that_a_row_breaks_are_told() {
        let mut row = row();
        row["site_key"] = "".into();
        row["customer"]["email"] = "".into();
        let problem = create().request(row, true).unwrap_err();
        for field in ["site_key: ", "customer.email: "] {
            assert!(problem.contains(field), "{problem}");
        }
        let problem = create().request(json!({"site": "x"}), true).unwrap_err();
        assert!(problem.contains("site"), "{problem}");
    }
}
