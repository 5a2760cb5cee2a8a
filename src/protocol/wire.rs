//! How RPC messages stand on the socket: frames of a 4-byte big-endian length and JSON.
//!
//! JSON because it tolerates optional and flattened fields and can be read with any tool; decoded from the slice, which
//! is several times faster than the reader that tarpc's own JSON transport uses.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio_util::bytes::{Bytes, BytesMut};

/// Longest frame either side accepts, in bytes. 500 apps with large environments fit many times over.
pub const MAX_FRAME: usize = 64 << 20;

/// Turns frames into values and back.
pub struct JsonCodec<In, Out>(PhantomData<fn(Out) -> In>);

impl<In, Out> Default for JsonCodec<In, Out> {
    fn default() -> Self {
        JsonCodec(PhantomData)
    }
}

impl<In: for<'a> Deserialize<'a>, Out> tokio_serde::Deserializer<In> for JsonCodec<In, Out> {
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, src: &BytesMut) -> io::Result<In> {
        serde_json::from_slice(src).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl<In, Out: Serialize> tokio_serde::Serializer<Out> for JsonCodec<In, Out> {
    type Error = io::Error;

    fn serialize(self: Pin<&mut Self>, item: &Out) -> io::Result<Bytes> {
        serde_json::to_vec(item).map(Bytes::from).map_err(io::Error::other)
    }
}
