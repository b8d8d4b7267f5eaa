//! The records of `__consumer_offsets` and `__transaction_state`, as tables.
//!
//! Of the newer groups those of consumers are here (KIP-848). Those of share groups and of Streams
//! are not known, which is said of each record in Kafka's words.

use super::schema::Kind::{Bytes, Int8, Int16, Int32, Int64, List, Struct, Text, Uuid};
use super::schema::{Field, Kind, Message, field};

/// A kind of record of a coordinator.
pub(super) struct RecordKind {
    /// The version of its key.
    pub(super) number: i16,
    pub(super) key: Message,
    pub(super) value: &'static Message,
}

const NEVER: i16 = i16::MAX;

const fn key(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, newest: 0, flexible: NEVER }
}

const fn value(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, newest: 0, flexible: 0 }
}

const GROUP: &[Field] = &[field("groupId", Text)];
const MEMBER: &[Field] = &[field("groupId", Text), field("memberId", Text)];
const COMMITTED: &[Field] =
    &[field("group", Text), field("topic", Text), field("partition", Int32)];

/// Of `__consumer_offsets`.
pub(super) static OFFSETS: &[RecordKind] = &[
    RecordKind {
        number: 0,
        key: key("LegacyOffsetCommitKey", COMMITTED),
        value: &Message {
            name: "LegacyOffsetCommitValue",
            fields: &[
                field("offset", Int64),
                field("metadata", Text),
                field("commitTimestamp", Int64),
            ],
            newest: 0,
            flexible: NEVER,
        },
    },
    RecordKind {
        number: 1,
        key: key("OffsetCommitKey", COMMITTED),
        value: &Message {
            name: "OffsetCommitValue",
            fields: &[
                field("offset", Int64),
                field("leaderEpoch", Int32).since(3),
                field("metadata", Text),
                field("commitTimestamp", Int64),
                field("expireTimestamp", Int64).since(1).until(1),
                field("topicId", Uuid).tagged(0, "\"AAAAAAAAAAAAAAAAAAAAAA\""),
            ],
            newest: 4,
            flexible: 4,
        },
    },
    RecordKind {
        number: 2,
        key: key("GroupMetadataKey", &[field("group", Text)]),
        value: &GROUP_METADATA,
    },
    RecordKind {
        number: 3,
        key: key("ConsumerGroupMetadataKey", GROUP),
        value: &value(
            "ConsumerGroupMetadataValue",
            &[field("epoch", Int32), field("metadataHash", Int64).tagged(0, "0")],
        ),
    },
    RecordKind {
        number: 4,
        key: key("ConsumerGroupPartitionMetadataKey", GROUP),
        value: &value(
            "ConsumerGroupPartitionMetadataValue",
            &[field(
                "topics",
                List(&Struct(&[
                    field("topicId", Uuid),
                    field("topicName", Text),
                    field("numPartitions", Int32),
                    field(
                        "partitionMetadata",
                        List(&Struct(&[field("partition", Int32), field("racks", List(&Text))])),
                    ),
                ])),
            )],
        ),
    },
    RecordKind {
        number: 5,
        key: key("ConsumerGroupMemberMetadataKey", MEMBER),
        value: &value(
            "ConsumerGroupMemberMetadataValue",
            &[
                field("instanceId", Text).nullable(),
                field("rackId", Text).nullable(),
                field("clientId", Text),
                field("clientHost", Text),
                field("subscribedTopicNames", List(&Text)),
                field("subscribedTopicRegex", Text).nullable(),
                field("rebalanceTimeoutMs", Int32),
                field("serverAssignor", Text).nullable(),
                field(
                    "classicMemberMetadata",
                    Struct(&[
                        field("sessionTimeoutMs", Int32),
                        field(
                            "supportedProtocols",
                            List(&Struct(&[field("name", Text), field("metadata", Bytes)])),
                        ),
                    ]),
                )
                .nullable()
                .tagged(0, "null"),
            ],
        ),
    },
    RecordKind {
        number: 6,
        key: key("ConsumerGroupTargetAssignmentMetadataKey", GROUP),
        value: &value(
            "ConsumerGroupTargetAssignmentMetadataValue",
            &[field("assignmentEpoch", Int32), field("assignmentTimestamp", Int64).tagged(0, "0")],
        ),
    },
    RecordKind {
        number: 7,
        key: key("ConsumerGroupTargetAssignmentMemberKey", MEMBER),
        value: &value(
            "ConsumerGroupTargetAssignmentMemberValue",
            &[field("topicPartitions", List(&Struct(PARTITIONS)))],
        ),
    },
    RecordKind {
        number: 8,
        key: key("ConsumerGroupCurrentMemberAssignmentKey", MEMBER),
        value: &value(
            "ConsumerGroupCurrentMemberAssignmentValue",
            &[
                field("memberEpoch", Int32),
                field("previousMemberEpoch", Int32),
                field("state", Int8),
                field("assignedPartitions", List(&Struct(ASSIGNED))),
                field("partitionsPendingRevocation", List(&Struct(ASSIGNED))),
            ],
        ),
    },
    RecordKind {
        number: 16,
        key: key(
            "ConsumerGroupRegularExpressionKey",
            &[field("groupId", Text), field("regularExpression", Text)],
        ),
        value: &value(
            "ConsumerGroupRegularExpressionValue",
            &[field("topics", List(&Text)), field("version", Int64), field("timestamp", Int64)],
        ),
    },
];

