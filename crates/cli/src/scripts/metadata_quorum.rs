//! `kafka-metadata-quorum`.

mod change;

use ottla_client::{Admin, QuorumDescription, QuorumReplica};
use ottla_env::Env;
use ottla_protocol::{TopicId, format_uuid};

use super::options::{COMMAND_CONFIG, CONTROLLERS, Grammar, Options, SERVERS, flag, value};
use super::{Outcome, Stop, padded, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool describes kraft metadata quorum status.",
    known: &[
        SERVERS,
        CONTROLLERS,
        COMMAND_CONFIG,
        flag(&["status"], "describe: a short summary."),
        flag(&["replication"], "describe: how far each replica is."),
        flag(&["human-readable"], "With --replication: times as spans before now."),
        flag(&["dry-run"], "For add-controller and remove-controller."),
        value(&["i", "controller-id"], "id", "For remove-controller."),
        value(&["d", "controller-directory-id"], "id", "For remove-controller."),
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
            "argument --bootstrap-controller: not allowed with argument --bootstrap-server",
        ));
    }
    if servers.or(controllers).is_none() {
        return Err(options
            .usage("one of the arguments --bootstrap-server --bootstrap-controller is required"));
    }
    match options.words()[..] {
        ["describe"] => {}
        ["add-controller"] if !options.has("command-config") => {
            return Err(Stop::failed(
                "You must supply the configuration file of the controller you are adding when using add-controller.",
            ));
        }
        ["remove-controller"] if options.count(&["i", "d"]) < 2 => {
            return Err(options.usage(
                "remove-controller requires --controller-id and --controller-directory-id",
            ));
        }
        ["add-controller" | "remove-controller"] => {}
        [] => return Err(options.usage("too few arguments")),
        [word, ..] => return Err(options.usage(format!("invalid choice: '{word}'"))),
    }
    target::block_on(async |env| {
        let admin = match options.words()[..] {
            // The file is that of the controller, which says nothing of how to connect.
            ["add-controller"] => target::connect_with(&env, &options, Vec::new()).await?,
            _ => target::connect(&env, &options).await?,
        };
        match options.words()[..] {
            ["add-controller"] => change::add(&env, &admin, &options).await,
            ["remove-controller"] => change::remove(&admin, &options).await,
            _ => describe(&env, &admin, &options).await,
        }
    })
}

async fn describe(env: &Env, admin: &Admin, options: &Options) -> Outcome {
    match (options.has("status"), options.has("replication")) {
        (true, true) => Err(Stop::failed(
            "Only one of --status or --replication should be specified with describe sub-command",
        )),
        (false, false) => Err(Stop::failed(
            "One of --status or --replication must be specified with describe sub-command",
        )),
        (true, false) if options.has("human-readable") => Err(Stop::failed(
            "The option --human-readable is only supported along with --replication",
        )),
        (true, false) => status(admin).await,
        (false, true) => {
            let now = options.has("human-readable").then(|| env.clock.wall().0);
            replication(admin, now).await
        }
    }
}

fn leader_of(quorum: &QuorumDescription) -> Outcome<&QuorumReplica> {
    let leader = quorum.voters.iter().find(|voter| voter.id == quorum.leader);
    leader.ok_or_else(|| Stop::failed("No value present"))
}

async fn status(admin: &Admin) -> Outcome {
    let cluster = admin.describe_cluster(false).await?.cluster_id;
    let quorum = admin.describe_quorum().await?;
    let leader = leader_of(&quorum)?;
    let last = quorum.voters.iter().min_by_key(|voter| voter.log_end_offset).unwrap_or(leader);
    let lag = leader.log_end_offset.0 - last.log_end_offset.0;
    let lag_ms = if last.id == leader.id {
        0
    } else if leader.last_caught_up.0 >= 0 && last.last_caught_up.0 >= 0 {
        leader.last_caught_up.0 - last.last_caught_up.0
    } else {
        -1
    };
    let rows = [
        ("ClusterId:", cluster),
        ("LeaderId:", quorum.leader.0.to_string()),
        ("LeaderEpoch:", quorum.leader_epoch.0.to_string()),
        ("HighWatermark:", quorum.high_watermark.0.to_string()),
        ("MaxFollowerLag:", lag.to_string()),
        ("MaxFollowerLagTimeMs:", lag_ms.to_string()),
        ("CurrentVoters:", replicas(&quorum, &quorum.voters)),
        ("CurrentObservers:", replicas(&quorum, &quorum.observers)),
    ];
    rows.iter().try_for_each(|(title, value)| say(padded::row(&[23], &[*title, value])))
}

/// `[{"id": 1, "directoryId": "…", "endpoints": ["CONTROLLER://localhost:9093"]}]`.
fn replicas(quorum: &QuorumDescription, replicas: &[QuorumReplica]) -> String {
    let rows = replicas.iter().map(|replica| {
        let mut row = format!("{{\"id\": {}", replica.id.0);
        if replica.directory_id != TopicId::default() {
            let id = format_uuid(replica.directory_id);
            row.push_str(&format!(", \"directoryId\": \"{id}\""));
        }
        let endpoints = quorum.nodes.get(&replica.id).map(Vec::as_slice).unwrap_or_default();
        if !endpoints.is_empty() {
            let endpoints: Vec<String> = endpoints
                .iter()
                .map(|(listener, host, port)| {
                    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                    format!("\"{listener}://{host}:{port}\"")
                })
                .collect();
            row.push_str(&format!(", \"endpoints\": [{}]", endpoints.join(", ")));
        }
        row + "}"
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(", "))
}

/// A row for each replica; with `now`, in milliseconds, times are spans before it.
async fn replication(admin: &Admin, now: Option<i64>) -> Outcome {
    let quorum = admin.describe_quorum().await?;
    let leader = leader_of(&quorum)?;
    let followers = quorum.voters.iter().filter(|voter| voter.id != quorum.leader);
    let replicas = std::iter::once((leader, "Leader"))
        .chain(followers.map(|it| (it, "Follower")))
        .chain(quorum.observers.iter().map(|it| (it, "Observer")));
    let time = |millis: i64| match now {
        Some(now) if millis >= 0 => format!("{} ms ago", now - millis),
        Some(_) | None => millis.to_string(),
    };
    let titles = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    let mut rows = vec![titles.map(ToOwned::to_owned)];
    rows.extend(replicas.map(|(replica, status)| {
        [
            replica.id.0.to_string(),
            format_uuid(replica.directory_id),
            replica.log_end_offset.0.to_string(),
            (leader.log_end_offset.0 - replica.log_end_offset.0).to_string(),
            time(replica.last_fetch.0),
            time(replica.last_caught_up.0),
            status.to_owned(),
        ]
    }));
    say(padded::table(&rows))
}
