//! Every error code a response may carry. Kafka: `org.apache.kafka.common.protocol.Errors`.

use std::fmt;

const RETRIABLE: bool = true;
const FATAL: bool = false;

macro_rules! error_codes {
    ($($variant:ident = $code:literal, $name:literal, $retriable:ident, $message:literal;)*) => {
        /// What went wrong with a request, or with one part of it, as it travels in a response.
        ///
        /// The names are Kafka's. An error code is an *answer*: faults of the broker itself are
        /// other types, and become an answer only in a handler.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// Every code, ascending.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code with the number `code`, or `None` if no Kafka release defines it.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name of the code, for example `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether the same request may succeed later without being changed.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => $retriable,)*
                }
            }

            /// One sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", FATAL, "The broker failed in a way it did not expect.";
    None = 0, "NONE", FATAL, "No error.";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", FATAL, "The offset lies outside the range the partition holds.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", RETRIABLE, "A record batch fails its checksum or is otherwise malformed.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", RETRIABLE, "This broker does not host the topic or partition.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", FATAL, "The fetch size is not valid.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", RETRIABLE, "The partition has no leader right now.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", RETRIABLE, "This broker is not the leader, or not a replica, of the partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", RETRIABLE, "The request did not complete in its time limit.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", FATAL, "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", RETRIABLE, "The replica is not available on this broker.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", FATAL, "A record batch is larger than max.message.bytes.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", FATAL, "The controller has moved to another node.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", FATAL, "The metadata string of an offset commit is longer than offset.metadata.max.bytes.";
    NetworkException = 13, "NETWORK_EXCEPTION", RETRIABLE, "The connection was lost before a response came.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", RETRIABLE, "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", RETRIABLE, "No coordinator is available.";
    NotCoordinator = 16, "NOT_COORDINATOR", RETRIABLE, "This broker is not the coordinator asked for.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", FATAL, "The topic name is not valid, or the topic does not allow the operation.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", FATAL, "The record batches do not fit into one log segment.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", RETRIABLE, "Fewer replicas are in sync than min.insync.replicas; nothing was written.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", RETRIABLE, "The records were written, but fewer replicas are in sync than min.insync.replicas.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", FATAL, "The value of acks is not valid.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", FATAL, "The group generation is not the current one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", FATAL, "The member's protocols have nothing in common with those of its group.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", FATAL, "The group id is not valid.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", FATAL, "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", FATAL, "The session timeout lies outside group.min.session.timeout.ms and group.max.session.timeout.ms.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", FATAL, "The group is rebalancing: join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", FATAL, "The offset commit is too large.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", FATAL, "The principal may not do this to the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", FATAL, "The principal may not do this to the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", FATAL, "The principal may not do this to the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", FATAL, "A record's timestamp is too far from the broker's time.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", FATAL, "The broker does not offer this SASL mechanism.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", FATAL, "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", FATAL, "The broker does not serve this version of the API.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", FATAL, "A topic of this name exists.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", FATAL, "The number of partitions is not valid.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", FATAL, "The replication factor is below 1 or above the number of brokers.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", FATAL, "The replica assignment is not valid.";
    InvalidConfig = 40, "INVALID_CONFIG", FATAL, "A configuration is not valid.";
    NotController = 41, "NOT_CONTROLLER", RETRIABLE, "This node is not the active controller.";
    InvalidRequest = 42, "INVALID_REQUEST", FATAL, "The request contradicts itself or lacks something; see the broker's log.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", FATAL, "The record format is too old for this request.";
    PolicyViolation = 44, "POLICY_VIOLATION", FATAL, "A policy of the cluster forbids the request.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", FATAL, "The producer's sequence number does not follow its last one.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", FATAL, "The producer's sequence number was used before.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", FATAL, "The producer epoch is older than the one the broker knows.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", FATAL, "The transaction is in a state that does not allow the request.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", FATAL, "The producer id does not belong to this transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", FATAL, "The transaction timeout is above transaction.max.timeout.ms.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", RETRIABLE, "An earlier operation of the same transactional id is still under way.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", FATAL, "A newer coordinator has taken over the transaction.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", FATAL, "The principal may not use this transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", FATAL, "Security features are switched off.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", FATAL, "The operation was not tried, because another part of the batch failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", RETRIABLE, "The disk that holds the partition failed.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", FATAL, "The log directory is not one of the broker's.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", FATAL, "SASL authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", FATAL, "The broker holds no state of this producer id.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", FATAL, "A reassignment of the partition is under way.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", FATAL, "Delegation tokens are switched off.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", FATAL, "No such delegation token exists.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", FATAL, "The principal is not the owner or a renewer of the token.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", FATAL, "Delegation token requests are not allowed on this connection.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", FATAL, "The principal may not do this to the delegation token.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", FATAL, "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", FATAL, "The principal's type is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", FATAL, "The group still has members.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", FATAL, "No such group exists.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", RETRIABLE, "The fetch session is unknown.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", RETRIABLE, "The epoch of the fetch session is not the expected one.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", RETRIABLE, "The leader has no listener of the name this request came in on.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", FATAL, "Topics cannot be deleted here.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", RETRIABLE, "The leader epoch of the request is older than the broker's.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", RETRIABLE, "The leader epoch of the request is newer than the broker's.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", FATAL, "This version of the API cannot carry the compression type.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", FATAL, "The broker epoch is not the current one.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", RETRIABLE, "The new leader's high watermark has not caught up yet.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", FATAL, "The member must join again with the id it was given.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", RETRIABLE, "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", FATAL, "The group already has group.max.size members.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", FATAL, "Another member with the same group.instance.id has joined since.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", RETRIABLE, "No replica that may lead is available.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", RETRIABLE, "The partition needs no leader election.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", FATAL, "No reassignment of the partition is under way.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", FATAL, "The group is subscribed to the topic, so its offsets cannot be deleted.";
    InvalidRecord = 87, "INVALID_RECORD", FATAL, "A record is not valid for the topic.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", RETRIABLE, "Offsets of an open transaction await its outcome.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", RETRIABLE, "A quota is exceeded.";
    ProducerFenced = 90, "PRODUCER_FENCED", FATAL, "A newer producer with the same transactional id has taken over.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", FATAL, "The resource does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", FATAL, "The resource exists already, or is named twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", FATAL, "The credential does not meet the requirements.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", FATAL, "The set of voters is not the one the quorum uses.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", FATAL, "The feature version asked for is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", FATAL, "The feature could not be updated.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", FATAL, "The forwarded principal could not be read.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", FATAL, "No such metadata snapshot exists.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", FATAL, "The position lies outside the metadata snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", RETRIABLE, "This broker knows no topic of this id.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", FATAL, "Another broker with this id is registered and alive.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", FATAL, "No broker of this id is registered.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", RETRIABLE, "The topic has another id: it was created anew.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", FATAL, "The request was meant for another cluster.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", FATAL, "The transactional id is unknown.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", RETRIABLE, "The fetch session began with topic names and goes on with ids, or the other way round.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", FATAL, "The replica may not join the in-sync replicas.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", FATAL, "The change of the partition made another replica its leader.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", FATAL, "The offset is only in remote storage now.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", FATAL, "The member epoch is fenced: the member must give up its partitions and join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", FATAL, "Another member still holds this instance id.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", FATAL, "The group cannot use this assignor.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", FATAL, "The member epoch is old: retry with the one of the next heartbeat.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", FATAL, "The request came to the wrong kind of endpoint.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", FATAL, "This kind of endpoint is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", FATAL, "No controller of this id is known.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", FATAL, "The telemetry subscription is not the client's current one.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", FATAL, "The pushed telemetry is larger than the broker takes.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", FATAL, "The controller does not accept the broker's registration.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", FATAL, "The transaction cannot go on and must be aborted.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", FATAL, "The state of the record does not allow the acknowledgement.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", RETRIABLE, "The share session is unknown.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", RETRIABLE, "The epoch of the share session is not the expected one.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", FATAL, "The state epoch of the share group is not the current one.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", FATAL, "The voter key is not that of the node which received the request.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", FATAL, "The node is a voter already.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", FATAL, "The node is not a voter.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", FATAL, "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", FATAL, "The client's metadata is stale: it must bootstrap anew.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", FATAL, "The streams topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", FATAL, "The epoch of the streams topology is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", FATAL, "The epoch of the streams topology is outdated.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", RETRIABLE, "The broker holds as many share sessions as it may.";
    GroupDeletionFailed = 134, "GROUP_DELETION_FAILED", FATAL, "The group could not be deleted.";
    StreamsTopologyDescriptionUpdateFailed = 135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", FATAL, "The description of the streams topology could not be stored.";
    ControllerIdNotRegistered = 136, "CONTROLLER_ID_NOT_REGISTERED", FATAL, "No controller of this id is registered.";
}

