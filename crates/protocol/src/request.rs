//! From the bytes of a frame to a request, and from a client's request to a frame.
//! Kafka: `RequestHeader`, `RequestContext.parseRequest`.

use bytes::Bytes;
use kafka_wire_core::{
    ApiVersion, DecodeError, DecodeLimits, Decoder, EncodeError, KafkaDecode, KafkaEncode, StrBytes,
};

use crate::fetch::FetchRequest;
use crate::messages::*;
use crate::produce::ProduceRequest;
use crate::wire::{Frame, FrameWriter, Reader};
use crate::{ApiKey, ListenerType, Versions};

/// What stands in front of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The version of the API, which is also that of the response.
    pub api_version: i16,
    /// A number of the client's choice that the response repeats.
    pub correlation_id: i32,
    /// How the client calls itself.
    pub client_id: Option<StrBytes>,
}

/// Why the header of a request cannot be used. All of them end the connection, but one: an
/// unsupported version of `ApiVersions` is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestHeaderError {
    /// Kafka has no API of this number.
    #[error("unknown API key {api_key}")]
    UnknownApi {
        /// The number.
        api_key: i16,
        /// The version that came with it.
        api_version: i16,
    },
    /// The API is one of Kafka's, but this release does not serve it.
    #[error("{} is not served", .0.api_key)]
    NotServed(RequestHeader),
    /// This release serves other versions of the API.
    ///
    /// If the API is `ApiVersions`, answer with
    /// [`unsupported_api_versions_response`](crate::unsupported_api_versions_response).
    #[error("version {} of {} is not served, only {served}", .header.api_version, .header.api_key)]
    UnsupportedVersion {
        /// The header, as far as every version has it.
        header: RequestHeader,
        /// The versions that are served.
        served: Versions,
    },
    /// The header itself is malformed.
    #[error("malformed request header: {0}")]
    Malformed(#[from] DecodeError),
}

impl RequestHeader {
    /// Decodes the header of `frame` (without its length prefix) of a client, and answers it with the body.
    ///
    /// A header this returns is of an API and a version that [`Request::decode`] knows.
    pub fn decode(frame: &Bytes) -> Result<(Self, Bytes), RequestHeaderError> {
        Self::decode_on(ListenerType::Broker, frame)
    }

    /// [`decode`](Self::decode) of who came in by such a listener. The body of a [`QuorumMessage`](ApiKey::QuorumMessage)
    /// is nothing that [`Request::decode`] knows.
    pub fn decode_on(
        listener: ListenerType,
        frame: &Bytes,
    ) -> Result<(Self, Bytes), RequestHeaderError> {
        let mut reader = Reader::new(frame, true);
        let (key, api_version) = (reader.i16()?, reader.i16()?);
        let correlation_id = reader.i32()?;
        let api_key = ApiKey::from_key(key)
            .ok_or(RequestHeaderError::UnknownApi { api_key: key, api_version })?;
        let client_id = reader.legacy_nullable_string()?;
        let header = Self { api_key, api_version, correlation_id, client_id };
        let Some(served) = api_key.versions_on(listener) else {
            return Err(RequestHeaderError::NotServed(header));
        };
        if !served.contains(api_version) {
            return Err(RequestHeaderError::UnsupportedVersion { header, served });
        }
        if api_key.request_header_version(api_version) >= 2 {
            reader.skip_tagged_fields()?;
        }
        Ok((header, reader.rest()))
    }

    fn write<R: crate::fetch::FetchRecords>(
        &self,
        frame: &mut FrameWriter<R>,
    ) -> Result<(), EncodeError> {
        let writer = &mut frame.writer;
        writer.i16(self.api_key.key());
        writer.i16(self.api_version);
        writer.i32(self.correlation_id);
        writer.legacy_nullable_string(self.client_id.as_ref())?;
        writer.set_flexible(self.api_key.is_flexible(self.api_version));
        writer.no_tagged_fields();
        Ok(())
    }
}

