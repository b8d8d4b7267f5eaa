//! Client quotas. Kafka: `ClientQuotaControlManager` (KIP-546, KIP-599, KIP-612).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ottla_protocol::messages::alter_client_quotas_request::{
    EntityData as NamedPart, EntryData as Alteration, OpData,
};
use ottla_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use ottla_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Controller, MAX_RECORDS_PER_REQUEST, Outcome};
use crate::image::{CLIENT_ID, IP, QuotaEntity, QuotaKey, USER, quota_record};
use crate::record::{MetadataRecord, QuotaValue};

/// Why the quotas of an entity were not changed. Words are Kafka's where it has some.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum ClientQuotaError {
    #[error("Invalid empty client quota entity")]
    NoEntity,
    #[error("Invalid client quota entity, duplicate entity entry {0}")]
    DuplicatePart(String),
    #[error("Unhandled client quota entity type: {0}")]
    UnknownType(String),
    #[error("Empty {0} not supported")]
    EmptyName(String),
    #[error(
        "Invalid quota entity combination, IP entity should not be combined with User or ClientId"
    )]
    IpAndOthers,
    /// A host name is one to Kafka too; here it would be looked up by nobody.
    #[error("{0} is not a valid IP or resolvable host.")]
    InvalidIp(String),
    #[error("Ignoring duplicate entity {0}")]
    DuplicateEntity(JavaEntity),
    #[error("Duplicate quota key {key} not updating quota for this entity {entity}")]
    DuplicateKey { key: String, entity: JavaEntity },
    #[error("Invalid configuration key {0}")]
    InvalidKey(String),
    #[error("Quota {0} must be greater than 0")]
    NotPositive(String),
    #[error("Proposed value for {key} is too large for {kind}.")]
    TooLarge { key: String, kind: &'static str },
    #[error("{0} cannot be a fractional value.")]
    Fractional(String),
    #[error("a request may change at most {MAX_RECORDS_PER_REQUEST} quotas in all")]
    RequestTooLarge,
}

impl ClientQuotaError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
            Self::NoEntity
            | Self::DuplicatePart(_)
            | Self::UnknownType(_)
            | Self::EmptyName(_)
            | Self::IpAndOthers
            | Self::InvalidIp(_)
            | Self::DuplicateEntity(_)
            | Self::DuplicateKey { .. }
            | Self::InvalidKey(_)
            | Self::NotPositive(_)
            | Self::TooLarge { .. }
            | Self::Fractional(_) => ErrorCode::InvalidRequest,
        }
    }
}

/// An entity as Kafka's sentences print it.
#[derive(Clone, Debug, PartialEq)]
struct JavaEntity(QuotaEntity);

impl fmt::Display for JavaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter();
        let parts =
            parts.map(|(kind, name)| format!("{kind}={}", name.as_deref().unwrap_or("null")));
        write!(f, "ClientQuotaEntity(entries={{{}}})", parts.collect::<Vec<_>>().join(", "))
    }
}

impl Controller {
    /// Sets and removes quotas. Of each entity all changes are made or none; an entity that is named
    /// twice is left alone.
    pub fn alter_client_quotas(
        &self,
        request: &AlterClientQuotasRequest,
    ) -> Outcome<AlterClientQuotasResponse> {
        let mut outcome = Outcome::only(AlterClientQuotasResponse::default());
        let entities: Vec<_> = request.entries.iter().map(|it| entity_of(&it.entity)).collect();
        let mut times: BTreeMap<&QuotaEntity, usize> = BTreeMap::new();
        for entity in entities.iter().flatten() {
            *times.entry(entity).or_default() += 1;
        }
        let mut left = MAX_RECORDS_PER_REQUEST;
        for (alteration, entity) in request.entries.iter().zip(&entities) {
            let altered = match entity {
                Err(error) => Err(error.clone()),
                // As in Kafka, an entity is answered for once.
                Ok(entity) => match times.remove(entity) {
                    None => continue,
                    Some(1) => self.alter_entity(entity, &alteration.ops, &mut left),
                    Some(_) => Err(ClientQuotaError::DuplicateEntity(JavaEntity(entity.clone()))),
                },
            };
            let (error_code, error_message) = match altered {
                Ok(records) => {
                    if !request.validate_only {
                        outcome.records.extend(records);
                    }
                    (0, None)
                }
                Err(error) => (error.error_code().code(), Some(StrBytes::from(error.to_string()))),
            };
            outcome.answer.entries.push(answered(alteration, error_code, error_message));
        }
        outcome
    }