impl ErrorCode {
    /// The number that travels on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Success is no error; everything else is.
    pub const fn ok(self) -> Result<(), Self> {
        if self as i16 == 0 { Ok(()) } else { Err(self) }
    }

    /// The code a response carries. One this release does not know is `UNKNOWN_SERVER_ERROR`,
    /// as for Kafka's clients.
    pub const fn from_wire(code: i16) -> Self {
        match Self::from_code(code) {
            Some(error) => error,
            None => Self::UnknownServerError,
        }
    }

    /// Whether this is [`ErrorCode::None`], that is, success.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl Default for ErrorCode {
    /// [`ErrorCode::None`]: responses start out as success.
    fn default() -> Self {
        Self::None
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_from_minus_one_to_136_is_known_and_no_other() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
        assert_eq!(codes, (-1..=136).collect::<Vec<_>>());
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
        }
        assert_eq!(ErrorCode::from_code(137), None);
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MIN), None);
    }

    #[test]
    fn names_and_numbers_agree_with_the_oracle() {
        for &error in ErrorCode::ALL {
            // The oracle is at Kafka 4.1, which ends at 133.
            if !(1..=133).contains(&error.code()) {
                continue;
            }
            let oracle = kafka_protocol::ResponseError::try_from_code(error.code()).unwrap();
            assert_eq!(format!("{oracle:?}"), format!("{error:?}"));
            // Retriable since ConcurrentTransactionsException became a RetriableException.
            if error != ErrorCode::ConcurrentTransactions {
                assert_eq!(oracle.is_retriable(), error.is_retriable(), "{error}");
            }
        }
    }

    #[test]
    fn names_are_the_variants_in_upper_snake_case() {
        for &error in ErrorCode::ALL {
            let mut name = String::new();
            for (position, letter) in format!("{error:?}").char_indices() {
                if position > 0 && letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            assert_eq!(error.name(), name);
        }
    }
}
