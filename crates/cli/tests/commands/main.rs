//! The commands as a person or a script meets them: the real program against a real node.
#![allow(clippy::disallowed_methods, reason = "tests run the program")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use serde_json::{Value, json};

use node::{Node, code, objects, stderr, stdout};

#[test]
fn a_topic_is_made_shown_altered_and_deleted() {
    let node = Node::start();
    let made = node.ottla(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "-c",
        "retention.ms=60000",
        "--format",
        "json",
    ]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let made = &objects(&made)[0];
    assert_eq!((&made["topic"], &made["created"]), (&json!("orders"), &json!(true)));
    assert_eq!((&made["partitions"], &made["replication_factor"]), (&json!(3), &json!(1)));

    let again = node.ottla(&["topic", "create", "orders"]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("--if-not-exists"), "{}", stderr(&again));
    assert_eq!(code(&node.ottla(&["topic", "create", "orders", "--if-not-exists"])), 0);

    let listed = objects(&node.ottla(&["topic", "list", "--format", "json"]));
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["topic"], &listed[0]["partitions"]), (&json!("orders"), &json!(3)));

    assert_eq!(code(&node.ottla(&["topic", "alter", "orders", "--partitions", "5"])), 0);
    let fewer = node.ottla(&["topic", "alter", "orders", "--partitions", "2"]);
    assert_eq!(code(&fewer), 1);
    assert!(stderr(&fewer).contains("--partitions 6"), "{}", stderr(&fewer));
    let described = objects(&node.ottla(&["topic", "describe", "orders", "--format", "json"]));
    let numbers: Vec<Value> = described.iter().map(|row| row["partition"].clone()).collect();
    assert_eq!(Value::from(numbers), json!([0, 1, 2, 3, 4]));
    assert_eq!((&described[0]["isr"], &described[0]["end_offset"]), (&json!([1]), &json!(0)));

    let refused = node.ottla(&["topic", "delete", "orders"]);
    assert_eq!(code(&refused), 1, "without a terminal nothing is deleted");
    assert!(stderr(&refused).contains("add --yes"), "{}", stderr(&refused));
    assert_eq!(code(&node.ottla(&["topic", "delete", "orders", "--yes"])), 0);
    assert_eq!(stdout(&node.ottla(&["topic", "list", "--format", "json"])), "");
}

#[test]
fn arguments_are_checked_before_anything_is_sent() {
    let node = Node::start();
    for wrong in [
        &["topic", "create", "t", "--partitions", "0"][..],
        &["topic", "create", "t", "--replication-factor", "32768"],
        &["topic", "create"],
        &["topic", "alter", "t"],
        &["topic", "alter", "t", "--partitions", "3", "--config", "a=b"],
        &["group", "reset-offsets", "g", "--all-topics"],
        &["group", "reset-offsets", "g", "--all-topics", "--to-earliest", "--to-latest"],
        &["group", "reset-offsets", "g", "--to-earliest"],
        &["config", "describe", "orders"],
        &["consume", "t", "--from-beginning", "--from-offset", "3"],
        &["consume", "t", "--format", "%x"],
    ] {
        let refused = node.ottla(wrong);
        assert_eq!(code(&refused), 2, "{wrong:?}: {}", stderr(&refused));
    }
    for (wrong, wanted) in [
        (&["topic", "create", "a/b"][..], "249 letters"),
        (&["topic", "create", "t", "-r", "2"], "1 broker is alive"),
        (
            &["quota", "set", "--client-id", "c", "producer_byte_rat=1"],
            "did you mean producer_byte_rate?",
        ),
        (&["quota", "set", "producer_byte_rate=1"], "--client-id NAME"),
    ] {
        let refused = node.ottla(wrong);
        assert_eq!(code(&refused), 1, "{wrong:?}");
        assert!(stderr(&refused).contains(wanted), "{wrong:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("next: "), "{wrong:?}: {}", stderr(&refused));
    }
}

#[test]
fn what_is_not_there_is_named_with_what_is_near() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders"])), 0);
    for (wrong, wanted) in [
        (&["topic", "describe", "ordres"][..], "did you mean orders?"),
        (&["consume", "ordres", "--exit"], "did you mean orders?"),
        (&["config", "describe", "topic/ordres"], "did you mean orders?"),
        (&["config", "set", "topic/orders", "retention.m=1"], "did you mean retention.ms?"),
        (&["metadata", "get", "/brokers/topics/ordres"], "did you mean /brokers/topics/orders?"),
        (&["group", "describe", "nobody"], "there is no group nobody"),
    ] {
        let refused = node.ottla(wrong);
        assert_eq!(code(&refused), 1, "{wrong:?}");
        assert!(stderr(&refused).contains(wanted), "{wrong:?}: {}", stderr(&refused));
    }
    let nobody = node::ottla_at("127.0.0.1:1", &["topic", "list"]);
    assert_eq!(code(&nobody), 1);
    let said = stderr(&nobody);
    assert!(said.contains("127.0.0.1:1") && said.contains("ottla start"), "{said}");
}

