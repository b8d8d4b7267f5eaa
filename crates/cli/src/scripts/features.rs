//! `kafka-features`.

mod releases;

use std::collections::BTreeMap;

use ottla_client::{Admin, FeatureUpdate, FeatureUpgrade};
use ottla_protocol::messages::ApiVersionsRequest;
use ottla_protocol::{BrokerId, StrBytes, message};

use self::releases::{FEATURES, METADATA, latest, level_of, name_of};
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
            "upgrade, downgrade: the level it is to have; disable: the feature; feature-dependencies: the level to look up.",
        ),
        value(
            &["metadata"],
            "release",
            "Deprecated: the release whose metadata.version is to be had, as 4.0-IV3.",
        ),
        value(
            &["release-version"],
            "release",
            "upgrade, downgrade: the release whose levels all features are to have; version-mapping: the release to look up.",
        ),
        value(&["node-id"], "id", "describe: the broker to ask."),
        flag(&["unsafe"], "downgrade, disable: even if metadata is lost."),
        flag(&["dry-run"], "Have the cluster check it, and do nothing."),
    ],
};

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
        ["version-mapping"] => return version_mapping(&options),
        ["feature-dependencies"] => {
            if !options.has("feature") {
                return Err(wrong("argument --feature is required"));
            }
            return dependencies(&options);
        }
        [] => return Err(wrong("too few arguments")),
        [word, ..] => return Err(wrong(&format!("invalid choice: '{word}'"))),
    };
    if servers.or(controllers).is_none() {
        return Err(wrong("You must specify either --bootstrap-controller or --bootstrap-server."));
    }
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        match command.as_str() {
            "describe" => describe(&admin, &options).await,
            command => update(&admin, &options, command).await,
        }
    })
}

/// A level, under the name of a release if it has one.
fn level(feature: &str, level: i16) -> String {
    if feature != METADATA {
        return level.to_string();
    }
    name_of(level).map_or_else(|| format!("UNKNOWN {level}"), ToOwned::to_owned)
}

/// Says which levels belong to a release.
fn version_mapping(options: &Options) -> Outcome {
    let release = options.value("release-version")?.unwrap_or(latest());
    let metadata = level_of(release)?;
    say(format!("{METADATA}={metadata} ({release})"))?;
    FEATURES
        .iter()
        .try_for_each(|feature| say(format!("{}={}", feature.name, feature.level_at(metadata))))
}

/// Says what levels need of other features.
fn dependencies(options: &Options) -> Outcome {
    for text in options.values("feature") {
        let (name, level) = name_and_level(text)?;
        if name == METADATA {
            let release = name_of(level)
                .ok_or_else(|| Stop::failed(format!("Unknown {METADATA} {level}")))?;
            say(format!("{name}={level} ({release}) has no dependencies."))?;
            continue;
        }
        let feature = FEATURES.iter().find(|feature| feature.name == name);
        let feature = feature.ok_or_else(|| Stop::failed(format!("Unknown feature: {name}")))?;
        match feature.needs(level)? {
            None => say(format!("{name}={level} has no dependencies."))?,
            Some(needed) => {
                let release = name_of(needed).unwrap_or_default();
                say(format!("{name}={level} requires:\n    {METADATA}={needed} ({release})"))?;
            }
        }
    }
    Ok(())
}

fn name_and_level(text: &str) -> Outcome<(&str, i16)> {
    let wrong = |why: &str| Stop::failed(format!("Can't parse feature=level string {text}: {why}"));
    let (name, level) = text.split_once('=').ok_or_else(|| wrong("equals sign not found."))?;
    let level = level.trim();
    let level = level
        .parse()
        .map_err(|_no_level| wrong(&format!("unable to parse {level} as a short.")))?;
    Ok((name.trim(), level))
}

async fn describe(admin: &Admin, options: &Options) -> Outcome {
    let request = message!(ApiVersionsRequest {
        client_software_name: StrBytes::from("ottla"),
        client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        node_id: -1,
    });
    let broker = match options.number("node-id")? {
        Some(id @ ..0) => {
            return Err(Stop::failed(format!("Invalid node id {id}: must be non-negative.")));
        }
        Some(id) => admin.client().broker(BrokerId(id)).await?,
        None => admin.client().any_broker().await?,
    };
    let answer = broker.call(&request).await?;
    let epoch = answer.finalized_features_epoch;
    let epoch = if epoch < 0 { "-".to_owned() } else { epoch.to_string() };
    let finalized: BTreeMap<&str, i16> =
        answer.finalized_features.iter().map(|it| (&*it.name, it.max_version_level)).collect();
    let mut supported: Vec<_> = answer.supported_features.iter().collect();
    supported.sort_by_key(|feature| &*feature.name);
    for row in supported {
        let feature = &*row.name;
        let now = finalized.get(feature).copied().unwrap_or_default();
        let cells = [
            format!("Feature: {feature:<40} "),
            format!("SupportedMinVersion: {:<15} ", level(feature, row.min_version)),
            format!("SupportedMaxVersion: {:<15} ", level(feature, row.max_version)),
            format!("FinalizedVersionLevel: {:<15} ", level(feature, now)),
            format!("Epoch: {epoch}"),
        ];
        say(cells.join(" "))?;
    }
    Ok(())
}

/// The levels that features are to have.
fn updates(
    options: &Options,
    command: &str,
    upgrade: FeatureUpgrade,
) -> Outcome<BTreeMap<String, FeatureUpdate>> {
    let to = |level| FeatureUpdate { level, upgrade };
    let mut updates = BTreeMap::new();
    let metadata = options.value("metadata")?;
    if let Some(release) = options.value("release-version")? {
        if metadata.is_some() || options.has("feature") {
            return Err(Stop::failed(
                "Can not specify `release-version` with other feature flags.",
            ));
        }
        let metadata = level_of(release)?;
        updates.insert(METADATA.to_owned(), to(metadata));
        // Nothing is upgraded to level 0.
        let levels = FEATURES.iter().map(|feature| (feature.name, feature.level_at(metadata)));
        let levels = levels.filter(|(_, level)| command != "upgrade" || *level > 0);
        updates.extend(levels.map(|(name, level)| (name.to_owned(), to(level))));
        return Ok(updates);
    }
    if let Some(release) = metadata {
        say(" `metadata` flag is deprecated and may be removed in a future release.")?;
        updates.insert(METADATA.to_owned(), to(level_of(release)?));
    }
    for text in options.values("feature") {
        let (feature, level) = if command == "disable" { (text, 0) } else { name_and_level(text)? };
        if updates.insert(feature.to_owned(), to(level)).is_some() {
            return Err(Stop::failed(format!("Feature {feature} was specified more than once.")));
        }
    }
    Ok(updates)
}

async fn update(admin: &Admin, options: &Options, command: &str) -> Outcome {
    let upgrade = match (command, options.has("unsafe")) {
        ("upgrade", _) => FeatureUpgrade::Upgrade,
        (_, false) => FeatureUpgrade::SafeDowngrade,
        (_, true) => FeatureUpgrade::UnsafeDowngrade,
    };
    let updates = updates(options, command, upgrade)?;
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
