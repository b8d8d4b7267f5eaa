use ottla_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::{BrokerId, Offset, Uuid, message};

use super::super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::image::BrokerRegistration;
use crate::record::{BrokerRegistrationChangeRecord, MetadataRecord};

/// Where a broker stands after a heartbeat. Kafka's `BrokerControlState`; drawn at
/// [`BrokerRegistration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerControlState {
    /// May not lead.
    Fenced,
    /// In service.
    Unfenced,
    /// Gives up what it leads.
    ControlledShutdown,
    /// Leads nothing, the others know it, and it may stop.
    ShutdownNow,
}

impl Controller {
    /// Hears what a broker wants and says what it may: to be unfenced when it has caught up, to be
    /// fenced, to shut down. It names the log directories that failed as well (KIP-858).
    ///
    /// Call [`heartbeat_heard`](Self::heartbeat_heard) too if the answer carries no error.
    pub fn broker_heartbeat(
        &self,
        request: &BrokerHeartbeatRequest,
    ) -> Outcome<BrokerHeartbeatResponse> {
        let id = BrokerId(request.broker_id);
        let broker = match self.check_broker_epoch(id, BrokerEpoch(request.broker_epoch)) {
            Ok(broker) => broker,
            Err(error) => {
                let error_code = error.error_code().code();
                return Outcome::only(message!(BrokerHeartbeatResponse { error_code: error_code }));
            }
        };
        let is_caught_up = request.current_metadata_offset >= self.known_at(broker).0;
        let next = self.next_state(broker, request, is_caught_up);
        let mut records = self.transition(broker, next);
        records.extend(self.directories_failed(broker, &request.offline_log_dirs));
        Outcome {
            records,
            answer: message!(BrokerHeartbeatResponse {
                is_caught_up: is_caught_up,
                is_fenced: matches!(
                    next,
                    BrokerControlState::Fenced | BrokerControlState::ShutdownNow
                ),
                should_shut_down: next == BrokerControlState::ShutdownNow,
            }),
        }
    }

    fn next_state(
        &self,
        broker: &BrokerRegistration,
        request: &BrokerHeartbeatRequest,
        is_caught_up: bool,
    ) -> BrokerControlState {
        use BrokerControlState::{ControlledShutdown, Fenced, ShutdownNow, Unfenced};
        // It would be made leader of what lies there, on an image in which nothing is to be taken from it.
        let loses_dirs =
            || broker.log_dirs.iter().any(|dir| request.offline_log_dirs.contains(dir));
        let leads = || self.leads_any(broker.id);
        if broker.fenced {
            // One that began to shut down comes back by registering anew, not by a change of mind.
            match (request.want_shut_down || broker.in_controlled_shutdown, request.want_fence) {
                (true, _) => ShutdownNow,
                (false, false) if is_caught_up && !loses_dirs() => Unfenced,
                (false, _) => Fenced,
            }
        } else if broker.in_controlled_shutdown {
            match leads() || !self.all_know_of_shutdown(broker) {
                true => ControlledShutdown,
                false => ShutdownNow,
            }
        } else {
            match (request.want_fence, request.want_shut_down) {
                (true, true) => ShutdownNow,
                (true, false) => Fenced,
                (false, true) if leads() => ControlledShutdown,
                (false, true) => ShutdownNow,
                (false, false) => Unfenced,
            }
        }
    }

    /// Up to where a broker must have read the metadata log to be in service: its registration, and that
    /// it was fenced since, for then others lead what it led. (Kafka asks for the registration alone.)
    fn known_at(&self, broker: &BrokerRegistration) -> Offset {
        let registered = Offset(broker.epoch.0);
        match broker.fenced {
            true => registered.max(self.changes.known_at(broker.id, broker.epoch)),
            false => registered,
        }
    }

    /// Whether every broker in service knows who leads in the place of this one. Who did not say yet how
    /// far it has read is not waited for.
    fn all_know_of_shutdown(&self, broker: &BrokerRegistration) -> bool {
        let begun = self.changes.known_at(broker.id, broker.epoch);
        let active = self.image.brokers().filter(|other| other.is_active());
        active
            .filter_map(|other| self.sessions.read(other.id, other.epoch))
            .all(|read| read >= begun)
    }

    /// Takes directories out of a broker's registration, and leadership from what lies in them
    /// (KIP-858). A broker without any directory stops; until then it keeps its last.
    fn directories_failed(
        &self,
        broker: &BrokerRegistration,
        failed: &[Uuid],
    ) -> Vec<MetadataRecord> {
        let (failing, online): (Vec<_>, Vec<_>) =
            broker.log_dirs.iter().copied().partition(|dir| failed.contains(dir));
        if failing.is_empty() || online.is_empty() {
            return Vec::new();
        }
        let mut records = self.failed_dir_updates(&failing);
        records.push(MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
            broker_id: broker.id,
            broker_epoch: broker.epoch,
            fenced: 0,
            in_controlled_shutdown: 0,
            log_dirs: online,
        }));
        records
    }

    fn transition(
        &self,
        broker: &BrokerRegistration,
        next: BrokerControlState,
    ) -> Vec<MetadataRecord> {
        match next {
            BrokerControlState::Fenced | BrokerControlState::ShutdownNow if !broker.fenced => {
                self.fence(broker)
            }
            BrokerControlState::Unfenced if broker.fenced => {
                let mut records = vec![registration_change(broker, -1, 0)];
                records.extend(self.leader_and_isr_updates(None, Some(broker.id)));
                records
            }
            BrokerControlState::ControlledShutdown if !broker.in_controlled_shutdown => {
                let mut records = vec![registration_change(broker, 0, 1)];
                records.extend(self.leader_and_isr_updates(Some(broker.id), None));
                records
            }
            BrokerControlState::Fenced
            | BrokerControlState::Unfenced
            | BrokerControlState::ControlledShutdown
            | BrokerControlState::ShutdownNow => Vec::new(),
        }
    }

    /// Takes leadership and ISR membership from a broker, then fences it.
    pub(super) fn fence(&self, broker: &BrokerRegistration) -> Vec<MetadataRecord> {
        let mut records = self.leader_and_isr_updates(Some(broker.id), None);
        records.push(registration_change(broker, 1, 0));
        records
    }
}

fn registration_change(
    broker: &BrokerRegistration,
    fenced: i8,
    in_controlled_shutdown: i8,
) -> MetadataRecord {
    MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        fenced,
        in_controlled_shutdown,
        log_dirs: Vec::new(),
    })
}