#[test]
fn quotas_are_set_listed_and_unset() {
    let node = Node::start();
    let none = node.ottla(&["quota", "list"]);
    assert!(stdout(&none).contains("no quotas are set"), "{}", stdout(&none));
    let set =
        ["quota", "set", "--client-id", "etl", "--user", "default", "producer_byte_rate=1048576"];
    let done = node.ottla(&set);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert!(stdout(&done).contains("producer_byte_rate=1048576"), "{}", stdout(&done));
    let listed = node.ottla(&["quota", "list", "--format", "json"]);
    let quota = json!({
        "user": "default", "client_id": "etl", "ip": null,
        "quota": "producer_byte_rate", "value": 1_048_576.0,
    });
    assert_eq!(objects(&listed), [quota]);
    let other = node.ottla(&["quota", "list", "--client-id", "other"]);
    assert_eq!(code(&other), 0);
    assert!(!stdout(&other).contains("etl"));
    let refused = node.ottla(&["quota", "set", "--ip", "::1", "producer_byte_rate=1"]);
    assert_eq!(code(&refused), 1);
    let said = stderr(&refused);
    assert!(said.contains("Invalid configuration key producer_byte_rate"), "{said}");
    let unset = ["quota", "unset", "--client-id", "etl", "--user", "default", "producer_byte_rate"];
    assert_eq!(code(&node.ottla(&unset)), 0);
    assert!(!stdout(&node.ottla(&["quota", "list"])).contains("etl"));
}

#[test]
fn configurations_are_set_shown_and_unset() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders"])), 0);
    let set = node.ottla(&[
        "config",
        "set",
        "topic/orders",
        "retention.ms=60000",
        "cleanup.policy=compact",
    ]);
    assert_eq!(code(&set), 0, "{}", stderr(&set));
    assert_eq!(stdout(&node.ottla(&["config", "get", "topic/orders", "retention.ms"])), "60000\n");
    let described =
        objects(&node.ottla(&["config", "describe", "topic/orders", "--format", "json"]));
    let keys: Vec<&str> = described.iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["cleanup.policy", "min.insync.replicas", "retention.ms"]);
    assert_eq!(described[0]["source"], "DYNAMIC_TOPIC_CONFIG");
    assert_eq!(code(&node.ottla(&["config", "unset", "topic/orders", "retention.ms"])), 0);
    let value = node.ottla(&["config", "get", "topic/orders", "retention.ms", "--format", "json"]);
    assert_eq!(objects(&value)[0]["source"], "DEFAULT_CONFIG");
    let found = node.ottla(&[
        "config",
        "describe",
        "topic/orders",
        "--search",
        "retention",
        "--format",
        "json",
    ]);
    assert!(objects(&found).iter().any(|row| row["key"] == "retention.bytes"));
}

/// Makes the topic `orders` of one partition with a hundred records, and answers its end.
fn fill(node: &Node) -> i64 {
    assert_eq!(code(&node.ottla(&["topic", "create", "orders", "-p", "1"])), 0);
    let lines: String = (0..100).map(|number| format!("k{number}:v{number}\n")).collect();
    let file = node.file("orders.txt", &lines);
    let filled = node.ottla(&["produce", "orders", "--file", &file, "-K", ":"]);
    assert_eq!(stdout(&filled), "100 records are in orders\n", "{}", stderr(&filled));
    100
}

