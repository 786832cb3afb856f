//! What the program tells OnboardFlow: the requests, one for each RPC.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use prost_types::{Struct, Value, value::Kind};

use crate::proto::{
    customer::{CreateCustomerRequest, Customer, DeleteCustomerRequest, UpdateCustomerRequest},
    event::{EventType, EventUser, RecordEventRequest},
    subscription::{
        BillingInterval, CreateSubscriptionRequest, Subscription, SubscriptionStatus,
        UpdateSubscriptionRequest,
    },
};

const USER_ID: &str = "user_123XYZ";
const TRIAL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What the command line says about the customer.
#[derive(clap::Args)]
pub struct Details {
    /// OnboardFlow site key
    #[arg(long, default_value = "f37F2PPh")]
    site_key: String,
    #[arg(long, default_value = "cus_123XYZ")]
    customer_id: String,
    /// Customer's email address
    #[arg(long, default_value = "zoe@example.com")]
    email: String,
    /// URL of the customer's picture; unset when empty
    #[arg(long, default_value = "")]
    image_url: String,
}

impl Details {
    /// A customer who has just started a trial.
    pub fn create_customer(&self, request_id: String) -> CreateCustomerRequest {
        let property = |name: &str, kind| (name.to_owned(), Value { kind: Some(kind) });
        CreateCustomerRequest {
            site_key: self.site_key.clone(),
            event_date: Some(SystemTime::now().into()),
            customer: Some(Customer {
                has_payment_method: Some(false),
                ..self.customer()
            }),
            custom_properties: Some(Struct {
                fields: BTreeMap::from([
                    property("plan", Kind::StringValue("trial".to_owned())),
                    property("qty_tasks", Kind::NumberValue(2.0)),
                ]),
            }),
            request_id,
        }
    }

    /// The same customer after adding a payment method. Send all fields: one that is left out is unset afterwards.
    pub fn update_customer(&self, request_id: String) -> UpdateCustomerRequest {
        UpdateCustomerRequest {
            site_key: self.site_key.clone(),
            event_date: Some(SystemTime::now().into()),
            customer: Some(Customer {
                last_name: Some("Müller".to_owned()),
                has_payment_method: Some(true),
                ..self.customer()
            }),
            custom_properties: None,
            request_id,
        }
    }

    /// The customer has left.
    pub fn delete_customer(&self, request_id: String) -> DeleteCustomerRequest {
        DeleteCustomerRequest {
            site_key: self.site_key.clone(),
            customer_id: self.customer_id.clone(),
            user_id: USER_ID.to_owned(),
            request_id,
        }
    }

    fn customer(&self) -> Customer {
        Customer {
            id: self.customer_id.clone(),
            user_id: USER_ID.to_owned(),
            email: self.email.clone(),
            first_name: Some("Zoë".to_owned()),
            image_url: Some(self.image_url.clone()).filter(|url| !url.is_empty()),
            ..Customer::default()
        }
    }

    /// The customer's subscription, in its trial.
    pub fn create_subscription(&self, request_id: String) -> CreateSubscriptionRequest {
        CreateSubscriptionRequest {
            site_key: self.site_key.clone(),
            event_date: Some(SystemTime::now().into()),
            subscription: Some(self.subscription(SubscriptionStatus::Trialing)),
            request_id,
        }
    }

    /// The trial is over, and the customer pays.
    pub fn update_subscription(&self, request_id: String) -> UpdateSubscriptionRequest {
        UpdateSubscriptionRequest {
            site_key: self.site_key.clone(),
            event_date: Some(SystemTime::now().into()),
            subscription: Some(self.subscription(SubscriptionStatus::Active)),
            request_id,
        }
    }

    fn subscription(&self, status: SubscriptionStatus) -> Subscription {
        let now = SystemTime::now();
        Subscription {
            id: "sub_123XYZ".to_owned(),
            customer_id: self.customer_id.clone(),
            name: "Pro".to_owned(),
            status: status.into(),
            interval: BillingInterval::Month.into(),
            value: "49.99".to_owned(), // decimal digits, not a float: nothing is rounded
            currency: "USD".to_owned(),
            started_at: Some(now.into()),
            trial_start: Some(now.into()),
            trial_end: Some((now + TRIAL).into()),
        }
    }

    /// What the customer's user looked at.
    pub fn record_event(&self, request_id: String) -> RecordEventRequest {
        RecordEventRequest {
            site_key: self.site_key.clone(),
            r#type: EventType::PageView.into(),
            value: "/manage/settings/".to_owned(),
            user: Some(EventUser {
                id: USER_ID.to_owned(),
                customer_id: self.customer_id.clone(),
                custom_properties: None,
            }),
            request_id,
            ..RecordEventRequest::default()
        }
    }
}
