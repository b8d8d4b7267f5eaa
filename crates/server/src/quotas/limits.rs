//! Which quota holds whom. Kafka: `ClientQuotaManager.DefaultQuotaCallback` (KIP-55, KIP-546), `ConnectionQuotas`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ottla_metadata::MetadataImage;
use ottla_metadata::image::{CLIENT_ID, ClientQuotas, IP, QuotaEntity, QuotaKey, USER};

use super::ClientName;

/// Something for some by name, and for all others.
#[derive(Debug, Clone, PartialEq)]
struct ByName<T> {
    named: BTreeMap<Arc<str>, T>,
    default: Option<T>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { named: BTreeMap::new(), default: None }
    }
}

impl<T> ByName<T> {
    fn entry(&mut self, name: Option<&Arc<str>>) -> &mut T
    where
        T: Default,
    {
        match name {
            Some(name) => self.named.entry(Arc::clone(name)).or_default(),
            None => self.default.get_or_insert_default(),
        }
    }
}

/// The limits of one user.
#[derive(Debug, Clone, Default, PartialEq)]
struct UserLimits {
    own: Option<f64>,
    clients: ByName<Option<f64>>,
}

/// The limits of one kind of quota.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Limits {
    users: ByName<UserLimits>,
    clients: ByName<Option<f64>>,
}

/// A limit that holds for a client, and who shares it with him: of a user's limit all his clients, of a client's all
/// users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit<'a> {
    pub(super) per_second: f64,
    pub(super) shared_by: ClientName<'a>,
}

impl Limits {
    /// The first that there is: of user and client, of the user and any client, of the user; of any user and the client,
    /// of any user and any client, of any user; of the client, of any client. A client without a name is held by its
    /// user's limits only, as in Kafka.
    pub(super) fn of<'a>(&self, client: ClientName<'a>) -> Option<Limit<'a>> {
        let named = self.users.named.get(client.user);
        let users = named.into_iter().chain(&self.users.default);
        let mut by_user = users.filter_map(|limits| limits.of(client));
        by_user.next().or_else(|| {
            let shared_by = ClientName { user: "", ..client };
            clients(&self.clients, client).map(|per_second| Limit { per_second, shared_by })
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, entity: &QuotaEntity, limit: f64) {
        let (user, client) = (entity.get(USER), entity.get(CLIENT_ID));
        let name = |part: Option<&Option<Arc<str>>>| part.and_then(Option::clone);
        match (user, client) {
            (Some(_), Some(_)) => {
                let of_user = self.users.entry(name(user).as_ref());
                *of_user.clients.entry(name(client).as_ref()) = Some(limit);
            }
            (Some(_), None) => self.users.entry(name(user).as_ref()).own = Some(limit),
            (None, Some(_)) => *self.clients.entry(name(client).as_ref()) = Some(limit),
            (None, None) => {}
        }
    }
}

impl UserLimits {
    fn of<'a>(&self, client: ClientName<'a>) -> Option<Limit<'a>> {
        let of_both = clients(&self.clients, client);
        let of_both = of_both.map(|per_second| Limit { per_second, shared_by: client });
        let shared_by = ClientName { client_id: "", ..client };
        of_both.or_else(|| self.own.map(|per_second| Limit { per_second, shared_by }))
    }
}

fn clients(limits: &ByName<Option<f64>>, client: ClientName<'_>) -> Option<f64> {
    if client.client_id.is_empty() {
        return None;
    }
    limits.named.get(client.client_id).copied().or(limits.default).flatten()
}

/// Every limit there is.
#[derive(Debug, Default)]
pub(super) struct AllLimits {
    pub(super) producer_byte_rate: Limits,
    pub(super) consumer_byte_rate: Limits,
    pub(super) request_percentage: Limits,
    pub(super) controller_mutation_rate: Limits,
    addresses: BTreeMap<IpAddr, f64>,
    any_address: Option<f64>,
}

impl AllLimits {
    /// What the image says; nothing if it says nothing.
    pub(super) fn of(image: &MetadataImage) -> Option<Arc<Self>> {
        let mut limits = Self::default();
        for (entity, quotas) in image.client_quotas() {
            limits.add(entity, quotas);
        }
        (image.client_quotas().len() > 0).then(|| Arc::new(limits))
    }

    /// How many connections per second an address may open.
    pub(super) fn of_address(&self, address: IpAddr) -> Option<f64> {
        self.addresses.get(&address).copied().or(self.any_address)
    }

    pub(super) fn measures_requests(&self) -> bool {
        !self.request_percentage.is_empty()
    }