#[test]
fn records_come_back_as_they_were_sent() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders", "-p", "3"])), 0);
    let piped = ["produce", "orders", "-K", ":", "-H", "trace=7", "--compression", "zstd"];
    let piped = node.pipe(&piped, "a:1\nb:2\nno key\n");
    assert_eq!(code(&piped), 0, "{}", stderr(&piped));
    let one = ["produce", "orders", "--key", "a", "--value", "3", "-p", "0", "--format", "json"];
    let one = objects(&node.ottla(&one));
    assert_eq!(one[0]["partitions"], json!([{ "partition": 0, "records": 1 }]));
    let read =
        objects(&node.ottla(&["consume", "orders", "--from-beginning", "--exit", "-f", "json"]));
    let mut pairs: Vec<(&Value, &Value)> =
        read.iter().map(|it| (&it["key"], &it["value"])).collect();
    pairs.sort_by_key(|(_, value)| value.to_string());
    let wanted = [
        (json!("a"), json!("1")),
        (json!("b"), json!("2")),
        (json!("a"), json!("3")),
        (json!(null), json!("no key")),
    ];
    assert_eq!(pairs, wanted.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>());
    assert_eq!(
        read.iter().filter(|it| it["headers"] == json!([{ "key": "trace", "value": "7" }])).count(),
        3
    );
    let missing = node.pipe(&["produce", "orders", "-p", "9"], "x\n");
    assert!(stderr(&missing).contains("has no partition 9"), "{}", stderr(&missing));
}

#[test]
fn records_are_read_from_every_place_to_every_place() {
    let node = Node::start();
    let end = fill(&node);
    let offsets = |arguments: &[&str]| -> Vec<i64> {
        let all = [&["consume", "orders", "--format", "%o"], arguments].concat();
        let read = node.ottla(&all);
        assert_eq!(code(&read), 0, "{all:?}: {}", stderr(&read));
        stdout(&read).lines().map(|line| line.parse().unwrap()).collect()
    };
    assert_eq!(offsets(&["--from-beginning", "--exit"]), (0..end).collect::<Vec<_>>());
    assert_eq!(offsets(&["--last", "3", "--exit"]), [end - 3, end - 2, end - 1]);
    assert_eq!(offsets(&["--from-offset", "10", "--count", "2"]), [10, 11]);
    assert_eq!(offsets(&["--from-offset", "10", "--to-offset", "12"]), [10, 11]);
    assert_eq!(offsets(&["--from-time", "1h", "-n", "1"]), [0]);
    assert_eq!(offsets(&["--from-beginning", "--to-time", "1h", "--exit"]), [0; 0]);
    assert_eq!(offsets(&["--exit"]), [0; 0], "from now on");
    let record =
        objects(&node.ottla(&["consume", "orders", "--last", "1", "-n", "1", "-f", "json"]));
    assert_eq!((&record[0]["topic"], &record[0]["offset"]), (&json!("orders"), &json!(end - 1)));
    let missing = node.ottla(&["consume", "orders", "-p", "4", "--exit"]);
    assert!(stderr(&missing).contains("has no partition 4"), "{}", stderr(&missing));
}

#[test]
fn a_group_goes_on_where_it_has_printed() {
    let node = Node::start();
    let end = fill(&node);
    let read = |count: &str| {
        let read = node.ottla(&[
            "consume",
            "orders",
            "--group",
            "billing",
            "--from-beginning",
            "-n",
            count,
            "-f",
            "%o",
        ]);
        assert_eq!(code(&read), 0, "{}", stderr(&read));
        stdout(&read).lines().map(|line| line.parse().unwrap()).collect::<Vec<i64>>()
    };
    assert_eq!(read("3"), [0, 1, 2]);
    assert_eq!(read("2"), [3, 4], "what was not printed is not committed");
    let rest = node.ottla(&["consume", "orders", "--group", "billing", "--exit", "-f", "%o"]);
    assert_eq!(stdout(&rest).lines().count() as i64, end - 5, "{}", stderr(&rest));
    let described = objects(&node.ottla(&["group", "describe", "billing", "--format", "json"]));
    assert_eq!((&described[0]["committed_offset"], &described[0]["lag"]), (&json!(end), &json!(0)));
}

