//! The words of the scripts.
//!
//! ```text
//! new leader=1 replicas=1/2/3 [isr=1/2/3] [epoch=0] [version=0] [end=0] [hw=0] [min-isr=1]   replica 1, lag time 30 s
//! news [leader=2] [epoch=1] [version=1] [isr=2/3] [replicas=…] [log=9]   the controller recorded it; the rest as it was
//! broker 2 epoch=7 [fenced]           what the cluster knows of a broker; each begins with its id as its epoch
//! append 9                            the leader's log ends there
//! fetch 2 at=5 [end=9] [start=0] [leader-start=0] [broker-epoch=2] [epoch=0]   a follower fetches while the leader's log ends at `end`
//! expand, shrink, time                proposals; time alone
//! answer isr=1/2 [version=1] [epoch=0] | answer INVALID_UPDATE_VERSION   to the last proposal
//! min-isr 2
//! fetched 9 hw=7 [epoch=0]            a fetch from the leader
//! truncated 5
//! position, acks                      where it fetches; whether an append with acks=all is refused, before and after
//! wait 1000                           milliseconds
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Block, Command, Context, Runner};
use ottla_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Monotonic, Offset};
use ottla_replication::{
    Advance, BrokerStatus, Brokers, FollowerFetch, IsrAnswer, IsrProposal, Moment, Partition,
    Replicas, Terms,
};

type Answer<T = String> = Result<T, Box<dyn Error>>;

const LAG: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Script {
    partition: Option<Partition>,
    brokers: BTreeMap<BrokerId, BrokerStatus>,
    proposal: Option<IsrProposal>,
    now: Monotonic,
}

fn ids<C: FromIterator<BrokerId>>(list: &str) -> C {
    list.split('/').filter(|id| !id.is_empty()).map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn number<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>, key: &str) -> Answer<Option<T>>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

fn offset(args: &mut ArgumentConsumer<'_>, key: &str, default: i64) -> Answer<Offset> {
    Ok(Offset(number(args, key)?.unwrap_or(default)))
}

fn terms(min_insync_replicas: usize) -> Terms {
    Terms { min_insync_replicas, lag_time_max: LAG }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        let mut args = command.consume_args();
        let answer = self.execute(&command.name, &mut args)?;
        args.reject_next()?;
        Ok(answer)
    }

    fn end_block(&mut self, _: &Block) -> Answer {
        Ok(self.partition.as_ref().map(show).unwrap_or_default())
    }
}

fn show(partition: &Partition) -> String {
    let replicas = partition.replicas();
    let isr: Vec<_> = replicas.in_sync.iter().map(ToString::to_string).collect();
    let mut line = format!(
        "= {} epoch={} version={} isr={} end={} hw={}",
        match partition.leadership().is_leader() {
            true => "leader".to_owned(),
            false => format!("follower of {}", replicas.leader),
        },
        replicas.leader_epoch,
        replicas.partition_epoch,
        isr.join(","),
        partition.log_end(),
        partition.high_watermark()
    );
    if let Some(start) = partition.epoch_start() {
        line += &format!(" epoch-start={start}");
    }
    line
}

fn advance(advance: Advance) -> String {
    if advance.advanced { format!("committed {}\n", advance.high_watermark) } else { String::new() }
}

