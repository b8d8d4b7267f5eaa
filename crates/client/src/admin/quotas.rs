//! Client quotas (KIP-546).

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use ottla_protocol::messages::describe_client_quotas_request::ComponentData;
use ottla_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest};
use ottla_protocol::{StrBytes, message};

use super::routing::{checked, complete};
use super::{Admin, Answers};
use crate::ClientError;

/// Whom a quota holds: the name of each type, `None` for the default of the type.
///
/// Types are `user`, `client-id` and `ip`; `user` and `client-id` may stand together.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Which names of a type are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// This one.
    Name(String),
    /// The default.
    Default,
    /// Any that is set, the default too.
    Any,
}

/// Which entities are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// By type.
    pub components: BTreeMap<String, QuotaMatch>,
    /// Whether entities of further types are left out.
    pub strict: bool,
}

impl Admin {
    /// The quotas that are set, by entity and key.
    pub async fn describe_client_quotas(
        &self,
        filter: &QuotaFilter,
    ) -> Result<BTreeMap<QuotaEntity, BTreeMap<String, f64>>, ClientError> {
        let components = filter.components.iter().map(|(kind, wanted)| {
            let (match_type, name) = match wanted {
                QuotaMatch::Name(name) => (0, Some(StrBytes::from(name.as_str()))),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            message!(ComponentData {
                entity_type: StrBytes::from(kind.as_str()),
                match_type: match_type,
                match_: name,
            })
        });
        let request = message!(DescribeClientQuotasRequest {
            components: components.collect(),
            strict: filter.strict,
        });
        let response =
            self.ask_any(&request, |it| checked(it.error_code, it.error_message.clone())).await?;
        let entries = response.entries.unwrap_or_default().into_iter().map(|row| {
            let entity = row.entity.into_iter().map(|it| {
                (it.entity_type.into_string(), it.entity_name.map(StrBytes::into_string))
            });
            let values = row.values.into_iter().map(|it| (it.key.into_string(), it.value));
            (entity.collect(), values.collect())
        });
        Ok(entries.collect())
    }

    /// Sets quotas; `None` takes one away.
    pub async fn alter_client_quotas(
        &self,
        changes: &BTreeMap<QuotaEntity, BTreeMap<String, Option<f64>>>,
        validate_only: bool,
    ) -> Result<Answers<QuotaEntity>, ClientError> {
        let entries = changes.iter().map(|(entity, ops)| {
            let entity = entity.iter().map(|(kind, name)| {
                message!(EntityData {
                    entity_type: StrBytes::from(kind.as_str()),
                    entity_name: name.as_deref().map(StrBytes::from),
                })
            });
            let ops = ops.iter().map(|(key, value)| {
                message!(OpData {
                    key: StrBytes::from(key.as_str()),
                    value: value.unwrap_or(0.0),
                    remove: value.is_none(),
                })
            });
            message!(EntryData { entity: entity.collect(), ops: ops.collect() })
        });
        let request = message!(AlterClientQuotasRequest {
            entries: entries.collect(),
            validate_only: validate_only,
        });
        let response = self.ask_controller(&request, |_| Ok(())).await?;
        let answers = response.entries.into_iter().map(|row| {
            let entity = row.entity.into_iter().map(|it| {
                (it.entity_type.into_string(), it.entity_name.map(StrBytes::into_string))
            });
            (entity.collect(), checked(row.error_code, row.error_message))
        });
        Ok(complete(answers.collect(), changes.keys().cloned()))
    }
}