#[test]
fn a_reset_shows_first_and_acts_only_when_told() {
    let node = Node::start();
    let end = fill(&node);
    let reset = |arguments: &[&str]| {
        let all = [&["group", "reset-offsets", "billing", "--format", "json"], arguments].concat();
        let reset = node.ottla(&all);
        assert_eq!(code(&reset), 0, "{all:?}: {}", stderr(&reset));
        let rows = objects(&reset);
        assert_eq!(rows.len(), 1, "{all:?}");
        (rows[0]["committed_offset"].clone(), rows[0]["new_offset"].clone())
    };
    assert_eq!(reset(&["--topic", "orders", "--to-offset", "10"]), (json!(null), json!(10)));
    assert_eq!(
        reset(&["--topic", "orders", "--to-offset", "20", "--yes"]),
        (json!(null), json!(20))
    );
    assert_eq!(reset(&["--all-topics", "--shift-by", "-5", "--execute"]), (json!(20), json!(15)));
    assert_eq!(reset(&["--topic", "orders:0", "--to-current"]), (json!(15), json!(15)));
    assert_eq!(reset(&["--all-topics", "--to-latest"]), (json!(15), json!(end)));
    assert_eq!(reset(&["--all-topics", "--to-earliest"]), (json!(15), json!(0)));
    assert_eq!(reset(&["--all-topics", "--by-duration", "PT1H"]), (json!(15), json!(0)));
    assert_eq!(reset(&["--all-topics", "--to-datetime", "2100-01-01"]), (json!(15), json!(end)));
    let file = node.file("offsets.csv", "orders,0,42\n");
    assert_eq!(reset(&["--from-file", &file, "--yes"]), (json!(15), json!(42)));

    let described = objects(&node.ottla(&["group", "describe", "billing", "--format", "json"]));
    assert_eq!(
        (&described[0]["committed_offset"], &described[0]["lag"]),
        (&json!(42), &json!(end - 42))
    );
    let listed = objects(&node.ottla(&["group", "list", "--format", "json"]));
    assert_eq!((&listed[0]["group"], &listed[0]["state"]), (&json!("billing"), &json!("Empty")));
    assert_eq!(code(&node.ottla(&["group", "delete", "billing"])), 1, "no terminal, no --yes");
    assert_eq!(code(&node.ottla(&["group", "delete", "billing", "--yes"])), 0);
    assert_eq!(code(&node.ottla(&["group", "describe", "billing"])), 1);
}

#[test]
fn the_cluster_and_its_metadata_are_shown() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders", "-p", "2"])), 0);
    let brokers = objects(&node.ottla(&["cluster", "describe", "--format", "json"]));
    assert_eq!((&brokers[0]["broker"], &brokers[0]["controller"]), (&json!(1), &json!(true)));
    let health = node.ottla(&["cluster", "health", "--format", "json"]);
    assert_eq!(code(&health), 0, "{}", stdout(&health));
    assert!(objects(&health).iter().all(|check| check["healthy"] == true));
    let dirs =
        objects(&node.ottla(&["cluster", "log-dirs", "--topic", "orders", "--format", "json"]));
    assert_eq!(dirs.len(), 2);
    let apis = objects(&node.ottla(&["cluster", "apis", "--format", "json"]));
    assert!(apis.iter().any(|row| row["api"] == "Fetch" && row["max_version"] == 18));

    assert_eq!(stdout(&node.ottla(&["metadata", "ls", "/brokers"])), "ids\ntopics\n");
    assert_eq!(
        stdout(&node.ottla(&["metadata", "ls", "/brokers/topics/orders/partitions"])),
        "0\n1\n"
    );
    let state =
        ["metadata", "get", "/brokers/topics/orders/partitions/0/state", "--format", "json"];
    assert_eq!(objects(&node.ottla(&state))[0]["value"]["isr"], json!([1]));
    let roots = stdout(&node.ottla(&["metadata", "ls"]));
    for root in [
        "admin",
        "brokers",
        "config",
        "controller",
        "isr_change_notification",
        "preferred_replica_election",
    ] {
        assert!(roots.lines().any(|line| line == root), "{root} is not in {roots}");
    }
}

