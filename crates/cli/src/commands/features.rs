//! `ottla features` (KIP-584).

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{FeatureUpdate, FeatureUpgrade};
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::output::Format;
use super::session::{self, Session, explain, explained};

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List the features that brokers know, and the level that the cluster has.
    List,
    /// Change the level of a feature.
    Set {
        /// The feature.
        feature: String,
        /// The level; 0 switches it off.
        #[arg(value_parser = clap::value_parser!(i16).range(0..))]
        level: i16,
        /// Go down even if metadata is lost by it.
        #[arg(long)]
        unsafe_downgrade: bool,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| match &options.task {
        Task::List => list(&session, options.format).await,
        Task::Set { feature, level, unsafe_downgrade, confirmation } => {
            let features = session.admin.describe_features().await.map_err(explained)?;
            let now = features.get(feature).map_or(0, |levels| levels.finalized);
            let upgrade = match (*level < now, *unsafe_downgrade) {
                (false, _) => FeatureUpgrade::Upgrade,
                (true, false) => FeatureUpgrade::SafeDowngrade,
                (true, true) => FeatureUpgrade::UnsafeDowngrade,
            };
            if *level < now {
                confirmation.ask(&format!("take {feature} down from level {now} to {level}"))?;
            }
            let update = FeatureUpdate { level: *level, upgrade };
            let updates = BTreeMap::from([(feature.clone(), update)]);
            let answers = session.admin.update_features(&updates, false).await;
            let failed = |error| explain(&format!("{feature} is as it was"), &error);
            for answer in answers.map_err(failed)?.into_values() {
                answer.map_err(failed)?;
            }
            let object = json!({ "feature": feature, "finalized": level, "before": now });
            options.format.object(&object, &format!("{feature} has level {level}"))
        }
    })
}

async fn list(session: &Session, format: Format) -> Result<()> {
    let features = session.admin.describe_features().await.map_err(explained)?;
    let rows: Vec<Value> = features
        .iter()
        .map(|(name, levels)| {
            json!({
                "feature": name, "finalized": levels.finalized,
                "min_supported": levels.min_supported, "max_supported": levels.max_supported,
            })
        })
        .collect();
    let columns = [
        ("FEATURE", "feature"),
        ("LEVEL", "finalized"),
        ("SUPPORTED FROM", "min_supported"),
        ("TO", "max_supported"),
    ];
    format.rows(&columns, &rows)
}
