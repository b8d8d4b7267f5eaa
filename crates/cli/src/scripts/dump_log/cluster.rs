//! The records of `__cluster_metadata` and the control records of its batches, as tables.

use super::schema::Kind::{
    self, Bool, Bytes, Float64, Int8, Int16, Int32, Int64, List, Struct, Text, Uint16, Uuid,
};
use super::schema::{Field, Message, field};

/// A kind of record of the metadata log.
pub(super) struct MetadataKind {
    pub(super) number: u32,
    pub(super) title: &'static str,
    pub(super) message: Message,
}

const fn kind(
    number: u32,
    title: &'static str,
    newest: i16,
    fields: &'static [Field],
) -> MetadataKind {
    MetadataKind { number, title, message: Message { name: title, fields, newest, flexible: 0 } }
}

const BROKERS: Kind = List(&Int32);
const FEATURES: Kind = List(&Struct(&[
    field("name", Text),
    field("minSupportedVersion", Int16),
    field("maxSupportedVersion", Int16),
]));
const ENDPOINTS: Kind = List(&Struct(&[
    field("name", Text),
    field("host", Text),
    field("port", Uint16),
    field("securityProtocol", Int16),
]));

/// All that Kafka 4.3 knows (KIP-631 and what followed).
pub(super) static METADATA: &[MetadataKind] = &[
    kind(
        0,
        "REGISTER_BROKER_RECORD",
        4,
        &[
            field("brokerId", Int32),
            field("isMigratingZkBroker", Bool).since(2),
            field("incarnationId", Uuid),
            field("brokerEpoch", Int64),
            field("endPoints", ENDPOINTS),
            field("features", FEATURES),
            field("rack", Text).nullable(),
            field("fenced", Bool),
            field("inControlledShutdown", Bool).since(1),
            field("logDirs", List(&Uuid)).since(3).tagged(0, "[]"),
            field("cordonedLogDirs", List(&Uuid)).since(4).nullable().tagged(1, "null"),
        ],
    ),
    kind(
        1,
        "UNREGISTER_BROKER_RECORD",
        0,
        &[field("brokerId", Int32), field("brokerEpoch", Int64)],
    ),
    kind(2, "TOPIC_RECORD", 0, &[field("name", Text), field("topicId", Uuid)]),
    kind(
        3,
        "PARTITION_RECORD",
        2,
        &[
            field("partitionId", Int32),
            field("topicId", Uuid),
            field("replicas", BROKERS),
            field("isr", BROKERS),
            field("removingReplicas", BROKERS),
            field("addingReplicas", BROKERS),
            field("leader", Int32),
            field("leaderRecoveryState", Int8).tagged(0, "0"),
            field("leaderEpoch", Int32),
            field("partitionEpoch", Int32),
            field("directories", List(&Uuid)).since(1),
            field("eligibleLeaderReplicas", BROKERS).since(2).nullable().tagged(1, "null"),
            field("lastKnownElr", BROKERS).since(2).nullable().tagged(2, "null"),
        ],
    ),
    kind(
        4,
        "CONFIG_RECORD",
        0,
        &[
            field("resourceType", Int8),
            field("resourceName", Text),
            field("name", Text),
            field("value", Text).nullable(),
        ],
    ),
    kind(
        5,
        "PARTITION_CHANGE_RECORD",
        2,
        &[
            field("partitionId", Int32),
            field("topicId", Uuid),
            field("isr", BROKERS).nullable().tagged(0, "null"),
            field("leader", Int32).tagged(1, "-2"),
            field("replicas", BROKERS).nullable().tagged(2, "null"),
            field("removingReplicas", BROKERS).nullable().tagged(3, "null"),
            field("addingReplicas", BROKERS).nullable().tagged(4, "null"),
            field("leaderRecoveryState", Int8).tagged(5, "-1"),
            field("directories", List(&Uuid)).since(1).nullable().tagged(8, "null"),
            field("eligibleLeaderReplicas", BROKERS).since(2).nullable().tagged(6, "null"),
            field("lastKnownElr", BROKERS).since(2).nullable().tagged(7, "null"),
        ],
    ),
    kind(7, "FENCE_BROKER_RECORD", 0, &[field("id", Int32), field("epoch", Int64)]),
    kind(8, "UNFENCE_BROKER_RECORD", 0, &[field("id", Int32), field("epoch", Int64)]),
    kind(9, "REMOVE_TOPIC_RECORD", 0, &[field("topicId", Uuid)]),
    kind(
        10,
        "DELEGATION_TOKEN_RECORD",
        0,
        &[
            field("owner", Text),
            field("requester", Text),
            field("renewers", List(&Text)),
            field("issueTimestamp", Int64),
            field("maxTimestamp", Int64),
            field("expirationTimestamp", Int64),
            field("tokenId", Text),
        ],
    ),
    kind(
        11,
        "USER_SCRAM_CREDENTIAL_RECORD",
        0,
        &[
            field("name", Text),
            field("mechanism", Int8),
            field("salt", Bytes),
            field("storedKey", Bytes),
            field("serverKey", Bytes),
            field("iterations", Int32),
        ],
    ),
    kind(12, "FEATURE_LEVEL_RECORD", 0, &[field("name", Text), field("featureLevel", Int16)]),
    kind(
        14,
        "CLIENT_QUOTA_RECORD",
        0,
        &[
            field(
                "entity",
                List(&Struct(&[field("entityType", Text), field("entityName", Text).nullable()])),
            ),
            field("key", Text),
            field("value", Float64),
            field("remove", Bool),
        ],
    ),
    kind(
        15,
        "PRODUCER_IDS_RECORD",
        0,
        &[field("brokerId", Int32), field("brokerEpoch", Int64), field("nextProducerId", Int64)],
    ),
    kind(
        17,
        "BROKER_REGISTRATION_CHANGE_RECORD",
        3,
        &[
            field("brokerId", Int32),
            field("brokerEpoch", Int64),
            field("fenced", Int8).tagged(0, "0"),
            field("inControlledShutdown", Int8).since(1).tagged(1, "0"),
            field("logDirs", List(&Uuid)).since(2).tagged(2, "[]"),
            field("cordonedLogDirs", List(&Uuid)).since(3).nullable().tagged(3, "null"),
        ],
    ),
    kind(
        18,
        "ACCESS_CONTROL_ENTRY_RECORD",
        0,
        &[
            field("id", Uuid),
            field("resourceType", Int8),
            field("resourceName", Text),
            field("patternType", Int8),
            field("principal", Text),
            field("host", Text),
            field("operation", Int8),
            field("permissionType", Int8),
        ],
    ),
    kind(19, "REMOVE_ACCESS_CONTROL_ENTRY_RECORD", 0, &[field("id", Uuid)]),
    kind(20, "NO_OP_RECORD", 0, &[]),
    kind(21, "ZK_MIGRATION_STATE_RECORD", 0, &[field("zkMigrationState", Int8)]),
    kind(
        22,
        "REMOVE_USER_SCRAM_CREDENTIAL_RECORD",
        0,
        &[field("name", Text), field("mechanism", Int8)],
    ),
    kind(23, "BEGIN_TRANSACTION_RECORD", 0, &[field("name", Text).nullable().tagged(0, "null")]),
    kind(24, "END_TRANSACTION_RECORD", 0, &[]),
    kind(25, "ABORT_TRANSACTION_RECORD", 0, &[field("reason", Text).nullable().tagged(0, "null")]),
    kind(26, "REMOVE_DELEGATION_TOKEN_RECORD", 0, &[field("tokenId", Text)]),
    kind(
        27,
        "REGISTER_CONTROLLER_RECORD",
        0,
        &[
            field("controllerId", Int32),
            field("incarnationId", Uuid),
            field("zkMigrationReady", Bool),
            field("endPoints", ENDPOINTS),
            field("features", FEATURES),
        ],
    ),
    kind(28, "CLEAR_ELR_RECORD", 0, &[field("topicName", Text)]),
];

