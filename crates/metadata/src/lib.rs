//! What the cluster knows and who decides it: records, image, controller.

mod broker_epoch;
pub mod controller;
pub mod delta;
pub mod image;
pub mod placement;
pub mod record;

pub use broker_epoch::BrokerEpoch;
pub use controller::{BrokerEpochError, Controller, ControllerConfig, Outcome, RegistrationError};
pub use delta::{MetadataDelta, TopicDelta};
pub use image::{
    BrokerRegistration, ConfigResource, LeaderRecoveryState, METADATA_VERSION, MetadataImage,
    MetadataPosition, PartitionRegistration, ReplayError, ResourceConfig, TopicImage,
};
pub use record::{MetadataRecord, RecordError};
