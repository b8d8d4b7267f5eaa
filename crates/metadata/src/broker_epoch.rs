use std::fmt;

/// Which registration of a broker a request speaks for. It grows with every incarnation of any
/// broker, because it is the offset in the metadata log at which the registration stands (KIP-631).
/// -1 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerEpoch(pub i64);

impl BrokerEpoch {
    /// No registration.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
