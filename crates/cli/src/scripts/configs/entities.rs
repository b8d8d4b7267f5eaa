//! What `kafka-configs` describes or changes: `--entity-type` and `--entity-name`, or one flag for both.

use std::net::ToSocketAddrs;

use super::Options;
use crate::scripts::{Outcome, Stop, say};

/// Flags that name an entity, and its type.
const NAMING: [(&str, &str); 8] = [
    ("topic", "topics"),
    ("client", "clients"),
    ("user", "users"),
    ("broker", "brokers"),
    ("broker-logger", "broker-loggers"),
    ("ip", "ips"),
    ("client-metrics", "client-metrics"),
    ("group", "groups"),
];
/// Flags for the default of a type.
const DEFAULTS: [(&str, &str); 4] = [
    ("client-defaults", "clients"),
    ("user-defaults", "users"),
    ("broker-defaults", "brokers"),
    ("ip-defaults", "ips"),
];
/// The types, in the order in which Kafka names them.
const KINDS: &str = "topics, clients, users, brokers, ips, client-metrics, groups, broker-loggers";

/// Types and names; a default has an empty name.
pub(super) struct Entities {
    pub(super) kinds: Vec<String>,
    pub(super) names: Vec<String>,
}

impl Entities {
    /// Reads and checks them.
    pub(super) fn read(options: &Options) -> Outcome<Self> {
        let flags: Vec<(&str, &str)> =
            NAMING.into_iter().chain(DEFAULTS).filter(|(flag, _)| options.has(flag)).collect();
        let mut kinds: Vec<String> =
            options.values("entity-type").into_iter().map(ToOwned::to_owned).collect();
        kinds.extend(flags.iter().map(|(_, kind)| (*kind).to_owned()));
        let mut names = Vec::new();
        let mut given = options.values("entity-name").into_iter();
        for option in options.among(&["entity-name", "entity-default"]) {
            let name = if option == "entity-name" { given.next() } else { None };
            names.push(name.unwrap_or_default().to_owned());
        }
        for (flag, _) in &flags {
            names.push(options.value(flag)?.unwrap_or_default().to_owned());
        }
        let entities = Self { kinds, names };
        entities.check_kinds(options, &flags)?;
        entities.check_names(options)?;
        Ok(entities)
    }

    fn check_kinds(&self, options: &Options, flags: &[(&str, &str)]) -> Outcome {
        let mut seen: Vec<&String> = Vec::new();
        let mut twice = Vec::new();
        for kind in &self.kinds {
            if seen.contains(&kind) {
                twice.push(kind.as_str());
            }
            seen.push(kind);
        }
        let wrong = |message: String| Err(Stop::failed(message));
        if !twice.is_empty() {
            return wrong(format!("Duplicate entity type(s) specified: {}", twice.join(",")));
        }
        let servers = options.count(&["bootstrap-server", "bootstrap-controller"]);
        if servers == 0 {
            return wrong(
                "Either --bootstrap-server or --bootstrap-controller must be specified.".to_owned(),
            );
        }
        if let Some(kind) = self.kinds.iter().find(|kind| !KINDS.split(", ").any(|it| it == *kind))
        {
            return wrong(format!(
                "Invalid entity type {kind}, the entity type must be one of {KINDS} with a --bootstrap-server or --bootstrap-controller argument"
            ));
        }
        if self.kinds.is_empty() {
            return wrong("At least one entity type must be specified".to_owned());
        }
        if self.kinds.len() > 1 && !(self.has("users") && self.has("clients")) {
            return wrong(
                "Only 'users' and 'clients' entity types may be specified together".to_owned(),
            );
        }
        let general = options.count(&["entity-name", "entity-type", "entity-default"]);
        if general > 0 && !flags.is_empty() {
            return wrong(
                "--entity-{type,name,default} should not be used in conjunction with specific entity flags".to_owned(),
            );
        }
        if servers > 1 {
            return wrong(
                "Only one of --bootstrap-server or --bootstrap-controller can be specified"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_names(&self, options: &Options) -> Outcome {
        let kinds = self.kinds.join(",");
        let wrong = |message: String| Err(Stop::failed(message));
        let mut named = self.names.iter().filter(|name| !name.is_empty());
        let is_named = self.names.iter().any(|name| !name.is_empty());
        let has_default = self.names.iter().any(String::is_empty);
        if (self.has("brokers") || self.has("broker-loggers"))
            && let Some(name) = named.clone().find(|name| name.parse::<i32>().is_err())
        {
            return wrong(format!(
                "The entity name for {} must be a valid integer broker id, but it is: {name}",
                self.kind()
            ));
        }
        if self.has("ips")
            && let Some(name) = named.find(|name| (name.as_str(), 0).to_socket_addrs().is_err())
        {
            return wrong(format!(
                "The entity name for {} must be a valid IP or resolvable host, but it is: {name}",
                self.kind()
            ));
        }
        let may_be_default = ["users", "clients", "brokers", "ips"].iter().any(|it| self.has(it));
        if options.has("describe") {
            if !may_be_default && options.has("entity-default") {
                return wrong(format!(
                    "--entity-default must not be specified with --describe of {kinds}"
                ));
            }
            if self.has("broker-loggers") && !is_named {
                return wrong(format!(
                    "An entity name must be specified with --describe of {kinds}"
                ));
            }
            return Ok(());
        }
        if may_be_default && !is_named && !has_default {
            return wrong(
                "An entity-name or default entity must be specified with --alter of users, clients, brokers or ips".to_owned(),
            );
        }
        if !may_be_default && !is_named {
            return wrong(format!("An entity name must be specified with --alter of {kinds}"));
        }
        Ok(())
    }

    fn has(&self, kind: &str) -> bool {
        self.kinds.iter().any(|it| it == kind)
    }

    /// The first type.
    pub(super) fn kind(&self) -> &str {
        self.kinds.first().map_or("", String::as_str)
    }

    /// The first type in the singular.
    pub(super) fn one(&self) -> &str {
        let kind = self.kind();
        kind.get(..kind.len().saturating_sub(1)).unwrap_or(kind)
    }

    /// Whether they are what quotas are set for.
    pub(super) fn are_quotas(&self) -> bool {
        matches!(self.kind(), "users" | "clients" | "ips")
    }

    pub(super) fn say_updated(&self) -> Outcome {
        match self.names.first().filter(|name| !name.is_empty()) {
            Some(name) => say(format!("Completed updating config for {} {name}.", self.one())),
            None => say(format!(
                "Completed updating default config for {} in the cluster.",
                self.kind()
            )),
        }
    }
}
