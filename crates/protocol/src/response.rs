//! From a response to the pieces of a frame, and from a frame to the response a client waits for.
//! Kafka: `AbstractResponse`, `ResponseHeader`.

use bytes::Bytes;
use kafka_wire_core::{ApiVersion, DecodeError, EncodeError, KafkaDecode};

use crate::ApiKey;
use crate::fetch::{FetchRecords, FetchResponse};
use crate::messages::*;
use crate::produce::ProduceResponse;
use crate::request::{decode_limits, for_each_generated_api};
use crate::wire::{Frame, FrameWriter, Reader};

/// The field of that name, which all but a few responses have.
macro_rules! throttle_time_ms {
    (DescribeQuorum, $response:ident) => {
        None
    };
    (Envelope, $response:ident) => {
        None
    };
    ($api:ident, $response:ident) => {
        Some(&mut $response.throttle_time_ms)
    };
}

macro_rules! response_enum {
    ($($api:ident, $request:ident, $response:ident;)*) => {
        /// The body of a response, one variant for each API that is served. `R` is what stands for
        /// the records of a Fetch response.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the API of that name")]
        pub enum Response<R = Bytes> {
            Produce(ProduceResponse),
            Fetch(FetchResponse<R>),
            $($api($response),)*
        }

        impl<R> Response<R> {
            /// The API it belongs to.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    Self::Produce(_) => ApiKey::Produce,
                    Self::Fetch(_) => ApiKey::Fetch,
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            /// For how many milliseconds the client is asked to be silent (KIP-219), where the response can say so.
            /// Versions that cannot leave it out.
            pub const fn throttle_time_ms(&mut self) -> Option<&mut i32> {
                match self {
                    Self::Produce(response) => Some(&mut response.throttle_time_ms),
                    Self::Fetch(response) => Some(&mut response.throttle_time_ms),
                    $(Self::$api(_response) => throttle_time_ms!($api, _response),)*
                }
            }
        }

        impl<R: FetchRecords> Response<R> {
            /// Encodes length, header and body, for the version in which the request came.
            ///
            /// Fails if the response says something that `version` cannot carry, which is a
            /// mistake of the handler that made it.
            pub fn encode(self, correlation_id: i32, version: i16) -> Result<Frame<R>, EncodeError> {
                let api_key = self.api_key();
                let size_hint = match &self {
                    Self::Fetch(response) => response.size_hint(),
                    _ => 128,
                };
                let mut frame = FrameWriter::new(size_hint);
                frame.writer.i32(correlation_id);
                frame.writer.set_flexible(api_key.response_header_version(version) >= 1);
                frame.writer.no_tagged_fields();
                frame.writer.set_flexible(api_key.is_flexible(version));
                match self {
                    Self::Produce(response) => response.write(&mut frame.writer, version)?,
                    Self::Fetch(response) => response.write(&mut frame, version)?,
                    $(Self::$api(response) => frame.writer.message(&response, version)?,)*
                }
                frame.finish()
            }
        }

        $(
            impl<R> From<$response> for Response<R> {
                fn from(response: $response) -> Self {
                    Self::$api(response)
                }
            }

            impl<R> TryFrom<Response<R>> for $response {
                type Error = ApiKey;

                /// The response, if it is of this kind; else what it is.
                fn try_from(response: Response<R>) -> Result<Self, ApiKey> {
                    match response {
                        Response::$api(response) => Ok(response),
                        #[allow(clippy::wildcard_enum_match_arm, reason = "all but one")]
                        other => Err(other.api_key()),
                    }
                }
            }
        )*
    };
}

for_each_generated_api!(response_enum);

/// Encodes a response whose body is nobody's concern but that of who reads it ([`ApiKey::QuorumMessage`]).
pub fn encode_opaque_response(correlation_id: i32, body: &Bytes) -> Result<Frame, EncodeError> {
    let mut frame = FrameWriter::<Bytes>::new(16 + body.len());
    frame.writer.i32(correlation_id);
    frame.writer.set_flexible(true);
    frame.writer.no_tagged_fields();
    frame.writer.raw(body);
    frame.finish()
}

impl<R> From<ProduceResponse> for Response<R> {
    fn from(response: ProduceResponse) -> Self {
        Self::Produce(response)
    }
}

impl<R> From<FetchResponse<R>> for Response<R> {
    fn from(response: FetchResponse<R>) -> Self {
        Self::Fetch(response)
    }
}

/// Reads the header of a response frame (without its length prefix): the correlation id of the
/// request it answers, and the body.
pub fn decode_response_header(
    frame: &Bytes,
    api_key: ApiKey,
    version: i16,
) -> Result<(i32, Bytes), DecodeError> {
    let mut reader = Reader::new(frame, true);
    let correlation_id = reader.i32()?;
    if api_key.response_header_version(version) >= 1 {
        reader.skip_tagged_fields()?;
    }
    Ok((correlation_id, reader.rest()))
}

/// Decodes the body of a response, all of it.
///
/// For Produce and Fetch see [`ProduceResponse::decode`] and [`FetchResponse::decode`].
pub fn decode_response<M: KafkaResponse + KafkaDecode>(
    body: Bytes,
    version: i16,
) -> Result<M, DecodeError> {
    let limits = decode_limits(body.len());
    M::decode_from_bytes(body, ApiVersion::new(version), limits)
}

/// Decodes what a group's leader assigned to a member that speaks the protocol `consumer`: a
/// version, and a body of that version.
pub fn decode_consumer_assignment(bytes: Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    let limits = decode_limits(bytes.len());
    decode_consumer_protocol_assignment(bytes, limits).map(|(_, assignment)| assignment)
}
