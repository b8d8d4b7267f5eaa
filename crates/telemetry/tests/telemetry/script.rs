//! The language of the scripts.
//!
//! `a` is a client by its client id, which comes by connection 1 unless `connection=` says otherwise; ids that the node
//! gives count from 1. Time is in milliseconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Command, Context};
use ottla_config::{ClientMetricsConfig, TelemetrySettings};
use ottla_protocol::messages::PushTelemetryRequest;
use ottla_protocol::{Monotonic, Uuid, message};
use ottla_telemetry::{
    Client, ClientInstances, ConnectionId, Subscribed, TelemetryError, Value, decode_push,
};

use crate::otlp_bytes::{Data, Metric, metrics_data};

type Answer = Result<String, Box<dyn Error>>;

pub(crate) struct Script {
    instances: ClientInstances,
    now: Monotonic,
    given_ids: u128,
    /// What each client was told last.
    told: BTreeMap<String, (Uuid, i32)>,
}

impl Default for Script {
    fn default() -> Self {
        let settings =
            TelemetrySettings { max_bytes: 2000, max_instances: 3, max_kept_bytes: 3000 };
        let instances = ClientInstances::new(settings);
        let now = Monotonic(Duration::from_secs(1000));
        Self { instances, now, given_ids: 0, told: BTreeMap::new() }
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        let mut args = command.consume_args();
        let answer = match command.name.as_str() {
            "subscription" => self.subscription(&mut args)?,
            "unsubscribe" => {
                let name = Arc::from(required(args.next_pos())?);
                self.instances.configure(&name, None);
                String::new()
            }
            "get" => self.get(&mut args)?,
            "push" => self.push(&mut args)?,
            "disconnect" => {
                let connection = required(args.next_pos())?.parse()?;
                self.instances.disconnected(ConnectionId(connection));
                String::new()
            }
            "wait" => {
                let millis = required(args.next_pos())?.parse()?;
                self.now = self.now + Duration::from_millis(millis);
                String::new()
            }
            "expire" => {
                self.instances.expire(self.now);
                String::new()
            }
            "measured" => self.measured(),
            "totals" => {
                let totals = self.instances.totals();
                let by_error = totals.pushes.iter().map(|(error, n)| format!("{error}={n}"));
                let by_error: Vec<_> = by_error.collect();
                format!("{} refused_series={}", by_error.join(" "), totals.refused_series)
            }
            other => return Err(format!("no such command: {other}").into()),
        };
        args.reject_next()?;
        Ok(answer)
    }

    fn end_block(&mut self, _: &goldenscript::Block) -> Answer {
        Ok(format!("= {} known", self.instances.len()))
    }
}

impl Script {
    fn subscription(&mut self, args: &mut ArgumentConsumer<'_>) -> Answer {
        let name = Arc::from(required(args.next_pos())?);
        let set: Vec<_> = std::iter::from_fn(|| args.next_key()).collect();
        self.instances.configure(&name, Some(ClientMetricsConfig::of(set)));
        Ok(String::new())
    }

    fn get(&mut self, args: &mut ArgumentConsumer<'_>) -> Answer {
        let (connection, client) = client(args)?;
        let asked = match self.told.get(&client.client_id) {
            Some((id, _)) if args.take_key("id").is_none() => *id,
            Some(_) | None => Uuid::ZERO,
        };
        let given = &mut self.given_ids;
        let random = || {
            *given += 1;
            *given << 64
        };
        let answer = self.instances.subscriptions(asked, (connection, &client), self.now, random);
        Ok(match answer {
            Ok((id, subscribed)) => {
                let Subscribed { id: subscription, metrics, interval } = subscribed;
                let number = u128::from_be_bytes(id.to_bytes()) >> 64;
                let shown = format!(
                    "instance {number} subscription {subscription} [{}] each {} ms",
                    metrics.join(" "),
                    interval.as_millis()
                );
                self.told.insert(client.client_id, (id, *subscription));
                shown
            }
            Err(error) => refused(&error),
        })
    }

