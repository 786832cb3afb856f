//! What `sandbox` prints: commands that can be pasted as they are. Knows addresses, and starts nothing.

use std::{fmt, net::SocketAddr};

use super::TEST_SITE_KEYS;

/// The commands for a gateway at this address, before an emulated API at that one.
pub struct Welcome<'a> {
    /// Where the gateway listens.
    pub grpc: SocketAddr,
    /// Where the emulated REST API listens.
    pub rest: SocketAddr,
    /// The key that the emulated API accepts. It opens nothing else.
    pub token: &'a str,
}

/// What a success here doesn't prove.
const LIMITS: &str = "\
The emulated API checks the path, the verb, the key, the media types, and that each field is there and
has the right type and form.

It doesn't emulate:
  - records: nothing is kept. An update or a delete finds every record, and a create never meets one
    that exists (sandbox-404 and sandbox-409 stand in for both).
  - limits: no call is counted (sandbox-429 stands in for a day that is used up).
  - the network: answers come at once, over plain HTTP/1.1 on this machine.
  - rules of OnboardFlow that aren't published: real calls may be refused where these succeed.";

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grpc, rest, token } = self;
        write!(
            f,
            r#"onboardflow-gateway sandbox: gRPC on {grpc}, an emulated OnboardFlow on {rest}

Create a customer:

  grpcurl -plaintext -d '{{
    "site_key": "f37F2PPh",
    "event_date": "2020-03-01T00:00:00Z",
    "customer": {{
      "id": "cus_123XYZ", "user_id": "user_123XYZ", "email": "test@onboardflow.com",
      "first_name": "Joe", "has_payment_method": true
    }}
  }}' {grpc} onboardflow.customer.v1.CustomerService/CreateCustomer

Look around:

  grpcurl -plaintext {grpc} describe onboardflow.customer.v1.CustomerService

Call the emulated REST API itself:

  curl -i http://{rest}/api/v1/customer/ -H 'Authorization: Token {token}' \
    -H 'Content-Type: application/json' -d '{{"site_key":"f37F2PPh","event_date":1583020800,"user_id":"user_123XYZ","customer_id":"cus_123XYZ","customer_has_payment_method":true,"customer_email":"test@onboardflow.com"}}'

Site keys that provoke a failure (any other succeeds):

"#
        )?;
        for (key, effect) in TEST_SITE_KEYS {
            writeln!(f, "  {key:<16} {effect}")?;
        }
        writeln!(f, "\n{LIMITS}\n\nStop it with Ctrl-C.")
    }
}
