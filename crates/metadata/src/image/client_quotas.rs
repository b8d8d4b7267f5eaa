//! Client quotas (KIP-546). Kafka: `ClientQuotasImage`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MetadataImage;
use crate::record::{ClientQuotaRecord, MetadataRecord, QuotaEntityPart, QuotaValue};

/// What a quota is for: names by type (`user`, `client-id`, `ip`); no name is the default of that type.
pub type QuotaEntity = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// The quotas of one entity, by key.
pub type ClientQuotas = BTreeMap<Arc<str>, QuotaValue>;

impl MetadataImage {
    /// Every entity with quotas of its own.
    pub fn client_quotas(
        &self,
    ) -> impl ExactSizeIterator<Item = (&QuotaEntity, &Arc<ClientQuotas>)> {
        self.client_quotas.iter()
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
            quotas.iter().map(|(key, value)| {
                let parts = entity.iter().map(|(entity_type, entity_name)| QuotaEntityPart {
                    entity_type: entity_type.clone(),
                    entity_name: entity_name.clone(),
                });
                ClientQuotaRecord {
                    entity: parts.collect(),
                    key: key.clone(),
                    value: *value,
                    remove: false,
                }
                .into()
            })
        })
    }
}