impl Script {
    fn execute(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Answer {
        let brokers: Brokers = self.brokers.iter().map(|(id, status)| (*id, *status)).collect();
        let moment = Moment { now: self.now, brokers: &brokers };
        match name {
            "new" => return self.new_partition(args),
            "broker" => return self.broker(args),
            "wait" => {
                let millis = args.next_pos().ok_or("how long?")?.parse()?;
                self.now = self.now + Duration::from_millis(millis);
                return Ok(String::new());
            }
            _ => {}
        }
        let partition = self.partition.as_mut().ok_or("no partition")?;
        Ok(match name {
            "news" => news(partition, args, &moment)?,
            "append" => {
                let end = args.next_pos().ok_or("to where?")?.parse()?;
                advance(partition.appended(Offset(end), &moment))
            }
            "fetch" => fetch(partition, args, &moment)?,
            "expand" => {
                let proposal = partition.propose_expansion(&moment);
                let told = proposed(proposal.as_ref());
                self.proposal = proposal.or(self.proposal.take());
                told
            }
            "shrink" => {
                let proposal = partition.propose_shrink(&moment);
                let told = proposed(proposal.as_ref());
                self.proposal = proposal.or(self.proposal.take());
                told
            }
            "time" => advance(partition.time_passed(&moment)),
            "answer" => {
                let answer = answer(args, partition)?;
                let proposal = self.proposal.as_ref().ok_or("nothing was proposed")?;
                let follow_up = partition.isr_answered(proposal, answer, &moment);
                let retry = if follow_up.retry.is_some() { "once more\n" } else { "" };
                advance(follow_up.advance) + retry
            }
            "min-isr" => {
                let min = args.next_pos().ok_or("how many?")?.parse()?;
                advance(partition.terms_changed(terms(min), &moment))
            }
            "fetched" => {
                let end = Offset(args.next_pos().ok_or("to where?")?.parse()?);
                let current = partition.leadership().epoch().0;
                let epoch = LeaderEpoch(number(args, "epoch")?.unwrap_or(current));
                let leader = offset(args, "hw", 0)?;
                partition.fetched(epoch, end, leader).map_or("not any more\n".into(), advance)
            }
            "truncated" => {
                let end = args.next_pos().ok_or("to where?")?.parse()?;
                partition.truncated(Offset(end));
                String::new()
            }
            "position" => format!("{:?}\n", partition.fetch_position()),
            "low" => {
                let start = Offset(args.next_pos().ok_or("where does the log begin?")?.parse()?);
                format!("{:?}\n", partition.low_watermark(start, &moment).map(|offset| offset.0))
            }
            "acks" => {
                let before = partition.check_min_isr();
                let before = before.map_or_else(|error| error.to_string(), |()| "yes".into());
                format!("before: {before}; after: {}\n", partition.has_min_isr())
            }
            unknown => return Err(format!("no command {unknown}").into()),
        })
    }

    fn new_partition(&mut self, args: &mut ArgumentConsumer<'_>) -> Answer {
        let assigned: Vec<BrokerId> = ids(args.take_key("replicas").ok_or("replicas?")?);
        for id in &assigned {
            let status = BrokerStatus { epoch: BrokerEpoch(i64::from(id.0)), is_active: true };
            self.brokers.insert(*id, status);
        }
        let replicas = Replicas {
            leader: BrokerId(number(args, "leader")?.ok_or("leader?")?),
            leader_epoch: LeaderEpoch(number(args, "epoch")?.unwrap_or(0)),
            partition_epoch: number(args, "version")?.unwrap_or(0),
            in_sync: match args.take_key("isr") {
                Some(isr) => ids(isr),
                None => assigned.iter().copied().collect(),
            },
            assigned,
        };
        let terms = terms(number(args, "min-isr")?.unwrap_or(1));
        let log = (offset(args, "end", 0)?, offset(args, "hw", 0)?);
        let brokers: Brokers = self.brokers.iter().map(|(id, status)| (*id, *status)).collect();
        let moment = Moment { now: self.now, brokers: &brokers };
        self.partition = Some(Partition::new(BrokerId(1), replicas, log, terms, &moment));
        Ok(String::new())
    }

    fn broker(&mut self, args: &mut ArgumentConsumer<'_>) -> Answer {
        let id = BrokerId(args.next_pos().ok_or("which?")?.parse()?);
        let epoch = BrokerEpoch(number(args, "epoch")?.unwrap_or(i64::from(id.0)));
        let is_active = args.next_pos().is_none_or(|word| word != "fenced");
        self.brokers.insert(id, BrokerStatus { epoch, is_active });
        Ok(String::new())
    }
}

fn proposed(proposal: Option<&IsrProposal>) -> String {
    let Some(proposal) = proposal else { return "nothing\n".to_owned() };
    let isr = proposal.isr.iter().map(|member| format!("{}@{}", member.id, member.broker_epoch));
    let (epoch, version) = (proposal.leader_epoch, proposal.partition_epoch);
    format!("propose {} epoch={epoch} version={version}\n", isr.collect::<Vec<_>>().join(","))
}

fn news(partition: &mut Partition, args: &mut ArgumentConsumer<'_>, moment: &Moment<'_>) -> Answer {
    let mut replicas = partition.replicas().clone();
    if let Some(leader) = number(args, "leader")? {
        replicas.leader = BrokerId(leader);
    }
    if let Some(epoch) = number(args, "epoch")? {
        replicas.leader_epoch = LeaderEpoch(epoch);
    }
    replicas.partition_epoch = number(args, "version")?.unwrap_or(replicas.partition_epoch + 1);
    if let Some(isr) = args.take_key("isr") {
        replicas.in_sync = ids(isr);
    }
    if let Some(assigned) = args.take_key("replicas") {
        replicas.assigned = ids(assigned);
    }
    let log_end = offset(args, "log", partition.log_end().0)?;
    let before = partition.high_watermark();
    let changed = partition.replicas_changed(replicas, log_end, moment);
    let high_watermark = partition.high_watermark();
    let moved = advance(Advance { high_watermark, advanced: high_watermark != before });
    Ok(if changed { moved } else { "old\n".to_owned() })
}

fn fetch(
    partition: &mut Partition,
    args: &mut ArgumentConsumer<'_>,
    moment: &Moment<'_>,
) -> Answer {
    let follower = BrokerId(args.next_pos().ok_or("who?")?.parse()?);
    let current = partition.leadership().epoch().0;
    let fetch = FollowerFetch {
        follower,
        broker_epoch: BrokerEpoch(number(args, "broker-epoch")?.unwrap_or(i64::from(follower.0))),
        leader_epoch: LeaderEpoch(number(args, "epoch")?.unwrap_or(current)),
        offset: offset(args, "at", 0)?,
        log_start: offset(args, "start", 0)?,
        leader_log_start: offset(args, "leader-start", 0)?,
        leader_log_end: offset(args, "end", partition.log_end().0)?,
    };
    Ok(match partition.follower_fetched(&fetch, moment) {
        Ok(moved) => advance(moved),
        Err(error) => format!("{error:?}\n"),
    })
}

fn answer(args: &mut ArgumentConsumer<'_>, partition: &Partition) -> Answer<IsrAnswer> {
    if let Some(isr) = args.take_key("isr") {
        let known = partition.replicas();
        let (epoch, version) = (known.leader_epoch.0, known.partition_epoch + 1);
        return Ok(IsrAnswer::Changed {
            leader_epoch: LeaderEpoch(number(args, "epoch")?.unwrap_or(epoch)),
            partition_epoch: number(args, "version")?.unwrap_or(version),
            isr: ids(isr),
        });
    }
    let code = match args.next_pos().ok_or("which error?")? {
        "INVALID_UPDATE_VERSION" => ErrorCode::InvalidUpdateVersion,
        "FENCED_LEADER_EPOCH" => ErrorCode::FencedLeaderEpoch,
        "INELIGIBLE_REPLICA" => ErrorCode::IneligibleReplica,
        "OPERATION_NOT_ATTEMPTED" => ErrorCode::OperationNotAttempted,
        "UNKNOWN_TOPIC_ID" => ErrorCode::UnknownTopicId,
        "NEW_LEADER_ELECTED" => ErrorCode::NewLeaderElected,
        "NOT_CONTROLLER" => ErrorCode::NotController,
        other => return Err(format!("no error {other}").into()),
    };
    Ok(IsrAnswer::Refused(code))
}
