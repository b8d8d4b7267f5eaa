//! `ottla quota` (KIP-546).

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use ottla_client::{QuotaEntity, QuotaFilter, QuotaMatch};
use serde_json::{Value, json};

use super::key_and_value;
use super::output::Format;
use super::session::{self, Session, explain};
use crate::failure::Failure;

/// The keys there are, each with what it limits.
const KEYS: [(&str, &str); 5] = [
    ("producer_byte_rate", "bytes per second that are produced"),
    ("consumer_byte_rate", "bytes per second that are fetched"),
    ("request_percentage", "per cent of one processor"),
    ("controller_mutation_rate", "partitions per second that are made or deleted"),
    ("connection_creation_rate", "connections per second, of an IP address"),
];

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List the quotas that are set.
    List(Entity),
    /// Set quotas: producer_byte_rate, consumer_byte_rate, request_percentage,
    /// controller_mutation_rate, connection_creation_rate.
    Set {
        #[command(flatten)]
        entity: Entity,
        /// Keys and values.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
        values: Vec<(String, String)>,
    },
    /// Take quotas away.
    Unset {
        #[command(flatten)]
        entity: Entity,
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

/// Whom a quota holds.
#[derive(Args)]
pub(crate) struct Entity {
    /// A user; `default` for all that have none of their own.
    #[arg(long)]
    user: Option<String>,
    /// A client, by its client.id; `default` for all that have none of their own.
    #[arg(long)]
    client_id: Option<String>,
    /// An IP address; `default` for all that have none of their own.
    #[arg(long, conflicts_with_all = ["user", "client_id"])]
    ip: Option<String>,
}

impl Entity {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parts = [("user", &self.user), ("client-id", &self.client_id), ("ip", &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }

    fn filter(&self) -> QuotaFilter {
        let components = self.parts().map(|(kind, name)| {
            let wanted = match name {
                "default" => QuotaMatch::Default,
                name => QuotaMatch::Name(name.to_owned()),
            };
            (kind.to_owned(), wanted)
        });
        QuotaFilter { components: components.collect(), strict: false }
    }

    fn entity(&self) -> Result<QuotaEntity> {
        let parts = self
            .parts()
            .map(|(kind, name)| (kind.to_owned(), (name != "default").then(|| name.to_owned())));
        let entity: QuotaEntity = parts.collect();
        if entity.is_empty() {
            return Err(Failure {
                what: "nothing was changed".to_owned(),
                why: "it is not said whom the quota holds".to_owned(),
                next:
                    "add --user NAME, --client-id NAME or --ip ADDRESS; `default` means all others"
                        .to_owned(),
            }
            .into());
        }
        Ok(entity)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let changes = match &options.task {
        Task::List(_) => None,
        Task::Set { entity, values } => Some((entity.entity()?, sets(values)?)),
        Task::Unset { entity, keys } => {
            let keys = keys.iter().map(|key| known(key).map(|key| (key, None)));
            Some((entity.entity()?, keys.collect::<Result<_>>()?))
        }
    };
    session::with(&options.target, async |session| match (&options.task, changes) {
        (Task::List(entity), _) => list(&session, options.format, &entity.filter()).await,
        (Task::Set { .. } | Task::Unset { .. }, Some((entity, values))) => {
            apply(&session, options.format, entity, values).await
        }
        (Task::Set { .. } | Task::Unset { .. }, None) => Ok(()),
    })
}

fn sets(values: &[(String, String)]) -> Result<BTreeMap<String, Option<f64>>> {
    let value = |(key, value): &(String, String)| {
        let number = value.parse::<f64>().ok().filter(|it| it.is_finite() && *it > 0.0);
        let number = number.ok_or_else(|| Failure {
            what: format!("{key}={value} is not possible"),
            why: "a quota is a number above 0".to_owned(),
            next: format!(
                "give {key}=1048576, for example, or take it away with ottla quota unset"
            ),
        })?;
        Ok((known(key)?, Some(number)))
    };
    values.iter().map(value).collect()
}

fn known(key: &str) -> Result<String> {
    if KEYS.iter().any(|(name, _)| *name == key) {
        return Ok(key.to_owned());
    }
    let nearest = session::nearest(key, KEYS.iter().map(|(name, _)| *name));
    let all: Vec<String> = KEYS.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    Err(Failure {
        what: format!("there is no quota {key}"),
        why: nearest.map_or_else(|| all.join("\n"), |nearest| format!("did you mean {nearest}?")),
        next: "name one of these".to_owned(),
    }
    .into())
}

async fn list(session: &Session, format: Format, filter: &QuotaFilter) -> Result<()> {
    let quotas = session.admin.describe_client_quotas(filter).await;
    let quotas = quotas.map_err(|error| explain("the quotas are not shown", &error))?;
    let mut rows: Vec<Value> = Vec::new();
    for (entity, values) in &quotas {
        rows.extend(values.iter().map(|(key, value)| row(entity, key, Some(*value))));
    }
    let columns = [
        ("USER", "user"),
        ("CLIENT ID", "client_id"),
        ("IP", "ip"),
        ("QUOTA", "quota"),
        ("VALUE", "value"),
    ];
    let nothing = "no quotas are set; ottla quota set --client-id NAME KEY=VALUE sets one";
    format.rows_or(&columns, &rows, nothing)
}

fn row(entity: &QuotaEntity, key: &str, value: Option<f64>) -> Value {
    let name = |kind: &str| {
        entity.get(kind).map(|name| name.clone().unwrap_or_else(|| "default".to_owned()))
    };
    json!({
        "user": name("user"), "client_id": name("client-id"), "ip": name("ip"),
        "quota": key, "value": value,
    })
}

async fn apply(
    session: &Session,
    format: Format,
    entity: QuotaEntity,
    values: BTreeMap<String, Option<f64>>,
) -> Result<()> {
    let changes = BTreeMap::from([(entity.clone(), values.clone())]);
    let answers = session.admin.alter_client_quotas(&changes, false).await;
    let failed = |error| explain("the quotas are as they were", &error);
    for answer in answers.map_err(failed)?.into_values() {
        answer.map_err(failed)?;
    }
    for (key, value) in values {
        let text = match value {
            Some(value) => format!("{key}={value}"),
            None => format!("{key} is not set"),
        };
        format.object(&row(&entity, &key, value), &text)?;
    }
    Ok(())
}
