//! Which APIs exist, how their headers look, and which versions this release serves.
//! Kafka: `org.apache.kafka.common.protocol.ApiKeys`.
//!
//! What the wire library *can* encode and what the broker *serves* are two things: the table below
//! is the second, and `ApiVersions` answers from it.

use std::fmt;

use crate::message;
use crate::messages::ApiVersionsResponse;
use crate::messages::api_versions_response::ApiVersion as ApiVersionRow;

/// A closed range of versions of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The oldest version.
    pub min: i16,
    /// The newest version, at least `min`.
    pub max: i16,
}

impl Versions {
    /// Whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// Never: the API has no flexible version (KIP-482).
const NEVER: i16 = i16::MAX;

/// Who comes in by a listener, and so which APIs it serves. Kafka: `ApiMessageType.ListenerType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerType {
    /// Clients and brokers come in by it.
    Broker,
    /// Brokers and controllers come in by it (`controller.listener.names`).
    Controller,
}

macro_rules! versions {
    ($listener:ident) => {
        None
    };
    ($listener:ident $min:literal $max:literal) => {
        match $listener {
            ListenerType::Broker => Some(Versions { min: $min, max: $max }),
            ListenerType::Controller => None,
        }
    };
    ($listener:ident $min:literal $max:literal controllers) => {
        match $listener {
            ListenerType::Broker => None,
            ListenerType::Controller => Some(Versions { min: $min, max: $max }),
        }
    };
    ($listener:ident $min:literal $max:literal both) => {
        match $listener {
            ListenerType::Broker | ListenerType::Controller => {
                Some(Versions { min: $min, max: $max })
            }
        }
    };
}