    fn alter_entity(
        &self,
        entity: &QuotaEntity,
        ops: &[OpData],
        left: &mut usize,
    ) -> Result<Vec<MetadataRecord>, ClientQuotaError> {
        // What is refused counts too, so that the time that a request takes is bounded.
        let fits = left.checked_sub(ops.len());
        *left = fits.unwrap_or(0);
        if fits.is_none() {
            return Err(ClientQuotaError::RequestTooLarge);
        }
        let mut changes: BTreeMap<&str, &OpData> = BTreeMap::new();
        for op in ops {
            if changes.insert(&op.key, op).is_some() {
                let (key, entity) = (op.key.to_string(), JavaEntity(entity.clone()));
                return Err(ClientQuotaError::DuplicateKey { key, entity });
            }
        }
        let current = self.image.quotas_of(entity);
        let mut records = Vec::new();
        for (key, op) in changes {
            let before = current.and_then(|quotas| quotas.get(key));
            if !op.remove {
                check_value(entity, key, op.value)?;
            }
            let after = (!op.remove).then(|| QuotaValue::new(op.value));
            if before != after.as_ref() {
                records.push(quota_record(entity, &Arc::from(key), after));
            }
        }
        Ok(records)
    }
}

fn answered(
    alteration: &Alteration,
    error_code: i16,
    error_message: Option<StrBytes>,
) -> EntryData {
    let parts = alteration.entity.iter().map(|part| {
        message!(EntityData {
            entity_type: part.entity_type.clone(),
            entity_name: part.entity_name.clone(),
        })
    });
    message!(EntryData {
        error_code: error_code,
        error_message: error_message,
        entity: parts.collect(),
    })
}

/// The entity that a request names, if there can be such a one.
fn entity_of(parts: &[NamedPart]) -> Result<QuotaEntity, ClientQuotaError> {
    let mut entity = QuotaEntity::new();
    for part in parts {
        let kind = part.entity_type.as_str();
        if !matches!(kind, USER | CLIENT_ID | IP) {
            return Err(ClientQuotaError::UnknownType(kind.to_owned()));
        }
        let name = part.entity_name.as_ref().map(StrBytes::as_str);
        if name.is_some_and(str::is_empty) {
            return Err(ClientQuotaError::EmptyName(kind.to_owned()));
        }
        if entity.insert(Arc::from(kind), name.map(Arc::from)).is_some() {
            return Err(ClientQuotaError::DuplicatePart(kind.to_owned()));
        }
    }
    match entity.get(IP) {
        None if entity.is_empty() => Err(ClientQuotaError::NoEntity),
        Some(_) if entity.len() > 1 => Err(ClientQuotaError::IpAndOthers),
        Some(Some(ip)) if ip.parse::<IpAddr>().is_err() => {
            Err(ClientQuotaError::InvalidIp(ip.to_string()))
        }
        None | Some(_) => Ok(entity),
    }
}

fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), ClientQuotaError> {
    let invalid = || ClientQuotaError::InvalidKey(key.to_owned());
    let known = QuotaKey::from_name(key).ok_or_else(invalid)?;
    if (known == QuotaKey::ConnectionCreationRate) != entity.contains_key(IP) {
        return Err(invalid());
    }
    // Not a number is not greater than 0 either.
    if value.is_nan() || value <= 0.0 {
        return Err(ClientQuotaError::NotPositive(key.to_owned()));
    }
    let (max, kind) = match known {
        QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate => (i64::MAX as f64, "a LONG"),
        QuotaKey::ConnectionCreationRate => (f64::from(i32::MAX), "an INT"),
        QuotaKey::RequestPercentage | QuotaKey::ControllerMutationRate => return Ok(()),
    };
    if value > max {
        return Err(ClientQuotaError::TooLarge { key: key.to_owned(), kind });
    }
    // Kafka's tolerance.
    if value.fract() > 1e-6 {
        return Err(ClientQuotaError::Fractional(key.to_owned()));
    }
    Ok(())
}
