//! `kafka-features`.

use std::collections::BTreeMap;

use ottla_client::{Admin, FeatureUpdate, FeatureUpgrade};
use ottla_protocol::messages::ApiVersionsRequest;
use ottla_protocol::{StrBytes, message};

use super::options::{COMMAND_CONFIG, CONTROLLERS, Grammar, Options, SERVERS, flag, value};
use super::{Outcome, Stop, java, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool manages feature flags in Kafka.",
    known: &[
        SERVERS,
        CONTROLLERS,
        COMMAND_CONFIG,
        value(
            &["feature"],
            "feature=level",
            "upgrade, downgrade: the level it is to have; disable: the feature.",
        ),
        value(
            &["metadata"],
            "release",
            "Deprecated: the release whose metadata.version is to be had, as 4.0-IV3.",
        ),
        flag(&["unsafe"], "downgrade, disable: even if metadata is lost."),
        flag(&["dry-run"], "Have the cluster check it, and do nothing."),
    ],
};

/// The feature whose levels have the names of releases.
const METADATA: &str = "metadata.version";
/// These names, from level 7 on.
const RELEASES: [&str; 24] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
    "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
    "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];
const FIRST_LEVEL: i16 = 7;

pub(super) fn run(arguments: &[String]) -> Outcome {
    let wrong =
        |why: &str| Stop::failed(format!("Command line error: {why}. Type --help for help."));
    let options = GRAMMAR.parse(arguments).map_err(|stop| wrong(&stop.said))?;
    if options.has("help") {
        return options.help_or_version();
    }
    let servers = options.value("bootstrap-server")?;
    let controllers = options.value("bootstrap-controller")?;
    if servers.is_some() && controllers.is_some() {
        return Err(wrong("give --bootstrap-server or --bootstrap-controller"));
    }
    let command = match options.words()[..] {
        [command @ ("describe" | "upgrade" | "downgrade" | "disable")] => command.to_owned(),
        [] => return Err(wrong("too few arguments")),
        [word, ..] => return Err(wrong(&format!("invalid choice: '{word}'"))),
    };
    if servers.or(controllers).is_none() {
        return Err(wrong("You must specify either --bootstrap-controller or --bootstrap-server."));
    }
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        match command.as_str() {
            "describe" => describe(&admin).await,
            command => update(&admin, &options, command).await,
        }
    })
}

/// A level, under the name of a release if it has one.
fn level(feature: &str, level: i16) -> String {
    if feature != METADATA {
        return level.to_string();
    }
    let at = usize::try_from(level - FIRST_LEVEL).ok();
    let release = at.and_then(|at| RELEASES.get(at));
    release.map_or_else(|| format!("UNKNOWN {level}"), |it| (*it).to_owned())
}

async fn describe(admin: &Admin) -> Outcome {
    let request = message!(ApiVersionsRequest {
        client_software_name: StrBytes::from("ottla"),
        client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        node_id: -1,
    });
    let answer = admin.client().any_broker().await?.call(&request).await?;
    let epoch = answer.finalized_features_epoch;
    let epoch = if epoch < 0 { "-".to_owned() } else { epoch.to_string() };
    for (feature, levels) in admin.describe_features().await? {
        let cells = [
            format!("Feature: {feature:<40} "),
            format!("SupportedMinVersion: {:<15} ", level(&feature, levels.min_supported)),
            format!("SupportedMaxVersion: {:<15} ", level(&feature, levels.max_supported)),
            format!("FinalizedVersionLevel: {:<15} ", level(&feature, levels.finalized)),
            format!("Epoch: {epoch}"),
        ];
        say(cells.join(" "))?;
    }
    Ok(())
}

async fn update(admin: &Admin, options: &Options, command: &str) -> Outcome {
    let upgrade = match (command, options.has("unsafe")) {
        ("upgrade", _) => FeatureUpgrade::Upgrade,
        (_, false) => FeatureUpgrade::SafeDowngrade,
        (_, true) => FeatureUpgrade::UnsafeDowngrade,
    };
    let mut updates = BTreeMap::new();
    if let Some(release) = options.value("metadata")? {
        say(" `metadata` flag is deprecated and may be removed in a future release.")?;
        let at =
            RELEASES.iter().position(|it| *it == release || it.starts_with(&format!("{release}-")));
        let level = at.and_then(|at| i16::try_from(at).ok()).map(|at| at + FIRST_LEVEL);
        let level = level
            .ok_or_else(|| Stop::failed(format!("Version {release} is not a valid version.")))?;
        updates.insert(METADATA.to_owned(), FeatureUpdate { level, upgrade });
    }
    for text in options.values("feature") {
        let (feature, level) = match text.split_once('=') {
            _ if command == "disable" => (text, 0),
            Some((feature, level)) => (
                feature.trim(),
                level.trim().parse().map_err(|_no_level| {
                    Stop::failed(format!("Can't parse feature=level string {text}: unable to parse {level} as a short."))
                })?,
            ),
            None => {
                return Err(Stop::failed(format!(
                    "Can't parse feature=level string {text}: equals sign not found."
                )));
            }
        };
        if updates.insert(feature.to_owned(), FeatureUpdate { level, upgrade }).is_some() {
            return Err(Stop::failed(format!("Feature {feature} was specified more than once.")));
        }
    }
    if updates.is_empty() {
        return Err(Stop::failed(format!("You must specify at least one feature to {command}")));
    }
    let dry_run = options.has("dry-run");
    let answers = match admin.update_features(&updates, dry_run).await {
        Ok(answers) => answers,
        Err(error) => target::all_failed(updates.keys().cloned(), &error),
    };
    let mut failures = 0;
    for (feature, answer) in &answers {
        let level = updates.get(feature).map_or(0, |update| update.level);
        let is_off = command == "disable";
        match answer {
            Ok(()) => {
                let verb = if dry_run { "can be" } else { "was" };
                let what =
                    if is_off { "disabled.".to_owned() } else { format!("{command}d to {level}.") };
                say(format!("{feature} {verb} {what}"))?;
            }
            Err(error) => {
                failures += 1;
                let helper = if dry_run { "Can not" } else { "Could not" };
                let to = if is_off { String::new() } else { format!(" to {level}") };
                say(format!("{helper} {command} {feature}{to}. {}", java::message(error)))?;
            }
        }
    }
    if failures == 0 {
        return Ok(());
    }
    let verb = if dry_run { "can't be" } else { "weren't" };
    Err(Stop::failed(format!("{failures} out of {} operation(s) {verb} done", answers.len())))
}