const fn control(name: &'static str, newest: i16, fields: &'static [Field]) -> Message {
    Message { name, fields, newest, flexible: 0 }
}

const VOTERS: Kind =
    List(&Struct(&[field("voterId", Int32), field("voterDirectoryId", Uuid).since(1)]));

/// A quorum has a new leader (KIP-595, KIP-853).
pub(super) static LEADER_CHANGE: Message = control(
    "LeaderChangeMessage",
    1,
    &[
        field("version", Int16),
        field("leaderId", Int32),
        field("voters", VOTERS),
        field("grantingVoters", VOTERS),
    ],
);
/// A snapshot begins (KIP-630).
pub(super) static SNAPSHOT_HEADER: Message = control(
    "SnapshotHeaderRecord",
    0,
    &[field("version", Int16), field("lastContainedLogTimestamp", Int64)],
);
/// A snapshot is whole (KIP-630).
pub(super) static SNAPSHOT_FOOTER: Message =
    control("SnapshotFooterRecord", 0, &[field("version", Int16)]);
/// The version of the quorum's protocol (KIP-853).
pub(super) static KRAFT_VERSION: Message =
    control("KRaftVersionRecord", 0, &[field("version", Int16), field("kRaftVersion", Int16)]);
/// The voters of the quorum (KIP-853).
pub(super) static KRAFT_VOTERS: Message = control(
    "VotersRecord",
    0,
    &[
        field("version", Int16),
        field(
            "voters",
            List(&Struct(&[
                field("voterId", Int32),
                field("voterDirectoryId", Uuid),
                field(
                    "endpoints",
                    List(&Struct(&[
                        field("name", Text),
                        field("host", Text),
                        field("port", Uint16),
                    ])),
                ),
                field(
                    "kRaftVersionFeature",
                    Struct(&[
                        field("minSupportedVersion", Int16),
                        field("maxSupportedVersion", Int16),
                    ]),
                ),
            ])),
        ),
    ],
);
