//! The task that keeps a member's place in its group while the application works. Kafka:
//! `HeartbeatThread`.

use std::sync::Arc;

use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{HeartbeatRequest, LeaveGroupRequest};
use ottla_protocol::{ErrorCode, StrBytes, message};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::membership::{Beat, Identity, Membership};
use crate::silence::Patience;
use crate::{Client, ClientError, Connection, CoordinatorKey};

/// A place in a group, shared by the consumer and the task that keeps it.
pub(super) struct Place {
    pub(super) membership: Mutex<Membership>,
    /// The task is to look again.
    pub(super) wake_task: Notify,
    /// The consumer is to look again.
    pub(super) wake_consumer: Notify,
    pub(super) client: Client,
    pub(super) key: CoordinatorKey,
    pub(super) group: String,
    pub(super) instance_id: Option<String>,
}

/// Sends heartbeats until it is dropped.
pub(super) async fn run(place: Arc<Place>) {
    let clock = Arc::clone(&place.client.env().clock);
    loop {
        let now = clock.now();
        let beat = place.membership.lock().beat(now);
        match beat {
            Beat::Idle => place.wake_task.notified().await,
            Beat::Until(then) => tokio::select! {
                biased;
                () = place.wake_task.notified() => {}
                () = clock.sleep(then.since(now)) => {}
            },
            Beat::Send(identity) => {
                let answer = place.heartbeat(&identity).await;
                place.membership.lock().beaten(clock.now(), &identity, &answer);
                if answer.is_err() {
                    place.wake_consumer.notify_one();
                }
            }
            Beat::Leave(identity) => {
                tracing::warn!(
                    group = %place.group,
                    "nobody polled for max.poll.interval.ms: leaving the group. Poll more often, or raise it."
                );
                if let Err(error) = place.leave(&identity, "poll interval exceeded").await {
                    tracing::debug!(%error, "the group was not told");
                }
            }
        }
    }
}

impl Place {
    async fn heartbeat(&self, identity: &Identity) -> Result<(), ClientError> {
        let request = message!(HeartbeatRequest {
            group_id: StrBytes::from(self.group.as_str()),
            generation_id: identity.generation,
            member_id: StrBytes::from(identity.member_id.as_str()),
            group_instance_id: self.instance_id.as_deref().map(StrBytes::from),
        });
        let beat = |connection: Connection| async move {
            let response = connection.call(&request).await?;
            ClientError::check(ErrorCode::from_wire(response.error_code), None)
        };
        self.client.ask_coordinator_once(&self.key, Patience::SHORT, beat).await
    }

    /// Gives the place up, once. Who goes on without an answer is thrown out after
    /// `session.timeout.ms`.
    pub(super) async fn leave(&self, identity: &Identity, reason: &str) -> Result<(), ClientError> {
        let leave = |connection: Connection| async move {
            self.leave_at(&connection, identity, reason).await
        };
        self.client.ask_coordinator_once(&self.key, Patience::SHORT, leave).await
    }

    async fn leave_at(
        &self,
        connection: &Connection,
        identity: &Identity,
        reason: &str,
    ) -> Result<(), ClientError> {
        /// From this version on several may leave at once (KIP-345).
        const FIRST_VERSION_WITH_MEMBERS: i16 = 3;
        /// From this version on a reason is given (KIP-800).
        const FIRST_VERSION_WITH_REASON: i16 = 5;
        let version = connection.version_of::<LeaveGroupRequest>()?;
        let mut request =
            message!(LeaveGroupRequest { group_id: StrBytes::from(self.group.as_str()) });
        let member_id = StrBytes::from(identity.member_id.as_str());
        if version >= FIRST_VERSION_WITH_MEMBERS {
            let reason = (version >= FIRST_VERSION_WITH_REASON).then(|| StrBytes::from(reason));
            request.members = vec![message!(MemberIdentity {
                member_id: member_id,
                group_instance_id: self.instance_id.as_deref().map(StrBytes::from),
                reason: reason,
            })];
        } else {
            request.member_id = member_id;
        }
        let response = connection.call(&request).await?;
        ClientError::check(ErrorCode::from_wire(response.error_code), None)
    }
}
