//! The contract, row by row.

use crate::support::{Gateway, Upstream, create_request};

/// The worked example of the specification.
const CREATED: &str = include_str!("../fixtures/created.json");

#[tokio::test]
async fn the_worked_example() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;

    let response = gateway
        .client()
        .await
        .create_customer(create_request())
        .await
        .unwrap();

    assert_eq!(response.into_inner().event.unwrap().id, 979_924);
    gateway.stop().await;
}
