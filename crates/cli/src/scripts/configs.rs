//! `kafka-configs`.

mod entities;
mod quotas;
mod resources;

use super::options::{COMMAND_CONFIG, Grammar, Options, flag, list, value};
use super::{Outcome, Stop, target};

use entities::Entities;

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics or group",
    known: &[
        value(&["bootstrap-server"], "server", "A node of the cluster, HOST:PORT."),
        value(
            &["bootstrap-controller"],
            "controller",
            "A controller; Ottla's nodes answer for it at --bootstrap-server.",
        ),
        COMMAND_CONFIG,
        flag(&["alter"], "Change what is set."),
        flag(&["describe"], "Show what is set."),
        flag(&["all"], "With --describe: every key, defaults too."),
        value(
            &["entity-type"],
            "type",
            "topics, clients, users, brokers, broker-loggers, ips, client-metrics or groups.",
        ),
        value(&["entity-name"], "name", "The topic, client, user, broker id, address or group."),
        flag(&["entity-default"], "The default of clients, users, brokers or ips."),
        value(
            &["add-config"],
            "k1=v1,k2=[v1,v2]",
            "Keys to set; brackets hold values with commas together.",
        ),
        value(&["add-config-file"], "file", "A properties file with keys to set."),
        list(&["delete-config"], "k1,k2", "Keys that go back to their defaults."),
        value(&["topic"], "topic", "A topic."),
        value(&["client"], "client", "A client id."),
        flag(&["client-defaults"], "The default of all clients."),
        value(&["user"], "user", "A user."),
        flag(&["user-defaults"], "The default of all users."),
        value(&["broker"], "broker", "A broker's id."),
        flag(&["broker-defaults"], "The default of all brokers."),
        value(&["broker-logger"], "broker", "A broker's id, for its loggers."),
        flag(&["ip-defaults"], "The default of all addresses."),
        value(&["ip"], "ip", "An address."),
        value(&["group"], "group", "A group."),
        value(&["client-metrics"], "name", "A subscription to client metrics."),
    ],
};

/// Keys with the values they are to have; first those that go back to their defaults, which have none.
type Changes = Vec<(String, Option<String>)>;

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    let entities = check(&options)?;
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        if options.has("describe") {
            if entities.are_quotas() {
                return quotas::describe(&admin, &entities).await;
            }
            return resources::describe(&admin, &entities, options.has("all")).await;
        }
        if entities.kinds.len() != entities.names.len() {
            return Err(Stop::failed("An entity name must be specified for every entity type"));
        }
        let set = to_set(&options, target::properties(&env, options.value("add-config-file")?)?)?;
        let unset =
            options.values("delete-config").into_iter().map(|key| (key.trim().to_owned(), None));
        let changes = unset.chain(set.into_iter().map(|(key, value)| (key, Some(value)))).collect();
        if entities.are_quotas() {
            quotas::alter(&admin, &entities, &changes).await?;
        } else {
            resources::alter(&admin, &entities, changes).await?;
        }
        entities.say_updated()
    })
}

fn check(options: &Options) -> Outcome<Entities> {
    if options.has("alter") == options.has("describe") {
        return Err(options.usage("Command must include exactly one action: --describe, --alter"));
    }
    options.exclude("describe", &["alter", "add-config", "delete-config"])?;
    let entities = Entities::read(options)?;
    if options.has("alter") {
        if options.has("add-config") && options.has("add-config-file") {
            return Err(Stop::failed(
                "Only one of --add-config or --add-config-file must be specified",
            ));
        }
        if options.count(&["add-config", "add-config-file", "delete-config"]) == 0 {
            return Err(Stop::failed(
                "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
            ));
        }
    }
    Ok(entities)
}

/// The keys to set, from the file and from the command line.
fn to_set(options: &Options, file: Vec<(String, String)>) -> Outcome<Vec<(String, String)>> {
    let mut pairs = file;
    for text in options.value("add-config")?.map(split).unwrap_or_default() {
        let cells: Vec<&str> = text.split('=').collect();
        let (Some(key), true) = (cells.first(), cells.len() == 2 || text.contains("=[")) else {
            return Err(Stop::failed(
                "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\" or  \"key=[val1,val2]\" to group values which contain commas.",
            ));
        };
        let value = text[key.len() + 1..].replace(['[', ']'], "");
        pairs.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    let is_wrong =
        |letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '$' | '.' | '_' | '-'));
    match pairs.iter().find(|(key, _)| key.contains(is_wrong)) {
        Some((key, _)) => {
            Err(Stop::failed(format!("Invalid character found for config key: {key}")))
        }
        None => Ok(pairs),
    }
}

/// At commas that are not in brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(|letter| {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth <= 0
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Outcome<Vec<(String, String)>> {
        let words = ["--add-config".to_owned(), text.to_owned()];
        to_set(&GRAMMAR.parse(&words)?, Vec::new())
    }

    #[test]
    fn brackets_hold_values_with_commas_together() {
        let pairs = set("a=1, b = [x,y],c=").unwrap_or_else(|stop| panic!("{stop:?}"));
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x,y"), ("c", "")]);
        assert!(set("a").is_err() && set("a=b=c").is_err() && set("a b=c").is_err());
    }
}