/// No request or response names more things than this in one list.
const MAX_ARRAY_ELEMENTS: usize = 1_000_000;

/// Limits for a message of `bytes` bytes: nothing in it may claim to be larger than it is.
pub(crate) fn decode_limits(bytes: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = bytes;
    limits.max_string_bytes = bytes;
    limits.max_bytes_bytes = bytes;
    // An element of one or two bytes becomes a struct of a hundred: a frame full of them must not.
    limits.max_array_elements = bytes.min(MAX_ARRAY_ELEMENTS);
    limits.max_tagged_fields = bytes;
    limits.max_tag_bytes = bytes;
    limits.max_total_tag_bytes = bytes;
    limits
}

/// Calls `$then!` with every served API that the wire library decodes, request and response.
macro_rules! for_each_generated_api {
    ($then:ident) => {
        $then! {
            ListOffsets, ListOffsetsRequest, ListOffsetsResponse;
            Metadata, MetadataRequest, MetadataResponse;
            OffsetCommit, OffsetCommitRequest, OffsetCommitResponse;
            OffsetFetch, OffsetFetchRequest, OffsetFetchResponse;
            FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse;
            JoinGroup, JoinGroupRequest, JoinGroupResponse;
            Heartbeat, HeartbeatRequest, HeartbeatResponse;
            LeaveGroup, LeaveGroupRequest, LeaveGroupResponse;
            SyncGroup, SyncGroupRequest, SyncGroupResponse;
            DescribeGroups, DescribeGroupsRequest, DescribeGroupsResponse;
            ListGroups, ListGroupsRequest, ListGroupsResponse;
            ApiVersions, ApiVersionsRequest, ApiVersionsResponse;
            CreateTopics, CreateTopicsRequest, CreateTopicsResponse;
            DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse;
            DeleteRecords, DeleteRecordsRequest, DeleteRecordsResponse;
            InitProducerId, InitProducerIdRequest, InitProducerIdResponse;
            OffsetForLeaderEpoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
            DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse;
            AlterConfigs, AlterConfigsRequest, AlterConfigsResponse;
            CreatePartitions, CreatePartitionsRequest, CreatePartitionsResponse;
            DeleteGroups, DeleteGroupsRequest, DeleteGroupsResponse;
            ElectLeaders, ElectLeadersRequest, ElectLeadersResponse;
            IncrementalAlterConfigs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
            AlterPartitionReassignments, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
            ListPartitionReassignments, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
            OffsetDelete, OffsetDeleteRequest, OffsetDeleteResponse;
            DescribeClientQuotas, DescribeClientQuotasRequest, DescribeClientQuotasResponse;
            AlterClientQuotas, AlterClientQuotasRequest, AlterClientQuotasResponse;
            DescribeQuorum, DescribeQuorumRequest, DescribeQuorumResponse;
            UpdateFeatures, UpdateFeaturesRequest, UpdateFeaturesResponse;
            DescribeCluster, DescribeClusterRequest, DescribeClusterResponse;
            DescribeProducers, DescribeProducersRequest, DescribeProducersResponse;
            AlterReplicaLogDirs, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse;
            DescribeLogDirs, DescribeLogDirsRequest, DescribeLogDirsResponse;
            GetTelemetrySubscriptions, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse;
            PushTelemetry, PushTelemetryRequest, PushTelemetryResponse;
            ListConfigResources, ListConfigResourcesRequest, ListConfigResourcesResponse;
            DescribeTopicPartitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
            AlterPartition, AlterPartitionRequest, AlterPartitionResponse;
            Envelope, EnvelopeRequest, EnvelopeResponse;
            BrokerRegistration, BrokerRegistrationRequest, BrokerRegistrationResponse;
            BrokerHeartbeat, BrokerHeartbeatRequest, BrokerHeartbeatResponse;
            UnregisterBroker, UnregisterBrokerRequest, UnregisterBrokerResponse;
            AddRaftVoter, AddRaftVoterRequest, AddRaftVoterResponse;
            RemoveRaftVoter, RemoveRaftVoterRequest, RemoveRaftVoterResponse;
            AllocateProducerIds, AllocateProducerIdsRequest, AllocateProducerIdsResponse;
            AssignReplicasToDirs, AssignReplicasToDirsRequest, AssignReplicasToDirsResponse;
        }
    };
}
pub(crate) use for_each_generated_api;

