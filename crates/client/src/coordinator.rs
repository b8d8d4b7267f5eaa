//! Finds the brokers that coordinate groups and transactions. Kafka: `CoordinatorStrategy`.

use std::time::Duration;

use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use crate::client::{Purpose, endpoint};
use crate::silence::Patience;
use crate::{Client, ClientError, Connection};

/// From this version on a request names several keys (KIP-699).
const FIRST_VERSION_WITH_KEYS: i16 = 4;

/// What a coordinator coordinates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorKey {
    /// A group, by `group.id`.
    Group(String),
    /// A transactional producer, by `transactional.id` (KIP-98).
    Transaction(String),
    /// A partition of a share group: `group:topic-id:partition` (KIP-932).
    Share(String),
}

impl CoordinatorKey {
    /// The number and the text in the request.
    fn parts(&self) -> (i8, &str) {
        match self {
            Self::Group(text) => (0, text),
            Self::Transaction(text) => (1, text),
            Self::Share(text) => (2, text),
        }
    }
}

impl Client {
    /// A connection to the coordinator of `key`, of its own: what waits there (JoinGroup) holds up
    /// nothing else.
    ///
    /// Which broker that is, is asked once, and again after [`Client::forget_coordinator`]. While
    /// there is none (`COORDINATOR_NOT_AVAILABLE`), it is asked for again every
    /// `retry.backoff.ms`, for `request.timeout.ms`.
    pub async fn coordinator(&self, key: &CoordinatorKey) -> Result<Connection, ClientError> {
        let clock = &self.env().clock;
        let deadline = clock.now() + self.options().request_timeout;
        loop {
            let error = match self.coordinator_once(key).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let pause = self.options().retry_backoff;
            if !error.is_retriable() || clock.now() + pause >= deadline {
                return Err(error);
            }
            clock.sleep(pause).await;
        }
    }

    /// [`Client::coordinator`] in a single attempt.
    pub(crate) async fn coordinator_once(
        &self,
        key: &CoordinatorKey,
    ) -> Result<Connection, ClientError> {
        self.ask_coordinator_once(key, Patience::SHORT, async |connection| Ok(connection)).await
    }

    /// A connection to a coordinator that is at `address`.
    pub(crate) async fn coordinator_at(&self, address: &str) -> Result<Connection, ClientError> {
        self.connection_for(address, Purpose::Coordinator).await
    }

    /// Which broker coordinates `key`, and where it is.
    pub(crate) async fn coordinator_address(
        &self,
        key: &CoordinatorKey,
    ) -> Result<(BrokerId, String), ClientError> {
        if let Some(known) = self.known_coordinators().get(key) {
            return Ok(known.clone());
        }
        let found = self.find_coordinator(key).await?;
        self.known_coordinators().insert(key.clone(), found.clone());
        Ok(found)
    }

    /// Forgets who coordinates `key`: it said `NOT_COORDINATOR`, or nothing.
    pub fn forget_coordinator(&self, key: &CoordinatorKey) {
        self.known_coordinators().remove(key);
    }

    /// Asks the coordinator of `key`, and tries again for `limit` what may pass: a coordinator
    /// that moved, that is still loading, that cannot be reached.
    ///
    /// `ask` turns the error codes of a response into [`ClientError::Refused`]. It may be carried
    /// out more than once.
    pub async fn ask_coordinator<T, A: Future<Output = Result<T, ClientError>>>(
        &self,
        key: &CoordinatorKey,
        limit: Duration,
        mut ask: impl FnMut(Connection) -> A,
    ) -> Result<T, ClientError> {
        let clock = &self.env().clock;
        let deadline = clock.now() + limit;
        loop {
            let asked = self.ask_coordinator_once(key, Patience::SHORT, &mut ask);
            let error = match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = self.options().retry_backoff;
            if !error.is_retriable() || clock.now() + pause >= deadline {
                return Err(error);
            }
            clock.sleep(pause).await;
        }
    }

    /// Asks who coordinates `key`, any broker that answers.
    pub(crate) async fn find_coordinator(
        &self,
        key: &CoordinatorKey,
    ) -> Result<(BrokerId, String), ClientError> {
        let (key_type, text) = key.parts();
        let question = |connection: Connection| async move {
            let version = connection.version_of::<FindCoordinatorRequest>()?;
            let mut request = message!(FindCoordinatorRequest { key_type: key_type });
            if version >= FIRST_VERSION_WITH_KEYS {
                request.coordinator_keys = vec![StrBytes::from(text)];
            } else {
                request.key = StrBytes::from(text);
            }
            connection.call(&request).await
        };
        found(self.ask_someone(question).await?, text)
    }
}

fn found(
    mut response: FindCoordinatorResponse,
    key: &str,
) -> Result<(BrokerId, String), ClientError> {
    let row = response.coordinators.iter().position(|row| row.key.as_str() == key);
    let (code, message, node, host, port) = match row {
        Some(row) => {
            let row = response.coordinators.swap_remove(row);
            (row.error_code, row.error_message, row.node_id, row.host, row.port)
        }
        None if !response.coordinators.is_empty() => {
            return Err(ClientError::Nonsense(format!("nothing about the coordinator of {key}")));
        }
        None => (
            response.error_code,
            response.error_message,
            response.node_id,
            response.host,
            response.port,
        ),
    };
    ClientError::check(ErrorCode::from_wire(code), message)?;
    Ok((BrokerId(node), endpoint(&host, port)))
}
