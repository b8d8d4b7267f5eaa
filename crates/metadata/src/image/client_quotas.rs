//! Client quotas (KIP-546). Kafka: `ClientQuotasImage`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::messages::describe_client_quotas_request::ComponentData;
use ottla_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use ottla_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::MetadataImage;
use crate::record::{ClientQuotaRecord, MetadataRecord, QuotaEntityPart, QuotaValue};

/// The type of an entity that is a user, alone or with [`CLIENT_ID`].
pub const USER: &str = "user";
/// The type of an entity that is what a client calls itself, alone or with [`USER`].
pub const CLIENT_ID: &str = "client-id";
/// The type of an entity that is an address, always alone (KIP-612).
pub const IP: &str = "ip";

/// What a quota is for: names by type (`user`, `client-id`, `ip`); no name is the default of that type.
pub type QuotaEntity = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// The quotas of one entity, by key.
pub type ClientQuotas = BTreeMap<Arc<str>, QuotaValue>;

/// What can be limited. Kafka: `QuotaConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKey {
    /// Bytes per second that are produced.
    ProducerByteRate,
    /// Bytes per second that are fetched.
    ConsumerByteRate,
    /// Per cent of the time of one processor that requests are worked on (KIP-124).
    RequestPercentage,
    /// Partitions per second that are created or deleted (KIP-599).
    ControllerMutationRate,
    /// Connections per second from an address (KIP-612).
    ConnectionCreationRate,
}

impl QuotaKey {
    /// Every key.
    pub const ALL: [Self; 5] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
        Self::ControllerMutationRate,
        Self::ConnectionCreationRate,
    ];

    /// Kafka's name of the key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The key of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

impl MetadataImage {
    /// Every entity with quotas of its own.
    pub fn client_quotas(
        &self,
    ) -> impl ExactSizeIterator<Item = (&QuotaEntity, &Arc<ClientQuotas>)> {
        self.client_quotas.iter()
    }

    /// The quotas that an entity itself has.
    pub(crate) fn quotas_of(&self, entity: &QuotaEntity) -> Option<&ClientQuotas> {
        self.client_quotas.get(entity).map(Arc::as_ref)
    }

    /// Whether the quotas are others than in `older`.
    pub(crate) fn client_quotas_differ(&self, older: &Self) -> bool {
        !older.client_quotas.differences(&self.client_quotas).is_empty()
    }

    /// The quotas of every entity that the filter matches.
    pub fn describe_client_quotas(
        &self,
        request: &DescribeClientQuotasRequest,
    ) -> DescribeClientQuotasResponse {
        let filter = match Filter::of(request) {
            Ok(filter) => filter,
            Err(error) => {
                return message!(DescribeClientQuotasResponse {
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                    entries: None,
                });
            }
        };
        let found = self.client_quotas().filter(|(entity, _)| filter.matches(entity));
        message!(DescribeClientQuotasResponse {
            error_message: None,
            entries: Some(found.map(|(entity, quotas)| described(entity, quotas)).collect()),
        })
    }

    pub(super) fn set_client_quota(&mut self, record: &ClientQuotaRecord) {
        let parts = record.entity.iter();
        let entity: QuotaEntity =
            parts.map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect();
        let quotas = self.client_quotas.get(&entity);
        let mut quotas = quotas.map_or_else(Default::default, |it| ClientQuotas::clone(it));
        match record.remove {
            true => quotas.remove(&record.key),
            false => quotas.insert(record.key.clone(), record.value),
        };
        match quotas.is_empty() {
            true => drop(self.client_quotas.remove(&entity)),
            false => drop(self.client_quotas.insert(entity, Arc::new(quotas))),
        }
    }

    pub(super) fn client_quota_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.client_quotas().flat_map(|(entity, quotas)| {
            quotas.iter().map(|(key, value)| quota_record(entity, key, Some(*value)))
        })
    }
}

