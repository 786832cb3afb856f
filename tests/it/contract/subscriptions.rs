//! `SubscriptionService`: the worked example, digits that stay as they are, and each rule.

use onboardflow_gateway::proto::onboardflow::subscription::v1::{
    BillingInterval, CreateSubscriptionRequest, RecordedSubscription, SubscribedCustomer,
    Subscription, SubscriptionEvent, SubscriptionEventData, SubscriptionEventMeta,
    SubscriptionStatus, UpdateSubscriptionRequest,
    subscription_service_client::SubscriptionServiceClient,
};
use prost_types::{Struct, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Gateway, Told, Upstream, told};

/// The reply of the worked example to a create.
const CREATED: &str = include_str!("../../fixtures/subscription_created.json");

/// The request body of the worked example, to the byte.
const BODY: &str = r#"{"site_key":"f37F2PPh","event_date":1583020800,"subscription_name":"Pro","customer_id":"cus_123XYZ","subscription_id":"sub_123XYZ","subscription_value":49.99,"subscription_started_at":1583020800,"subscription_trial_start":1583020800,"subscription_trial_end":1583020800,"subscription_currency":"USD","subscription_status":"active","subscription_interval":"MONTH"}"#;

#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn subscription() -> Subscription {
    Subscription {
        id: "sub_123XYZ".to_owned(),
        customer_id: "cus_123XYZ".to_owned(),
        name: "Pro".to_owned(),
        status: SubscriptionStatus::Active.into(),
        interval: BillingInterval::Month.into(),
        value: "49.99".to_owned(),
        currency: "USD".to_owned(),
        started_at: at(1_583_020_800),
        trial_start: at(1_583_020_800),
        trial_end: at(1_583_020_800),
    }
}

fn create_request(subscription: Subscription) -> CreateSubscriptionRequest {
    CreateSubscriptionRequest {
        site_key: "f37F2PPh".to_owned(),
        event_date: at(1_583_020_800),
        subscription: Some(subscription),
        request_id: String::new(),
    }
}

fn update_request(subscription: Subscription) -> UpdateSubscriptionRequest {
    let request = create_request(subscription);
    UpdateSubscriptionRequest {
        site_key: request.site_key,
        event_date: request.event_date,
        subscription: request.subscription,
        request_id: request.request_id,
    }
}

/// The event of the worked example.
fn event(kind: &str) -> SubscriptionEvent {
    SubscriptionEvent {
        id: 979_925,
        event_provider: "API".to_owned(),
        site_user: Some(Struct::default()),
        site_hash: "f37F2PPh".to_owned(),
        session_id: "f37F2PPh-1585922793".to_owned(),
        event_date: at(1_583_020_800),
        event_value: "1ec049ab69e84b58d7466816a791a6fd0fe36fa9".to_owned(),
        event_type: "PROVIDER_EVENT".to_owned(),
        event_meta: Some(SubscriptionEventMeta {
            data: Some(SubscriptionEventData {
                customer: Some(SubscribedCustomer {
                    id: "cus_123XYZ".to_owned(),
                }),
                subscription: Some(RecordedSubscription {
                    id: "sub_123XYZ".to_owned(),
                    name: "Pro".to_owned(),
                    status: "active".to_owned(),
                    interval: "MONTH".to_owned(),
                    value: "49.99".to_owned(),
                    currency: "USD".to_owned(),
                    started_at: at(1_583_020_800),
                    trial_start: at(1_583_020_800),
                    trial_end: at(1_583_020_800),
                    product_id: None,
                }),
            }),
            r#type: kind.to_owned(),
            created: at(1_583_020_800),
        }),
        updated: at(1_585_919_193),
        created: at(1_585_919_193),
    }
}

/// What a create is told where the upstream says this, and what it sent.
async fn created(
    request: CreateSubscriptionRequest,
    status: u16,
    reply: &str,
) -> (Result<SubscriptionEvent, Status>, Vec<(String, String)>) {
    let upstream = Upstream::answering(status, reply).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = SubscriptionServiceClient::new(gateway.channel().await);
    let answered = client.create_subscription(request).await;
    gateway.stop().await;
    let sent = upstream.received().into_iter().map(|sent| {
        let line = sent.head.lines().next().unwrap_or_default().to_owned();
        (line, String::from_utf8(sent.body).unwrap())
    });
    let event = answered.map(|response| *response.into_inner().event.unwrap());
    (event, sent.collect())
}

#[tokio::test]
async fn a_create_is_a_post_of_the_worked_example() {
    let (answered, sent) = created(create_request(subscription()), 200, CREATED).await;
    assert_eq!(answered.unwrap(), event("SUBSCRIPTION_CREATED"));
    let line = "POST /api/v1/subscription/ HTTP/1.1".to_owned();
    assert_eq!(sent, [(line, BODY.to_owned())]);
}

#[tokio::test]
async fn an_update_is_a_put_of_the_worked_example() {
    let reply = CREATED.replace("SUBSCRIPTION_CREATED", "SUBSCRIPTION_UPDATED");
    let upstream = Upstream::answering(200, &reply).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = SubscriptionServiceClient::new(gateway.channel().await);
    let request = update_request(subscription());
    let answered = client.update_subscription(request).await.unwrap();
    gateway.stop().await;

    let expected = Some(Box::new(event("SUBSCRIPTION_UPDATED")));
    assert_eq!(answered.into_inner().event, expected);
    let received = upstream.received();
    assert!(
        received[0]
            .head
            .starts_with("PUT /api/v1/subscription/ HTTP/1.1\r\n")
    );
    assert_eq!(received[0].body, BODY.as_bytes());
}

