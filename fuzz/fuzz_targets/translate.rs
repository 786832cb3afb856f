//! The translation, with bytes of any kind on both sides.
//!
//! The first two bytes choose the reply's status and how it ends. The rest is a request, as Protobuf, and
//! the body of a reply. Nothing may panic, and what is allocated at a time is bounded by the input.

#![no_main]

use allocation_counter::measure;
use http::{HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use onboardflow_gateway::{
    rest::{Call, Ending, KeyHolder, Reply},
    translate::{Operation, customer, event, redact, subscription},
};
use prost::Message;

/// As in `src/translate/bounds.rs`; a call's JSON and the texts of a refusal are counted, too.
const MULTIPLE: u64 = 16;
const BESIDE: u64 = 12 * 1024 * 1024;

fuzz_target!(|data: &[u8]| {
    let [status, ending, rest @ ..] = data else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(200 + u16::from(*status) * 2) else {
        return;
    };
    let reply = Reply {
        status,
        retry_after: None,
        body: rest.to_vec().into(),
        ending: match ending % 4 {
            0 => Ending::TooLarge,
            1 => Ending::CutShort,
            _ => Ending::Complete,
        },
        key_holder: KeyHolder::Gateway,
    };
    try_operation::<customer::Create>(rest, &reply);
    try_operation::<customer::Update>(rest, &reply);
    try_operation::<customer::Delete>(rest, &reply);
    try_operation::<subscription::Create>(rest, &reply);
    try_operation::<subscription::Update>(rest, &reply);
    try_operation::<event::Record>(rest, &reply);
});

fn try_operation<Op: Operation<Request: Message + Default>>(bytes: &[u8], reply: &Reply) {
    let call = Op::Request::decode(bytes).ok().and_then(encode::<Op>);
    let (reply, mut error) = (reply.clone(), None);
    bounded(bytes.len(), || error = Op::decode(reply).err());
    if let (Some(call), Some(mut error)) = (call, error) {
        let key = HeaderValue::from_static("Token 5ec2e7");
        redact(&mut error, &call, &key);
    }
}

fn encode<Op: Operation<Request: Message>>(request: Op::Request) -> Option<Call> {
    let (size, mut call) = (request.encoded_len(), None);
    bounded(size, || call = Op::encode(request).ok());
    call
}

fn bounded(input: usize, run: impl FnOnce()) {
    let peak = measure(run).bytes_max;
    assert!(
        peak <= MULTIPLE * input as u64 + BESIDE,
        "{peak} bytes for {input} of input"
    );
}
