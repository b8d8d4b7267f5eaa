//! Records that brokers write for brokers and clients. Kafka: `ControlRecordType`.

/// What a control record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlRecordType {
    /// A transaction ended and is void (KIP-98).
    Abort,
    /// A transaction ended and counts (KIP-98).
    Commit,
    /// The metadata quorum has a new leader (KIP-595).
    LeaderChange,
    /// A metadata snapshot begins (KIP-630).
    SnapshotHeader,
    /// A metadata snapshot is complete (KIP-630).
    SnapshotFooter,
    /// The version of the quorum's protocol (KIP-853).
    KraftVersion,
    /// The voters of the quorum (KIP-853).
    KraftVoters,
}

impl ControlRecordType {
    /// The type that the key of a control record gives: version and type, 16 bits each.
    ///
    /// `None` if the key is too short, or the type not known to this release: skip the record.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let [_, _, high, low] = *key.first_chunk()?;
        match i16::from_be_bytes([high, low]) {
            0 => Some(Self::Abort),
            1 => Some(Self::Commit),
            2 => Some(Self::LeaderChange),
            3 => Some(Self::SnapshotHeader),
            4 => Some(Self::SnapshotFooter),
            5 => Some(Self::KraftVersion),
            6 => Some(Self::KraftVoters),
            _ => None,
        }
    }

    /// The key of a control record of this type, in version 0.
    pub fn to_key(self) -> [u8; 4] {
        let number = match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KraftVersion => 5,
            Self::KraftVoters => 6,
        };
        [0, 0, 0, number]
    }
}
