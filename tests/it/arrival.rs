//! Messages that come slowly, in part or twice, answers that nobody takes, and who holds the places of
//! `--max-in-flight` meanwhile.

use std::time::Duration;

use onboardflow_gateway::proto::CreateCustomerRequest;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::{sync::watch, time::sleep};
use tonic::Code;

use crate::support::{
    CREATED, Config, Gateway, Upstream, create_request, eventually, peer,
    peer::{CREATE, DATA, END_HEADERS, END_STREAM, HEADERS, Peer, WINDOW_UPDATE, frame, headers},
    response, told,
};

/// How often calls have failed in this way.
fn failures(gateway: &Gateway, code: &str, reason: &str, write: &str) -> u64 {
    let method = &CREATE[1..];
    gateway.metric(&format!(
        "onboardflow_gateway_failures_total{{rpc_method=\"{method}\",\
         rpc_response_status_code=\"{code}\",reason=\"{reason}\",write=\"{write}\"}}"
    ))
}

fn started(gateway: &Gateway) -> u64 {
    gateway.metric(
        "grpc_server_started_total{grpc_service=\"onboardflow.customer.v1.CustomerService\",\
         grpc_method=\"CreateCustomer\",grpc_type=\"unary\"}",
    )
}

/// A message as it is sent, with its prefix.
fn framed(message: &CreateCustomerRequest) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

/// Begins a call, and sends this much of its message.
async fn begin(peer: &mut Peer, stream: u32, message: &[u8]) {
    peer.send(&frame(HEADERS, END_HEADERS, stream, &headers(CREATE)))
        .await;
    peer.send(&frame(DATA, 0, stream, message)).await;
}