macro_rules! apis {
    ($($name:ident = $key:literal, flexible from $flexible:expr $(, serves $min:literal to $max:literal $(on $on:ident)?)?;)*) => {
        /// An API of the protocol, by Kafka's name. `QuorumMessage` is none of Kafka's: what the voters of the metadata quorum
        /// say to each other is a matter of theirs alone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("API ", $key, ".")]
                $name = $key,
            )*
        }

        impl ApiKey {
            /// Every API, ascending by key.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API with the number `key`, or `None` if Kafka has no such API.
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the API, for example `OffsetCommit`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The versions this release answers to who comes in by such a listener; `None` if it does not serve the API
            /// there.
            pub const fn versions_on(self, listener: ListenerType) -> Option<Versions> {
                match self {
                    $(Self::$name => versions!(listener $($min $max $($on)?)?),)*
                }
            }

            const fn first_flexible_version(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

apis! {
    Produce = 0, flexible from 9, serves 3 to 13;
    Fetch = 1, flexible from 12, serves 4 to 18;
    ListOffsets = 2, flexible from 6, serves 1 to 11;
    Metadata = 3, flexible from 9, serves 0 to 13;
    OffsetCommit = 8, flexible from 8, serves 2 to 10;
    OffsetFetch = 9, flexible from 6, serves 1 to 10;
    FindCoordinator = 10, flexible from 3, serves 0 to 6;
    JoinGroup = 11, flexible from 6, serves 0 to 9;
    Heartbeat = 12, flexible from 4, serves 0 to 4;
    LeaveGroup = 13, flexible from 4, serves 0 to 5;
    SyncGroup = 14, flexible from 4, serves 0 to 5;
    DescribeGroups = 15, flexible from 5, serves 0 to 6;
    ListGroups = 16, flexible from 3, serves 0 to 5;
    SaslHandshake = 17, flexible from NEVER;
    ApiVersions = 18, flexible from 3, serves 0 to 4 on both;
    CreateTopics = 19, flexible from 5, serves 2 to 7 on both;
    DeleteTopics = 20, flexible from 4, serves 1 to 6 on both;
    DeleteRecords = 21, flexible from 2, serves 0 to 2;
    InitProducerId = 22, flexible from 2, serves 0 to 5;
    OffsetForLeaderEpoch = 23, flexible from 4, serves 2 to 4;
    AddPartitionsToTxn = 24, flexible from 3;
    AddOffsetsToTxn = 25, flexible from 3;
    EndTxn = 26, flexible from 3;
    WriteTxnMarkers = 27, flexible from 1;
    TxnOffsetCommit = 28, flexible from 3;
    DescribeAcls = 29, flexible from 2;
    CreateAcls = 30, flexible from 2;
    DeleteAcls = 31, flexible from 2;
    DescribeConfigs = 32, flexible from 4, serves 1 to 4;
    AlterConfigs = 33, flexible from 2, serves 0 to 2 on both;
    AlterReplicaLogDirs = 34, flexible from 2, serves 1 to 2;
    DescribeLogDirs = 35, flexible from 2, serves 1 to 5;
    SaslAuthenticate = 36, flexible from 2;
    CreatePartitions = 37, flexible from 2, serves 0 to 3 on both;
    CreateDelegationToken = 38, flexible from 2;
    RenewDelegationToken = 39, flexible from 2;
    ExpireDelegationToken = 40, flexible from 2;
    DescribeDelegationToken = 41, flexible from 2;
    DeleteGroups = 42, flexible from 2, serves 0 to 3;
    ElectLeaders = 43, flexible from 2, serves 0 to 2 on both;
    IncrementalAlterConfigs = 44, flexible from 1, serves 0 to 1 on both;
    AlterPartitionReassignments = 45, flexible from 0, serves 0 to 1 on both;
    ListPartitionReassignments = 46, flexible from 0, serves 0 to 0 on both;
    OffsetDelete = 47, flexible from NEVER, serves 0 to 0;
    DescribeClientQuotas = 48, flexible from 1, serves 0 to 1;
    AlterClientQuotas = 49, flexible from 1, serves 0 to 1 on both;
    DescribeUserScramCredentials = 50, flexible from 0;
    AlterUserScramCredentials = 51, flexible from 0;
    Vote = 52, flexible from 0;
    BeginQuorumEpoch = 53, flexible from 1;
    EndQuorumEpoch = 54, flexible from 1;
    DescribeQuorum = 55, flexible from 0, serves 0 to 2 on both;
    AlterPartition = 56, flexible from 0, serves 2 to 3 on controllers;
    UpdateFeatures = 57, flexible from 0, serves 0 to 2 on both;
    Envelope = 58, flexible from 0, serves 0 to 0 on controllers;
    FetchSnapshot = 59, flexible from 0;
    DescribeCluster = 60, flexible from 0, serves 0 to 2 on both;
    DescribeProducers = 61, flexible from 0, serves 0 to 0;
    BrokerRegistration = 62, flexible from 0, serves 0 to 4 on controllers;
    BrokerHeartbeat = 63, flexible from 0, serves 0 to 1 on controllers;
    UnregisterBroker = 64, flexible from 0, serves 0 to 0 on both;
    DescribeTransactions = 65, flexible from 0;
    ListTransactions = 66, flexible from 0;
    AllocateProducerIds = 67, flexible from 0, serves 0 to 0 on controllers;
    ConsumerGroupHeartbeat = 68, flexible from 0;
    ConsumerGroupDescribe = 69, flexible from 0;
    ControllerRegistration = 70, flexible from 0;
    GetTelemetrySubscriptions = 71, flexible from 0, serves 0 to 0;
    PushTelemetry = 72, flexible from 0, serves 0 to 0;
    AssignReplicasToDirs = 73, flexible from 0, serves 0 to 0 on controllers;
    ListConfigResources = 74, flexible from 0, serves 0 to 1;
    DescribeTopicPartitions = 75, flexible from 0, serves 0 to 0;
    ShareGroupHeartbeat = 76, flexible from 0;
    ShareGroupDescribe = 77, flexible from 0;
    ShareFetch = 78, flexible from 0;
    ShareAcknowledge = 79, flexible from 0;
    AddRaftVoter = 80, flexible from 0, serves 0 to 1 on both;
    RemoveRaftVoter = 81, flexible from 0, serves 0 to 0 on both;
    UpdateRaftVoter = 82, flexible from 0;
    InitializeShareGroupState = 83, flexible from 0;
    ReadShareGroupState = 84, flexible from 0;
    WriteShareGroupState = 85, flexible from 0;
    DeleteShareGroupState = 86, flexible from 0;
    ReadShareGroupStateSummary = 87, flexible from 0;
    StreamsGroupHeartbeat = 88, flexible from 0;
    StreamsGroupDescribe = 89, flexible from 0;
    DescribeShareGroupOffsets = 90, flexible from 0;
    AlterShareGroupOffsets = 91, flexible from 0;
    DeleteShareGroupOffsets = 92, flexible from 0;
    StreamsGroupTopologyDescriptionUpdate = 93, flexible from 0;
    UnregisterController = 94, flexible from 0;
    QuorumMessage = 20001, flexible from 0, serves 0 to 0 on controllers;
}

impl ApiKey {
    /// The versions this release answers to clients; `None` if it does not serve the API to them.
    pub const fn served_versions(self) -> Option<Versions> {
        self.versions_on(ListenerType::Broker)
    }

    /// The number that travels on the wire.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// The versions `ApiVersions` tells clients of; `None` if the API is not served.
    ///
    /// Produce is advertised from version 0, although 0 to 2 are refused: librdkafka derives the
    /// compression codecs a broker knows from the oldest Produce version (KAFKA-18659).
    pub const fn advertised_versions(self) -> Option<Versions> {
        match (self, self.served_versions()) {
            (Self::Produce, Some(served)) => Some(Versions { min: 0, max: served.max }),
            (_, served) => served,
        }
    }

    /// Whether `version` is flexible: compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible_version()
    }

    /// The version of the header in front of a request: 1, or 2 if flexible.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response: 0, or 1 if flexible.
    ///
    /// `ApiVersions` always answers with header 0, because a client reads its answer before it
    /// knows which versions the broker speaks (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        let is_api_versions = matches!(self, Self::ApiVersions);
        if self.is_flexible(version) && !is_api_versions { 1 } else { 0 }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rows of an `ApiVersions` response to a client: every API that is served to it, with its advertised versions.
pub fn advertised_apis() -> Vec<ApiVersionRow> {
    let rows = ApiKey::ALL.iter().filter_map(|&api| Some(row(api, api.advertised_versions()?)));
    rows.collect()
}

/// The rows of an `ApiVersions` response to who came in by a listener of the controller.
pub fn controller_apis() -> Vec<ApiVersionRow> {
    let served = |api: &ApiKey| Some(row(*api, api.versions_on(ListenerType::Controller)?));
    ApiKey::ALL.iter().filter_map(served).collect()
}

/// The answer to an `ApiVersions` request of a version this release does not know.
///
/// It is to be encoded in version 0 and carries the range of `ApiVersions` alone, so that the
/// client can ask again (KIP-511).
pub fn unsupported_api_versions_response() -> ApiVersionsResponse {
    let rows = ApiKey::ApiVersions
        .advertised_versions()
        .map(|versions| vec![row(ApiKey::ApiVersions, versions)]);
    message!(ApiVersionsResponse {
        error_code: crate::ErrorCode::UnsupportedVersion.code(),
        api_keys: rows.unwrap_or_default(),
    })
}

fn row(api: ApiKey, versions: Versions) -> ApiVersionRow {
    message!(ApiVersionRow {
        api_key: api.key(),
        min_version: versions.min,
        max_version: versions.max,
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire_core::ApiVersion;

    use super::*;
    use crate::messages::API_DESCRIPTORS;

    #[test]
    fn keys_survive_the_round_trip() {
        for &api in ApiKey::ALL {
            assert_eq!(ApiKey::from_key(api.key()), Some(api));
        }
        for removed_or_unknown in [-1, 4, 5, 6, 7, 95, i16::MAX] {
            assert_eq!(ApiKey::from_key(removed_or_unknown), None);
        }
    }

    #[test]
    fn names_and_flexible_versions_agree_with_the_wire_library() {
        for descriptor in API_DESCRIPTORS {
            let api = ApiKey::from_key(descriptor.api_key.value()).unwrap();
            assert_eq!(format!("{api}Request"), descriptor.request.name);
            for version in descriptor.supported_versions.min().value()
                ..=descriptor.supported_versions.max().value()
            {
                let flexible = descriptor
                    .flexible_versions
                    .is_some_and(|range| range.contains(ApiVersion::new(version)));
                assert_eq!(api.is_flexible(version), flexible, "{api} v{version}");
            }
        }
    }

    #[test]
    fn served_versions_are_stable_and_within_what_the_wire_library_encodes() {
        for &api in ApiKey::ALL.iter().filter(|api| **api != ApiKey::QuorumMessage) {
            let served = [ListenerType::Broker, ListenerType::Controller];
            let Some(served) = served.into_iter().find_map(|it| api.versions_on(it)) else {
                continue;
            };
            let descriptor = API_DESCRIPTORS
                .iter()
                .find(|descriptor| descriptor.api_key.value() == api.key())
                .unwrap();
            assert!(served.min <= served.max, "{api}");
            assert!(served.min >= descriptor.supported_versions.min().value(), "{api}");
            assert!(served.max <= descriptor.latest_stable_version().unwrap().value(), "{api}");
        }
    }

    #[test]
    fn produce_is_advertised_from_zero_but_served_from_three() {
        assert_eq!(ApiKey::Produce.served_versions(), Some(Versions { min: 3, max: 13 }));
        assert_eq!(ApiKey::Produce.advertised_versions(), Some(Versions { min: 0, max: 13 }));
    }

    #[test]
    fn api_versions_answers_without_tagged_fields_in_its_header() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
    }

    #[test]
    fn an_unknown_version_of_api_versions_is_told_the_range() {
        let response = unsupported_api_versions_response();
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!((response.api_keys[0].api_key, response.api_keys[0].min_version), (18, 0));
    }
}
