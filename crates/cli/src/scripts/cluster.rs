//! `kafka-cluster`.

use ottla_client::{Admin, ClientError, Node};
use ottla_protocol::BrokerId;

use super::options::{COMMAND_CONFIG, CONTROLLERS, Grammar, Options, SERVERS, flag, value};
use super::{Outcome, Stop, padded, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "The Kafka cluster tool.",
    known: &[
        SERVERS,
        CONTROLLERS,
        COMMAND_CONFIG,
        value(&["config", "c"], "file", "A properties file for the admin client."),
        value(&["i", "id"], "id", "unregister: the broker to forget."),
        flag(&["include-fenced-brokers"], "list-endpoints: dead brokers as well."),
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    if options.has("help") {
        return options.help_or_version();
    }
    let servers = options.value("bootstrap-server")?;
    let controllers = options.value("bootstrap-controller")?;
    if servers.is_some() && controllers.is_some() {
        return Err(options.usage(
            "argument --bootstrap-controller/-C: not allowed with argument --bootstrap-server/-b",
        ));
    }
    let command = match options.words()[..] {
        [command @ ("cluster-id" | "unregister" | "list-endpoints")] => command.to_owned(),
        [] => return Err(options.usage("too few arguments")),
        [word, ..] => return Err(options.usage(format!("invalid choice: '{word}'"))),
    };
    if servers.or(controllers).is_none() {
        return Err(options.usage(
            "one of the arguments --bootstrap-server/-b --bootstrap-controller/-C is required",
        ));
    }
    let id = options.number::<i32>("i")?;
    if command == "unregister" && id.is_none() {
        return Err(options.usage("argument --id/-i is required"));
    }
    if options.has("include-fenced-brokers") && controllers.is_some() {
        return Err(Stop::failed(
            "The option --include-fenced-brokers is only supported with --bootstrap-server option",
        ));
    }
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        match (command.as_str(), id) {
            ("cluster-id", _) => {
                let cluster = admin.describe_cluster(false).await?.cluster_id;
                say(format!("Cluster ID: {cluster}"))
            }
            ("unregister", Some(id)) => unregister(&admin, id).await,
            _ => list_endpoints(&admin, &options).await,
        }
    })
}

async fn unregister(admin: &Admin, id: i32) -> Outcome {
    match admin.unregister_broker(BrokerId(id)).await {
        Ok(()) => say(format!("Broker {id} is no longer registered.")),
        Err(ClientError::NoCommonVersion { .. }) => {
            say("The target cluster does not support the broker unregistration API.")
        }
        Err(error) => Err(error.into()),
    }
}

async fn list_endpoints(admin: &Admin, options: &Options) -> Outcome {
    let is_of_controllers = options.has("bootstrap-controller");
    let cluster = admin.describe_cluster(options.has("include-fenced-brokers")).await?;
    let rack = |node: &Node| node.rack.clone().unwrap_or_else(|| "null".to_owned());
    let longest = |texts: Vec<usize>, none: usize| texts.into_iter().max().unwrap_or(none);
    let host = longest(cluster.brokers.iter().map(|node| node.host.len()).collect(), 100);
    let racks = cluster.brokers.iter().filter_map(|node| node.rack.as_ref()).map(String::len);
    let widths = [10, host, 10, longest(racks.collect(), 10)];
    let line = |mut cells: Vec<String>, state: &str, kind: &str| {
        let mut widths = widths.to_vec();
        if !is_of_controllers {
            widths.push(10);
            cells.push(state.to_owned());
        }
        widths.push(15);
        cells.push(kind.to_owned());
        say(padded::row(&widths, &cells))
    };
    let titles = ["ID", "HOST", "PORT", "RACK"].map(str::to_owned);
    line(titles.to_vec(), "STATE", "ENDPOINT_TYPE")?;
    let kind = if is_of_controllers { "controller" } else { "broker" };
    cluster.brokers.iter().try_for_each(|node| {
        let cells = vec![node.id.to_string(), node.host.clone(), node.port.to_string(), rack(node)];
        line(cells, if node.is_fenced { "fenced" } else { "unfenced" }, kind)
    })
}