#[tokio::test]
async fn messages_that_are_not_whole_take_no_place_and_are_cancelled_when_their_caller_leaves() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.max_in_flight = 4;
    let gateway = Gateway::start(config).await;
    let part = &framed(&create_request())[..9];
    let mut peers = Vec::new();
    for _ in 0..5 {
        let mut peer = Peer::greeting(gateway.address, &[]).await;
        for call in 0..8 {
            begin(&mut peer, 1 + 2 * call, part).await;
        }
        peers.push(peer);
    }
    eventually("every call", || (started(&gateway) == 40).then_some(())).await;
    let mut client = gateway.client().await;
    for _ in 0..8 {
        client.create_customer(create_request()).await.unwrap();
    }

    drop(peers);
    let gone = || failures(&gateway, "CANCELLED", "CANCELLED", "not_sent");
    let late = || {
        failures(
            &gateway,
            "DEADLINE_EXCEEDED",
            "DEADLINE_EXCEEDED",
            "not_sent",
        )
    };
    eventually("their end", || (gone() + late() == 40).then_some(())).await;
    assert!(gone() > 0);
    for (code, reason) in [
        ("INVALID_ARGUMENT", "INVALID_REQUEST"),
        ("INTERNAL", "GATEWAY_FAILED"),
    ] {
        assert_eq!(failures(&gateway, code, reason, "not_sent"), 0);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_has_a_time_of_its_own_to_arrive() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    // The call itself has more time than this test.
    config.server.default_timeout = Duration::from_secs(300);
    config.server.max_timeout = Duration::from_secs(300);
    let gateway = Gateway::start(config).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    begin(&mut peer, 1, &framed(&create_request())[..9]).await;
    let late = || {
        failures(
            &gateway,
            "DEADLINE_EXCEEDED",
            "DEADLINE_EXCEEDED",
            "not_sent",
        )
    };
    eventually("the end of its time", || (late() == 1).then_some(())).await;
    // One that comes in many parts, and in time, is as good as any.
    let message = framed(&create_request());
    let (last, parts) = message.split_last().unwrap();
    begin(&mut peer, 3, &parts[..3]).await;
    for byte in &parts[3..] {
        peer.send(&frame(DATA, 0, 3, &[*byte])).await;
    }
    peer.send(&frame(DATA, END_STREAM, 3, &[*last])).await;
    eventually("the call", || {
        (upstream.received().len() == 1).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_holds_a_quarter_of_the_places() {
    let (answer, answers) = watch::channel(false);
    let upstream = Upstream::with(move |mut stream| {
        let mut answers = answers.clone();
        async move {
            drop(answers.wait_for(|answer| *answer).await);
            let _ = stream.write_all(&response(200, &[], CREATED)).await;
        }
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.max_in_flight = 8;
    let gateway = Gateway::start(config).await;
    let mut greedy = gateway.client().await;
    let call = |mut client: Client| async move { client.create_customer(create_request()).await };
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(call(greedy.clone()))).collect();
    eventually("two calls", || {
        (upstream.received().len() == 2).then_some(())
    })
    .await;
    let refused = greedy.create_customer(create_request()).await.unwrap_err();
    assert_eq!(told(&refused).reason, "GATEWAY_OVERLOADED");
    assert!(refused.message().contains("connection"), "{refused:?}");
    let other = tokio::spawn(call(gateway.client().await));
    eventually("a third", || (upstream.received().len() == 3).then_some(())).await;
    answer.send(true).unwrap();
    other.await.unwrap().unwrap();
    for call in held {
        call.await.unwrap().unwrap();
    }
    gateway.stop().await;
}

type Client = onboardflow_gateway::proto::customer_service_client::CustomerServiceClient<
    tonic::transport::Channel,
>;

#[tokio::test]
async fn a_place_is_held_until_the_answer_is_taken_or_given_up() {
    const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.max_in_flight = 1;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    for gives_up in [false, true] {
        let mut peer = Peer::greeting(gateway.address, &NO_WINDOW).await;
        peer.send(&peer::call(1, &create_request())).await;
        peer.frame_of(HEADERS).await;
        let refused = client.create_customer(create_request()).await.unwrap_err();
        assert_eq!(told(&refused).reason, "GATEWAY_OVERLOADED");
        if gives_up {
            drop(peer);
        } else {
            let window = (64_u32 << 10).to_be_bytes();
            peer.send(&frame(WINDOW_UPDATE, 0, 1, &window)).await;
            peer.frame_of(HEADERS).await;
        }
        let mut tries = 0;
        while let Err(status) = client.create_customer(create_request()).await {
            assert_eq!(status.code(), Code::Unavailable);
            tries += 1;
            assert!(tries < 1000, "the place is not given back");
            sleep(Duration::from_millis(10)).await;
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_second_message_is_refused() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let message = framed(&create_request());
    for (call, parts) in [
        vec![[&*message, &message].concat()],
        vec![message.clone(), message],
    ]
    .into_iter()
    .enumerate()
    {
        let mut peer = Peer::greeting(gateway.address, &[]).await;
        peer.send(&frame(HEADERS, END_HEADERS, 1, &headers(CREATE)))
            .await;
        for part in parts {
            peer.send(&frame(DATA, 0, 1, &part)).await;
        }
        peer.frame_of(HEADERS).await;
        let refused = failures(&gateway, "INVALID_ARGUMENT", "INVALID_REQUEST", "not_sent");
        assert_eq!(refused, call as u64 + 1);
    }
    assert_eq!(upstream.received().len(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_of_several_mebibytes_arrives_where_it_is_allowed() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.max_request_bytes = 4 << 20;
    let gateway = Gateway::start(config).await;
    let mut request = create_request();
    request.customer.as_mut().unwrap().first_name = Some("J".repeat(3 << 20));
    gateway.create(request).await.unwrap();
    gateway.stop().await;
}

/// One connection has a quarter of the room for messages that are arriving: 2 MiB of 8.
#[tokio::test]
async fn one_connection_has_a_quarter_of_the_room_for_messages_on_their_way() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    // As large as a message may be, and no more of it than says so: 30 fit into 2 MiB.
    let begun = [&[0], &(64_u32 << 10).to_be_bytes()[..]].concat();
    for call in 0..32 {
        begin(&mut peer, 1 + 2 * call, &begun).await;
    }
    eventually("two calls that found no room", || {
        let refused = failures(&gateway, "UNAVAILABLE", "GATEWAY_OVERLOADED", "not_sent");
        (refused == 2).then_some(())
    })
    .await;
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;
}