/// The record that sets a quota of `entity`, or, without a value, removes it.
pub(crate) fn quota_record(
    entity: &QuotaEntity,
    key: &Arc<str>,
    value: Option<QuotaValue>,
) -> MetadataRecord {
    let parts = entity.iter().map(|(entity_type, entity_name)| QuotaEntityPart {
        entity_type: entity_type.clone(),
        entity_name: entity_name.clone(),
    });
    ClientQuotaRecord {
        entity: parts.collect(),
        key: key.clone(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    }
    .into()
}

fn described(entity: &QuotaEntity, quotas: &ClientQuotas) -> EntryData {
    let parts = entity.iter().map(|(kind, name)| {
        message!(EntityData {
            entity_type: StrBytes::from(&**kind),
            entity_name: name.as_deref().map(StrBytes::from),
        })
    });
    let values = quotas.iter().map(|(key, value)| {
        message!(ValueData { key: StrBytes::from(&**key), value: value.get() })
    });
    message!(EntryData { entity: parts.collect(), values: values.collect() })
}

/// Why a filter is none. Words are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FilterError {
    #[error("Invalid empty entity type.")]
    EmptyType,
    #[error("Entity type {0} cannot appear more than once in the filter.")]
    Duplicate(String),
    #[error("Unsupported entity type {0}")]
    UnknownType(String),
    #[error("Request specified MATCH_TYPE_EXACT, but set match string to null.")]
    NoName,
    #[error("Request specified {0}, but also specified a match string.")]
    NeedlessName(&'static str),
    #[error("Unknown match type {0}")]
    UnknownMatch(i8),
    #[error(
        "Invalid entity filter component combination. IP filter component should not be used with \
         user or clientId filter component."
    )]
    IpAndOthers,
}

impl FilterError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownType(_) => ErrorCode::UnsupportedVersion,
            Self::EmptyType
            | Self::Duplicate(_)
            | Self::NoName
            | Self::NeedlessName(_)
            | Self::UnknownMatch(_)
            | Self::IpAndOthers => ErrorCode::InvalidRequest,
        }
    }
}

/// Which entities are asked for.
struct Filter<'a> {
    /// Types with the name that they must have; none is the default.
    exact: BTreeMap<&'a str, Option<&'a str>>,
    /// Types that must be there, by whatever name.
    any: BTreeSet<&'a str>,
    /// No other types may be there.
    strict: bool,
}

impl<'a> Filter<'a> {
    fn of(request: &'a DescribeClientQuotasRequest) -> Result<Self, FilterError> {
        let (exact, any) = (BTreeMap::new(), BTreeSet::new());
        let mut filter = Self { exact, any, strict: request.strict };
        for component in &request.components {
            filter.add(component)?;
        }
        if filter.names(IP) && (filter.names(USER) || filter.names(CLIENT_ID)) {
            return Err(FilterError::IpAndOthers);
        }
        Ok(filter)
    }

    fn names(&self, kind: &str) -> bool {
        self.exact.contains_key(kind) || self.any.contains(kind)
    }

    fn add(&mut self, component: &'a ComponentData) -> Result<(), FilterError> {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return Err(FilterError::EmptyType);
        }
        if self.names(kind) {
            return Err(FilterError::Duplicate(kind.to_string()));
        }
        if !matches!(kind, USER | CLIENT_ID | IP) {
            return Err(FilterError::UnknownType(kind.to_string()));
        }
        match (component.match_type, &component.match_) {
            (0, None) => return Err(FilterError::NoName),
            (0, Some(name)) => drop(self.exact.insert(kind, Some(name.as_str()))),
            (1, None) => drop(self.exact.insert(kind, None)),
            (1, Some(_)) => return Err(FilterError::NeedlessName("MATCH_TYPE_DEFAULT")),
            (2, None) => drop(self.any.insert(kind)),
            (2, Some(_)) => return Err(FilterError::NeedlessName("MATCH_TYPE_SPECIFIED")),
            (unknown, _) => return Err(FilterError::UnknownMatch(unknown)),
        }
        Ok(())
    }

    fn matches(&self, entity: &QuotaEntity) -> bool {
        if self.strict && entity.len() != self.exact.len() + self.any.len() {
            return false;
        }
        let named = self.exact.iter();
        let mut named =
            named.map(|(kind, name)| entity.get(*kind).is_some_and(|it| it.as_deref() == *name));
        named.all(|it| it) && self.any.iter().all(|kind| entity.contains_key(*kind))
    }
}