    fn add(&mut self, entity: &QuotaEntity, quotas: &ClientQuotas) {
        for (key, value) in quotas.iter() {
            let limit = value.get();
            let limits = match QuotaKey::from_name(key) {
                Some(QuotaKey::ProducerByteRate) => &mut self.producer_byte_rate,
                Some(QuotaKey::ConsumerByteRate) => &mut self.consumer_byte_rate,
                Some(QuotaKey::RequestPercentage) => &mut self.request_percentage,
                Some(QuotaKey::ControllerMutationRate) => &mut self.controller_mutation_rate,
                Some(QuotaKey::ConnectionCreationRate) => {
                    self.add_address(entity, limit);
                    continue;
                }
                // A newer release, or Kafka, wrote it: what it asks for is not known here.
                None => continue,
            };
            limits.set(entity, limit);
        }
    }

    fn add_address(&mut self, entity: &QuotaEntity, limit: f64) {
        match entity.get(IP) {
            Some(None) => self.any_address = Some(limit),
            Some(Some(address)) => {
                // Kafka may have written a host name: addresses are what is compared here.
                if let Ok(address) = address.parse::<IpAddr>() {
                    self.addresses.insert(address.to_canonical(), limit);
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quotas::tests::image_with;

    fn limits(set: &[(&str, f64)]) -> AllLimits {
        let key = |entity: &str| match entity.contains(IP) {
            true => "connection_creation_rate",
            false => "producer_byte_rate",
        };
        let set: Vec<_> =
            set.iter().map(|(entity, value)| (*entity, key(entity), *value)).collect();
        Arc::into_inner(AllLimits::of(&image_with(&set)).unwrap()).unwrap()
    }

    /// Kafka's eight levels, the most particular first; and who shares the limit of user a and client c.
    const LEVELS: [(&str, &str, &str); 8] = [
        ("user=a,client-id=c", "a", "c"),
        ("user=a,client-id=", "a", "c"),
        ("user=a", "a", ""),
        ("user=,client-id=c", "a", "c"),
        ("user=,client-id=", "a", "c"),
        ("user=", "a", ""),
        ("client-id=c", "", "c"),
        ("client-id=", "", "c"),
    ];

    #[test]
    fn the_most_particular_limit_holds() {
        for (first, (_, user, client_id)) in LEVELS.into_iter().enumerate() {
            let numbered = LEVELS.into_iter().enumerate();
            let set: Vec<(&str, f64)> =
                numbered.map(|(at, level)| (level.0, at as f64)).skip(first).collect();
            let all = limits(&set);
            let found = all.producer_byte_rate.of(ClientName { user: "a", client_id: "c" });
            let shared_by = ClientName { user, client_id };
            assert_eq!(found, Some(Limit { per_second: first as f64, shared_by }), "{first}");
        }
    }

    #[test]
    fn the_limits_of_others_do_not_hold() {
        let all = limits(&[("user=b,client-id=c", 1.0), ("user=b", 2.0), ("client-id=d", 3.0)]);
        let limit = |user, client_id| {
            all.producer_byte_rate.of(ClientName { user, client_id }).map(|it| it.per_second)
        };
        assert_eq!(limit("a", "c"), None);
        assert_eq!(limit("b", "e"), Some(2.0));
        assert_eq!(limit("b", "d"), Some(2.0));
        assert_eq!(limit("a", "d"), Some(3.0));
        assert!(all.consumer_byte_rate.of(ClientName { user: "b", client_id: "c" }).is_none());
    }

    #[test]
    fn a_client_without_a_name_is_held_by_the_limits_of_users_only() {
        let all = limits(&[("client-id=", 1.0)]);
        let nameless = ClientName { user: "a", client_id: "" };
        assert_eq!(all.producer_byte_rate.of(nameless), None);
        let all = limits(&[("user=,client-id=", 1.0), ("user=", 2.0)]);
        assert_eq!(all.producer_byte_rate.of(nameless).unwrap().per_second, 2.0);
    }

    #[test]
    fn an_address_has_its_own_limit_or_the_default() {
        let all = limits(&[("ip=::1", 1.0), ("ip=", 2.0), ("ip=::ffff:10.0.0.1", 3.0)]);
        assert_eq!(all.of_address("::1".parse().unwrap()), Some(1.0));
        assert_eq!(all.of_address("127.0.0.1".parse().unwrap()), Some(2.0));
        assert_eq!(all.of_address("10.0.0.1".parse().unwrap()), Some(3.0));
        assert!(!all.measures_requests());
    }
}
