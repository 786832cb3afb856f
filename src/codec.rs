//! tonic's codec for Protobuf, with buffers of the size of the messages.
//!
//! tonic takes 8 KiB for each message, and doubles that until the message fits. A response keeps its
//! buffer until the caller has taken it, so here it is as large as the message and no larger.

use std::marker::PhantomData;

use bytes::BufMut as _;
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

/// What most messages fit into.
const BUFFER_BYTES: usize = 1024;
/// The most that waits for further messages of a stream before it is sent: tonic's own choice.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of the generated service.
#[derive(Debug)]
pub struct Protobuf<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Protobuf<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Protobuf<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Exactly<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Exactly(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}

/// Encodes a message into a buffer that has room for it.
#[derive(Debug)]
pub struct Exactly<T>(PhantomData<T>);

impl<T: Message> Encoder for Exactly<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Counts the message's length once. To reserve and to encode would each count it.
        buffer.put_slice(&message.encode_to_vec());
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