#[tokio::test]
async fn a_value_keeps_its_digits_both_ways() {
    for value in [
        "0",
        "49.990",
        "-12.50",
        "0.1000000000000000055511151231257827",
        "9007199254740993",
        "123456789012345678901234567890.123456789",
    ] {
        let request = create_request(Subscription {
            value: value.to_owned(),
            ..subscription()
        });
        let reply = CREATED.replace("49.99", value);
        let (answered, sent) = created(request, 200, &reply).await;
        let body = &sent[0].1;
        let expected = format!(r#""subscription_value":{value},"#);
        assert!(body.contains(&expected), "{body}");
        let data = answered.unwrap().event_meta.unwrap().data.unwrap();
        assert_eq!(data.subscription.unwrap().value, value);
    }
}

#[tokio::test]
async fn what_onboardflow_writes_stays_open() {
    let reply = CREATED
        .replace("\"active\"", "\"past_due\"")
        .replace("\"MONTH\"", "\"QUARTER\"")
        .replace("\"product_id\":null", "\"product_id\":\"prod_7\"")
        .replace("\"value\":49.99", "\"value\":\"49.990\"");
    let (answered, _) = created(create_request(subscription()), 200, &reply).await;
    let data = answered.unwrap().event_meta.unwrap().data.unwrap();
    let recorded = data.subscription.unwrap();
    assert_eq!(recorded.status, "past_due");
    assert_eq!(recorded.interval, "QUARTER");
    assert_eq!(recorded.product_id.as_deref(), Some("prod_7"));
    assert_eq!(recorded.value, "49.990");
}

/// The fields at fault of a request of which nothing may be sent.
async fn faults(request: CreateSubscriptionRequest) -> Vec<String> {
    let (answered, sent) = created(request, 200, CREATED).await;
    assert_eq!(sent, [], "nothing may be sent");
    let status = answered.unwrap_err();
    let expected = Told {
        code: Code::InvalidArgument,
        reason: "INVALID_REQUEST".to_owned(),
        write: "not_sent".to_owned(),
        http_status: None,
    };
    assert_eq!(told(&status), expected);
    fields(&status)
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|each| each.field.clone()).collect()
}

#[tokio::test]
async fn an_empty_request_lacks_all_that_is_required() {
    assert_eq!(
        faults(CreateSubscriptionRequest::default()).await,
        ["site_key", "event_date", "subscription"]
    );
    assert_eq!(
        faults(create_request(Subscription::default())).await,
        [
            "subscription.id",
            "subscription.customer_id",
            "subscription.name",
            "subscription.status",
            "subscription.interval",
            "subscription.value",
            "subscription.currency",
            "subscription.started_at",
            "subscription.trial_start",
            "subscription.trial_end",
        ]
    );
}

#[tokio::test]
async fn a_value_that_is_no_plain_decimal_is_a_violation() {
    for value in [
        "1e3", "1,000", "1,5", " 49.99", "49.99 ", "0x1F", "NaN", "inf", ".5", "5.", "+1",
    ] {
        let request = create_request(Subscription {
            value: value.to_owned(),
            ..subscription()
        });
        assert_eq!(faults(request).await, ["subscription.value"], "{value}");
    }
}

#[tokio::test]
async fn what_is_no_currency_status_interval_or_time_is_a_violation() {
    for currency in ["usd", "US", "USDT", "U$D", "ÄÖÜ", "   "] {
        let request = create_request(Subscription {
            currency: currency.to_owned(),
            ..subscription()
        });
        assert_eq!(
            faults(request).await,
            ["subscription.currency"],
            "{currency}"
        );
    }
    let request = create_request(Subscription {
        status: 7,
        interval: -1,
        trial_end: at(i64::MAX),
        ..subscription()
    });
    assert_eq!(
        faults(request).await,
        [
            "subscription.status",
            "subscription.interval",
            "subscription.trial_end"
        ]
    );
}

#[tokio::test]
async fn a_refusal_names_the_protos_fields() {
    let body = r#"{"subscription_value":["Too much."],"customer_id":["Who?"],"subscription_trial_end":["Too late."]}"#;
    let (answered, _) = created(create_request(subscription()), 400, body).await;
    let status = answered.unwrap_err();
    assert_eq!(told(&status).reason, "UPSTREAM_REJECTED");
    let mut named = fields(&status);
    named.sort();
    assert_eq!(
        named,
        [
            "subscription.customer_id",
            "subscription.trial_end",
            "subscription.value"
        ]
    );
}

#[tokio::test]
async fn a_create_of_unknown_fate_says_what_may_have_happened() {
    let (answered, sent) = created(create_request(subscription()), 500, "").await;
    assert_eq!(sent.len(), 1);
    let status = answered.unwrap_err();
    assert_eq!(told(&status).write, "unknown");
    let message = status.message();
    assert!(
        message.contains("subscription may have been created"),
        "{message}"
    );
}