macro_rules! request_enum {
    ($($api:ident, $request:ident, $response:ident;)*) => {
        /// The body of a request, one variant for each API that is served.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the API of that name")]
        pub enum Request {
            Produce(ProduceRequest),
            Fetch(FetchRequest),
            $($api($request),)*
        }

        impl Request {
            /// The API it belongs to.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    Self::Produce(_) => ApiKey::Produce,
                    Self::Fetch(_) => ApiKey::Fetch,
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            /// Decodes the body that [`RequestHeader::decode`] answered. Bytes behind it are ignored, as Kafka
            /// ignores them: librdkafka 2.x sends three too many with a Metadata request for all topics.
            ///
            /// Whatever the bytes are, this allocates no more than a multiple of them, which for
            /// Produce with large records is next to nothing, and for a body made of nothing but
            /// empty names may be a hundred: bound the size of a frame accordingly.
            pub fn decode(header: &RequestHeader, body: Bytes) -> Result<Self, RequestError> {
                let version = header.api_version;
                match header.api_key {
                    ApiKey::Produce => Ok(ProduceRequest::decode(&body, version).map(Self::Produce)?),
                    ApiKey::Fetch => Ok(FetchRequest::decode(&body, version).map(Self::Fetch)?),
                    $(ApiKey::$api => Ok(generated(body, version).map(Self::$api)?),)*
                    #[allow(clippy::wildcard_enum_match_arm, reason = "all APIs not listed above")]
                    api => Err(RequestError::NotServed(api)),
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$api(request)
                }
            }
        )*
    };
}

for_each_generated_api!(request_enum);

/// Why the body of a request cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// This release does not serve the API.
    #[error("{0} is not served")]
    NotServed(ApiKey),
    /// The bytes are not a request of that API and version.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

fn generated<M: KafkaDecode>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    let limits = decode_limits(body.len());
    M::decode(&mut Decoder::new(body, limits)?, ApiVersion::new(version))
}

/// Encodes a request as a client sends it: length, header, body.
pub fn encode_request<M: KafkaRequest + KafkaEncode>(
    header: &RequestHeader,
    request: &M,
) -> Result<Frame, EncodeError> {
    debug_assert_eq!(header.api_key.key(), M::API_KEY.value());
    let mut frame = FrameWriter::new(64);
    header.write(&mut frame)?;
    frame.writer.message(request, header.api_version)?;
    frame.finish()
}

/// Encodes a request whose body is nobody's concern but that of who reads it ([`ApiKey::QuorumMessage`]).
pub fn encode_opaque_request(header: &RequestHeader, body: &Bytes) -> Result<Frame, EncodeError> {
    let mut frame = FrameWriter::new(64 + body.len());
    header.write(&mut frame)?;
    frame.writer.raw(body);
    frame.finish()
}

impl ProduceRequest {
    /// Encodes the request as a client sends it: length, header, body. Records are not copied.
    pub fn encode(&self, header: &RequestHeader) -> Result<Frame, EncodeError> {
        debug_assert_eq!(header.api_key, ApiKey::Produce);
        let mut frame = FrameWriter::new(256);
        header.write(&mut frame)?;
        self.write(&mut frame, header.api_version)?;
        frame.finish()
    }
}

impl FetchRequest {
    /// Encodes the request as a client sends it: length, header, body.
    pub fn encode(&self, header: &RequestHeader) -> Result<Frame, EncodeError> {
        debug_assert_eq!(header.api_key, ApiKey::Fetch);
        let mut frame = FrameWriter::new(256);
        header.write(&mut frame)?;
        self.write(&mut frame.writer, header.api_version)?;
        frame.finish()
    }
}
