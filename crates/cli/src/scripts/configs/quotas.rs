//! Quotas of users, clients and addresses.

use std::collections::BTreeMap;

use ottla_client::{Admin, QuotaEntity, QuotaFilter, QuotaMatch};

use super::Changes;
use super::entities::Entities;
use crate::scripts::{Outcome, Stop, java, say, target};

/// Keys for users and clients.
const KEYS: [&str; 4] =
    ["producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"];
/// The key for addresses.
const IP_KEY: &str = "connection_creation_rate";
/// Types as the protocol names them, and as the script names one.
const TYPES: [(&str, &str); 3] =
    [("user", "user-principal"), ("client-id", "client-id"), ("ip", "ip")];

fn type_of(kind: &str) -> &'static str {
    match kind {
        "users" => "user",
        "clients" => "client-id",
        _ => "ip",
    }
}

pub(super) async fn describe(admin: &Admin, entities: &Entities) -> Outcome {
    for (entity, values) in find(admin, entities).await? {
        let names = TYPES.iter().filter_map(|(kind, title)| {
            Some(match entity.get(*kind)? {
                Some(name) => format!("{title} '{name}'"),
                None => format!("the default {title}"),
            })
        });
        let names = names.collect::<Vec<_>>().join(", ");
        let mut values: Vec<(String, f64)> = values.into_iter().collect();
        java::order_by_hash(&mut values, java::CAPACITY, |(key, _)| java::hash_of(key));
        let values: Vec<String> =
            values.iter().map(|(key, value)| format!("{key}={}", java::double(*value))).collect();
        say(format!("Quota configs for {names} are {}", values.join(", ")))?;
    }
    Ok(())
}

async fn find(
    admin: &Admin,
    entities: &Entities,
) -> Outcome<BTreeMap<QuotaEntity, BTreeMap<String, f64>>> {
    if entities.names.len() > entities.kinds.len() {
        return Err(Stop::failed("More entity names specified than entity types"));
    }
    let mut names = entities.names.iter();
    let components = entities.kinds.iter().map(|kind| {
        let wanted = match names.next() {
            Some(name) if name.is_empty() => QuotaMatch::Default,
            Some(name) => QuotaMatch::Name(name.clone()),
            None => QuotaMatch::Any,
        };
        (type_of(kind).to_owned(), wanted)
    });
    let filter = QuotaFilter { components: components.collect(), strict: true };
    Ok(admin.describe_client_quotas(&filter).await?)
}

pub(super) async fn alter(admin: &Admin, entities: &Entities, changes: &Changes) -> Outcome {
    check_keys(entities, changes)?;
    let now = find(admin, entities).await?.into_values().next().unwrap_or_default();
    let unset = changes.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str());
    let missing: Vec<&str> = unset.filter(|key| !now.contains_key(*key)).collect();
    if !missing.is_empty() {
        return Err(Stop::failed(format!("Invalid config(s): {}", missing.join(","))));
    }
    let mut values: BTreeMap<String, Option<f64>> = BTreeMap::new();
    for (key, value) in changes {
        let number = value.as_ref().map(|value| {
            value.parse().map_err(|_no_number| {
                Stop::failed(format!("Cannot parse quota configuration value for {key}: {value}"))
            })
        });
        values.insert(key.clone(), number.transpose()?);
    }
    let names = entities.names.iter().map(|name| Some(name.clone()).filter(|it| !it.is_empty()));
    let entity: QuotaEntity =
        entities.kinds.iter().map(|kind| type_of(kind).to_owned()).zip(names).collect();
    let changes = BTreeMap::from([(entity, values)]);
    Ok(target::all_done(admin.alter_client_quotas(&changes, false).await?)?)
}

fn check_keys(entities: &Entities, changes: &Changes) -> Outcome {
    let is_ip = entities.kind() == "ips";
    let is_known = |key: &str| if is_ip { key == IP_KEY } else { KEYS.contains(&key) };
    let unknown = |is_set: bool| -> Vec<&str> {
        let changes = changes.iter().filter(|(_, value)| value.is_some() == is_set);
        changes.map(|(key, _)| key.as_str()).filter(|key| !is_known(key)).collect()
    };
    let (added, removed) = (unknown(true), unknown(false));
    if is_ip {
        let unknown: Vec<&str> = added.into_iter().chain(removed).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        return Err(Stop::failed(format!(
            "Only connection quota configs can be added for 'ips' using --bootstrap-server. Unexpected config names: {}",
            unknown.join(",")
        )));
    }
    let (kind, what) = if entities.kind() == "clients" || entities.kinds.len() == 2 {
        ("clients", "quota configs")
    } else {
        ("users", "quota and SCRAM credential configs")
    };
    for (verb, unknown) in [("added", added), ("deleted", removed)] {
        if !unknown.is_empty() {
            return Err(Stop::failed(format!(
                "Only {what} can be {verb} for '{kind}' using --bootstrap-server. Unexpected config names: {}",
                unknown.join(", ")
            )));
        }
    }
    Ok(())
}