    fn push(&mut self, args: &mut ArgumentConsumer<'_>) -> Answer {
        let (connection, client) = client(args)?;
        let (id, subscription) = self.told.get(&client.client_id).copied().unwrap_or_default();
        let reserved = parsed::<u128>(args, "id")?;
        let given = parsed::<i32>(args, "subscription")?;
        let codec = parsed(args, "codec")?.unwrap_or(0);
        let terminating = parsed(args, "terminating")?.unwrap_or(false);
        let size: Option<usize> = parsed(args, "bytes")?;
        let texts: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        let metrics: Vec<Metric<'_>> = texts.iter().map(|text| metric(text)).collect();
        let bytes = match size {
            Some(size) => vec![0xff; size],
            None if metrics.is_empty() => Vec::new(),
            None => metrics_data(&[("group.id", "g")], &metrics),
        };
        let push = message!(PushTelemetryRequest {
            client_instance_id: reserved.map_or(id, |id| Uuid::from_bytes(id.to_be_bytes())),
            subscription_id: given.unwrap_or(subscription),
            terminating: terminating,
            compression_type: codec,
            metrics: bytes.into(),
        });
        let max = self.instances.max_bytes();
        let answer = self.instances.check_push(&push, (connection, &client), self.now);
        let answer = answer.and_then(|codec| {
            let decode = || decode_push(codec, &push.metrics, max);
            let decoded = (!push.metrics.is_empty()).then(decode).transpose();
            self.instances.pushed(push.client_instance_id, decoded)
        });
        Ok(answer.map_or_else(|error| refused(&error), |()| "accepted".to_owned()))
    }

    fn measured(&self) -> String {
        let mut lines = Vec::new();
        for client in self.instances.measured() {
            for series in client.measured.series() {
                let labels: Vec<_> =
                    series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let value = match series.value {
                    Value::Gauge(value) => format!("gauge {value}"),
                    Value::Sum { value, monotonic: true } => format!("counter {value}"),
                    Value::Sum { value, monotonic: false } => format!("sum {value}"),
                    Value::Histogram(it) => {
                        format!(
                            "{} in {:?}, below {:?}, sum {}",
                            it.count, it.buckets, it.bounds, it.sum
                        )
                    }
                };
                let (who, labels) = (&client.client.client_id, labels.join(","));
                lines.push(format!("{who}: {}{{{labels}}} {value}", series.name));
            }
        }
        lines.join("\n")
    }
}

fn refused(error: &TelemetryError) -> String {
    format!("{}: {error}", error.code())
}

fn client(args: &mut ArgumentConsumer<'_>) -> Result<(ConnectionId, Client), Box<dyn Error>> {
    let client_id = required(args.next_pos())?.to_owned();
    let connection = parsed(args, "connection")?.unwrap_or(1);
    let mut named = |key, default: &str| args.take_key(key).unwrap_or(default).to_owned();
    let (software_name, software_version) =
        (named("software", "apache-kafka-java"), named("version", "4.4.0"));
    let address = named("address", "10.0.0.7").parse()?;
    let port = parsed(args, "port")?.unwrap_or(50_000);
    let client = Client { client_id, software_name, software_version, address, port };
    Ok((ConnectionId(connection), client))
}

/// `gauge NAME VALUE`, `counter NAME VALUE`, `delta NAME VALUE`, `updown NAME VALUE`, `ranges NAME BOUNDS COUNTS`, with
/// `{label=value}` behind the name if wished.
fn metric(text: &str) -> Metric<'_> {
    let mut words = text.split(' ');
    let kind = words.next().unwrap();
    let (name, labels) = words.next().unwrap().split_once('{').map_or_else(
        || (text.split(' ').nth(1).unwrap(), ""),
        |(name, labels)| (name, labels.trim_end_matches('}')),
    );
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let mut number = || words.next().unwrap();
    let data = match kind {
        "gauge" => Data::Gauge(number().parse().unwrap()),
        "counter" => Data::Sum(number().parse().unwrap(), true, false),
        "delta" => Data::Sum(number().parse().unwrap(), true, true),
        "updown" => Data::Sum(number().parse().unwrap(), false, true),
        "ranges" => {
            let bounds = number().split(',').map(|it| it.parse().unwrap()).collect();
            let counts = number().split(',').map(|it| it.parse().unwrap()).collect();
            Data::Histogram(10.0, bounds, counts, true)
        }
        other => panic!("no such metric: {other}"),
    };
    Metric { name, attributes: pairs.collect(), data }
}

fn required(given: Option<&str>) -> Result<&str, Box<dyn Error>> {
    given.ok_or_else(|| "an argument is missing".into())
}

fn parsed<T: FromStr<Err: Error + 'static>>(
    args: &mut ArgumentConsumer<'_>,
    key: &str,
) -> Result<Option<T>, Box<dyn Error>> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}