/// Of `__transaction_state`.
pub(super) static TRANSACTIONS: &[RecordKind] = &[RecordKind {
    number: 0,
    key: key("TransactionLogKey", &[field("transactionalId", Text)]),
    value: &Message {
        name: "TransactionLogValue",
        fields: &[
            field("producerId", Int64),
            field("previousProducerId", Int64).since(1).tagged(0, "-1"),
            field("nextProducerId", Int64).since(1).tagged(1, "-1"),
            field("producerEpoch", Int16),
            field("nextProducerEpoch", Int16).since(1).tagged(3, "-1"),
            field("transactionTimeoutMs", Int32),
            field("transactionStatus", Int8),
            field(
                "transactionPartitions",
                List(&Struct(&[field("topic", Text), field("partitionIds", List(&Int32))])),
            )
            .nullable(),
            field("transactionLastUpdateTimestampMs", Int64),
            field("transactionStartTimestampMs", Int64),
            field("clientTransactionVersion", Int16).since(1).tagged(2, "0"),
        ],
        newest: 1,
        flexible: 1,
    },
}];

const PARTITIONS: &[Field] = &[field("topicId", Uuid), field("partitions", List(&Int32))];
const ASSIGNED: &[Field] = &[
    field("topicId", Uuid),
    field("partitions", List(&Int32)),
    field("assignmentEpochs", List(&Int32)).nullable().tagged(0, "null"),
];

/// The number of [`GROUP_METADATA`].
pub(super) const CLASSIC_GROUP: i16 = 2;

/// A classic group, of whose members' subscriptions and assignments this or that is known.
macro_rules! classic_group {
    ($subscription:expr, $assignment:expr) => {
        Message {
            name: "GroupMetadataValue",
            fields: &[
                field("protocolType", Text),
                field("generation", Int32),
                field("protocol", Text).nullable(),
                field("leader", Text).nullable(),
                field("currentStateTimestamp", Int64).since(2),
                field(
                    "members",
                    List(&Struct(&[
                        field("memberId", Text),
                        field("groupInstanceId", Text).since(3).nullable(),
                        field("clientId", Text),
                        field("clientHost", Text),
                        field("rebalanceTimeout", Int32).since(1),
                        field("sessionTimeout", Int32),
                        field("subscription", $subscription),
                        field("assignment", $assignment),
                    ])),
                ),
            ],
            newest: 4,
            flexible: 4,
        }
    };
}

/// A classic group, whose members' subscriptions and assignments are bytes.
static GROUP_METADATA: Message = classic_group!(Bytes, Bytes);

/// A classic group of consumers.
pub(super) static CONSUMERS_METADATA: Message =
    classic_group!(Kind::Message(&SUBSCRIPTION), Kind::Message(&ASSIGNMENT));

/// `ConsumerProtocolSubscription`.
const SUBSCRIPTION: Message = Message {
    name: "ConsumerProtocolSubscription",
    fields: &[
        field("topics", List(&Text)),
        field("userData", Bytes).nullable(),
        field("ownedPartitions", List(&Struct(BY_NAME))).since(1),
        field("generationId", Int32).since(2),
        field("rackId", Text).since(3).nullable(),
    ],
    newest: 3,
    flexible: NEVER,
};

/// `ConsumerProtocolAssignment`.
const ASSIGNMENT: Message = Message {
    name: "ConsumerProtocolAssignment",
    fields: &[
        field("assignedPartitions", List(&Struct(BY_NAME))),
        field("userData", Bytes).nullable(),
    ],
    newest: 3,
    flexible: NEVER,
};

const BY_NAME: &[Field] = &[field("topic", Text), field("partitions", List(&Int32))];
