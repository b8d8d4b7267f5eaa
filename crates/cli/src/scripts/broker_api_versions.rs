//! `kafka-broker-api-versions`.

use ottla_protocol::ApiKey;

use super::options::{COMMAND_CONFIG, Grammar, REQUIRED_SERVERS};
use super::{Outcome, java, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to retrieve broker version information.",
    known: &[REQUIRED_SERVERS, COMMAND_CONFIG],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["bootstrap-server"])?;
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        for broker in admin.describe_cluster(false).await?.brokers {
            let node = format!(
                "{}:{} (id: {} rack: {} isFenced: {})",
                broker.host,
                broker.port,
                broker.id.0,
                broker.rack.as_deref().unwrap_or("null"),
                broker.is_fenced
            );
            let served = match admin.api_versions(broker.id).await {
                Ok(served) => served,
                Err(error) => {
                    say(format!("{node} -> ERROR: {}", java::exception(&error)))?;
                    continue;
                }
            };
            let rows = ApiKey::ALL.iter().filter_map(|api| {
                let title = format!("{}({})", api.name(), *api as i16);
                let Some(broker) = served.get(api) else {
                    return is_for_clients(*api).then(|| format!("{title}: UNSUPPORTED"));
                };
                let range = if broker.min == broker.max {
                    broker.max.to_string()
                } else {
                    format!("{} to {}", broker.min, broker.max)
                };
                let usable = match api.served_versions() {
                    Some(own) if own.max < broker.min => "unusable: node too new".to_owned(),
                    Some(own) if broker.max < own.min => "unusable: node too old".to_owned(),
                    Some(own) => format!("usable: {}", own.max.min(broker.max)),
                    None => format!("usable: {}", broker.max),
                };
                Some(format!("{title}: {range} [{usable}]"))
            });
            let rows: Vec<String> = rows.collect();
            say(format!("{node} -> (\n\t{}\n)", rows.join(",\n\t")))?;
        }
        Ok(())
    })
}

/// The newest API that the release of Kafka knows whose script this follows.
const NEWEST: ApiKey = ApiKey::DeleteShareGroupOffsets;

/// Whether clients send it; the others are for brokers and controllers among themselves.
fn is_for_clients(api: ApiKey) -> bool {
    api <= NEWEST
        && !matches!(
            api,
            ApiKey::Vote
                | ApiKey::BeginQuorumEpoch
                | ApiKey::EndQuorumEpoch
                | ApiKey::FetchSnapshot
                | ApiKey::AlterPartition
                | ApiKey::Envelope
                | ApiKey::BrokerRegistration
                | ApiKey::BrokerHeartbeat
                | ApiKey::ControllerRegistration
                | ApiKey::AssignReplicasToDirs
                | ApiKey::AllocateProducerIds
                | ApiKey::UpdateRaftVoter
        )
}
