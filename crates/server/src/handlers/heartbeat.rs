//! Heartbeat: a member is still there, and hears of rebalances.

use std::sync::Arc;

use ottla_protocol::message;
use ottla_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &HeartbeatRequest) -> Answer {
    let heard =
        broker.groups().look(broker.offsets_partitions(), &request.group_id, |coordinator, now| {
            coordinator.heartbeat(now, request)
        });
    // What a heartbeat is told is soft: nothing of it has to be committed.
    Answer::now(match heard {
        Ok(heard) => heard.answer,
        Err(error) => message!(HeartbeatResponse { error_code: error.code() }),
    })
}