#[test]
fn metadata_that_change_are_told() {
    let node = Node::start();
    let watching = node.spawn(&[
        "metadata",
        "watch",
        "/brokers/topics",
        "--interval",
        "10",
        "--changes",
        "1",
        "--format",
        "json",
    ]);
    // The watch may begin after the first topic: make more until it has seen one.
    for number in 0.. {
        assert_eq!(code(&node.ottla(&["topic", "create", &format!("t{number}")])), 0);
        if watching.is_finished() {
            break;
        }
    }
    let seen = objects(&watching.join().unwrap());
    assert_eq!(seen[0]["change"], "created");
    assert!(seen[0]["path"].as_str().unwrap().starts_with("/brokers/topics/t"));
}

#[test]
fn profiles_name_clusters() {
    let node = Node::start();
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| node::ottla_with_home(home.path(), arguments);
    assert_eq!(code(&run(&["profile", "add", "here", node.address()])), 0);
    assert_eq!(code(&run(&["profile", "add", "there", "127.0.0.1:1"])), 0);
    assert_eq!(code(&run(&["topic", "list"])), 0, "the first is used");
    assert_eq!(code(&run(&["--help"])), 0);
    assert_eq!(code(&run(&["topic", "list", "--profile", "there"])), 1);
    assert!(stderr(&run(&["profile", "use", "hare"])).contains("did you mean here?"));
    assert_eq!(code(&run(&["profile", "use", "there"])), 0);
    assert_eq!(code(&run(&["topic", "list"])), 1);
    let listed = objects(&run(&["profile", "list", "--format", "json"]));
    assert_eq!((&listed[1]["profile"], &listed[1]["current"]), (&json!("there"), &json!(true)));
    assert_eq!(code(&run(&["profile", "remove", "there"])), 0);
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&node::ottla_at("", &["completions", shell]));
        assert!(script.contains("reset-offsets"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert_eq!(code(&node::ottla_at("", &["man", path])), 0);
    let page = std::fs::read_to_string(dir.path().join("ottla-group-reset-offsets.1")).unwrap();
    assert!(page.contains("to\\-datetime"), "{page}");
}

#[test]
fn kafkas_scripts_run_by_their_names() {
    let node = Node::start();
    let at = ["--bootstrap-server", node.address()];
    let folder = node.file("bin", "");
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(code(&node.ottla(&["install-scripts", &folder])), 0);
    let again = node.ottla(&["install-scripts", &folder]);
    assert_eq!(code(&again), 0, "links are replaced: {}", stderr(&again));

    let linked = std::process::Command::new(format!("{folder}/kafka-topics.sh"))
        .args(at)
        .args(["--create", "--topic", "orders", "--partitions", "2"])
        .output()
        .unwrap();
    assert_eq!((code(&linked), &*stdout(&linked)), (0, "Created topic orders.\n"));
    let offsets = node.ottla(&["kafka-get-offsets", at[0], at[1], "--topic", "orders"]);
    assert_eq!((code(&offsets), &*stdout(&offsets)), (0, "orders:0:0\norders:1:0\n"));
    let wrong = node.ottla(&["kafka-topics", at[0], at[1], "--create"]);
    assert_eq!((code(&wrong), &*stdout(&wrong)), (1, ""));
    let first = "Missing required argument \"[topic]\"";
    assert_eq!(stderr(&wrong).lines().next(), Some(first));

    let own = format!("{folder}/kafka-topics.sh");
    std::fs::remove_file(&own).unwrap();
    std::fs::write(&own, "Kafka's own").unwrap();
    assert_eq!(code(&node.ottla(&["install-scripts", &folder])), 1, "a file is not replaced");
}

#[test]
fn records_in_front_are_deleted_after_they_were_shown() {
    let node = Node::start();
    let end = fill(&node);
    let delete = |arguments: &[&str]| {
        node.ottla(&[&["topic", "delete-records", "orders"], arguments].concat())
    };
    let refused = delete(&["--before-offset", "10"]);
    assert_eq!(code(&refused), 1, "without a terminal nothing is deleted");
    assert!(stdout(&refused).contains("NEW START"), "{}", stdout(&refused));
    assert!(stderr(&refused).contains("delete 10 records of 1 partition"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("add --yes"), "{}", stderr(&refused));
    let start = || {
        let described = node.ottla(&["topic", "describe", "orders", "--format", "json"]);
        objects(&described)[0]["start_offset"].clone()
    };
    assert_eq!(start(), json!(0));
    let deleted = objects(&delete(&["--before-offset", "10", "--yes", "--format", "json"]));
    let wanted = json!({ "topic": "orders", "partition": 0, "start_offset": 10, "deleted": true });
    assert_eq!(deleted, [wanted]);
    let again = delete(&["--before-offset", "5", "--yes"]);
    assert!(stdout(&again).contains("nothing to delete"), "{}", stdout(&again));
    let young = delete(&["--before-time", "1h", "--yes"]);
    assert!(stdout(&young).contains("nothing to delete"), "{}", stdout(&young));
    assert_eq!(code(&delete(&["--before-time", "2100-01-01", "--yes"])), 0);
    assert_eq!(start(), json!(end), "no record is as young, so all go");
    let wrong = node.ottla(&["topic", "delete-records", "orders:7", "--all", "--yes"]);
    assert!(stderr(&wrong).contains("orders has no partition 7"), "{}", stderr(&wrong));
    assert_eq!(code(&delete(&[])), 2, "before what has to be said");
}

#[test]
fn leaders_are_elected_and_replicas_reassigned() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders", "-p", "2"])), 0);
    let partition = |arguments: &[&str]| node.ottla(&[&["partition"], arguments].concat());
    let elected = partition(&["elect-leaders", "orders:1", "--format", "json"]);
    assert_eq!(code(&elected), 0, "{}", stderr(&elected));
    assert_eq!(objects(&elected)[0]["result"], "not needed");
    let all = partition(&["elect-leaders", "--all"]);
    assert_eq!(code(&all), 0, "{}", stderr(&all));
    let unclean = partition(&["elect-leaders", "orders", "--unclean"]);
    assert_eq!(code(&unclean), 1, "what loses records is asked about");
    assert!(stderr(&unclean).contains("add --yes"), "{}", stderr(&unclean));
    assert_eq!(code(&partition(&["elect-leaders", "orders", "--unclean", "--yes"])), 0);
    assert_eq!(code(&partition(&["elect-leaders"])), 2);

    let shown = partition(&["reassign", "orders", "--replicas", "1", "--format", "json"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    let wanted = json!({
        "topic": "orders", "partition": 0, "replicas": [1], "new_replicas": [1], "executed": false,
    });
    assert_eq!(objects(&shown)[0], wanted);
    assert_eq!(code(&partition(&["reassign", "orders", "--replicas", "1", "--yes"])), 0);
    for (replicas, why) in [("1,2", "no broker 2 alive"), ("1,1", "broker 1 is named twice")] {
        let refused = partition(&["reassign", "orders", "--replicas", replicas, "--yes"]);
        assert_eq!(code(&refused), 1);
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("ottla cluster describe"), "{}", stderr(&refused));
    }
    let throttles = || {
        let of = |what: &str| node.ottla(&["config", "describe", what, "--search", "throttled"]);
        let both = stdout(&of("broker/1")) + &stdout(&of("topic/orders"));
        both.lines().filter(|line| line.contains("4321") || line.contains("0:1,1:1")).count()
    };
    let throttled = ["reassign", "orders", "--replicas", "1", "--throttle", "4321", "--yes"];
    assert_eq!(code(&partition(&throttled)), 0);
    assert_eq!(throttles(), 3, "two rates, and the leaders");
    let verified = partition(&["reassign", "orders", "--replicas", "1", "--verify"]);
    assert_eq!(code(&verified), 0, "{}", stderr(&verified));
    assert_eq!(stdout(&verified).matches("completed").count(), 2, "{}", stdout(&verified));
    assert_eq!(throttles(), 0);

    let listed = partition(&["reassignments"]);
    assert!(stdout(&listed).contains("no reassignment is under way"), "{}", stdout(&listed));
    assert_eq!(stdout(&partition(&["reassignments", "orders", "--format", "json"])), "");
    let cancelled = partition(&["cancel-reassignments", "--all"]);
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    assert!(stdout(&cancelled).contains("nothing to cancel"), "{}", stdout(&cancelled));
}

#[test]
fn producers_are_shown() {
    let node = Node::start();
    fill(&node);
    let shown = node.ottla(&["partition", "producers", "orders", "--format", "json"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    let shown = &objects(&shown)[0];
    assert_eq!((&shown["topic"], &shown["partition"]), (&json!("orders"), &json!(0)));
    assert_eq!((&shown["producer_epoch"], &shown["last_sequence"]), (&json!(0), &json!(99)));
    assert_eq!(shown["transaction_start_offset"], Value::Null);
    let nobody = node.ottla(&["partition", "producers", "orders:3"]);
    assert!(stderr(&nobody).contains("no partition 3"), "{}", stderr(&nobody));
}

#[test]
fn a_log_moves_to_another_directory() {
    let node = Node::with_two_dirs();
    let end = fill(&node);
    let dirs = || {
        let shown = node.ottla(&["cluster", "log-dirs", "--topic", "orders", "--format", "json"]);
        let dirs: Vec<Value> = objects(&shown).iter().map(|row| row["log_dir"].clone()).collect();
        dirs
    };
    let [first, second] = node.dirs();
    let from = dirs();
    let to = if from == [json!(first)] { second } else { first };
    let moved = node.ottla(&["partition", "move-log", "orders:0", "--to", &to, "--format", "json"]);
    assert_eq!(code(&moved), 0, "{}", stderr(&moved));
    let moved = &objects(&moved)[0];
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["moved"]),
        (&from[0], &json!(to), &json!(true))
    );
    assert_eq!(dirs(), [json!(to)]);
    let again = node.ottla(&["partition", "move-log", "orders", "--to", &to]);
    assert!(stdout(&again).contains("already"), "{}", stdout(&again));
    let read = node.ottla(&["consume", "orders", "--from-beginning", "--exit", "-f", "%o"]);
    assert_eq!(stdout(&read).lines().count() as i64, end);

    let nowhere = node.ottla(&["partition", "move-log", "orders", "--to", &format!("{to}x")]);
    assert_eq!(code(&nowhere), 1);
    assert!(stderr(&nowhere).contains(&format!("did you mean {to}?")), "{}", stderr(&nowhere));
    let nobody = node.ottla(&["partition", "move-log", "orders", "--to", &to, "--broker", "9"]);
    assert!(stderr(&nobody).contains("no broker 9 alive"), "{}", stderr(&nobody));
}

#[test]
fn no_partition_needs_more_replicas_in_sync_than_it_has() {
    let node = Node::start();
    let create = ["topic", "create", "orders", "-c", "min.insync.replicas=2"];
    assert_eq!(code(&node.ottla(&create)), 0);
    assert_eq!(code(&node.pipe(&["produce", "orders"], "one\n")), 0);
    let health = node.ottla(&["cluster", "health"]);
    assert_eq!(code(&health), 0, "{}", stdout(&health));
}

#[test]
fn a_console_consumer_that_is_interrupted_leaves_its_group_and_says_how_much_it_read() {
    let node = Node::start();
    assert_eq!(code(&node.ottla(&["topic", "create", "orders"])), 0);
    assert_eq!(code(&node.pipe(&["produce", "orders"], "one\ntwo\n")), 0);
    let consumer = [
        "kafka-console-consumer",
        "--topic",
        "orders",
        "--group",
        "billing",
        "--from-beginning",
        "--enable-systest-events",
    ];
    let ended = node.interrupted(&consumer, 2);
    // As a shell says of a process that SIGINT ended.
    assert_eq!(code(&ended), 130, "{}", stderr(&ended));
    assert_eq!(stdout(&ended), "one\ntwo\nshutdown_complete\n");
    assert!(stderr(&ended).contains("Processed a total of 2 messages"), "{}", stderr(&ended));
    let group = objects(&node.ottla(&["group", "describe", "billing", "--format", "json"]));
    assert_eq!((&group[0]["state"], &group[0]["committed_offset"]), (&json!("Empty"), &json!(2)));
}
