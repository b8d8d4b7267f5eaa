//! What can go wrong between a client and a cluster.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode, StrBytes, Versions};

/// Why a call has no response, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at that address.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The connection ended before the response came. The request may have been carried out.
    #[error("the connection to {address} ended: {reason}")]
    Closed {
        /// `host:port`.
        address: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The response did not come in time. The request may have been carried out.
    #[error("{address} did not answer {api} within {limit:?}")]
    TimedOut {
        /// `host:port`.
        address: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// How long the client waited.
        limit: Duration,
    },
    /// Client and broker have no version of an API in common.
    #[error("{api} is not to be had from the broker: client {client}, broker {}", broker.map_or("none".to_owned(), |v| v.to_string()))]
    NoCommonVersion {
        /// The API.
        api: ApiKey,
        /// What the client speaks.
        client: Versions,
        /// What the broker speaks, if it knows the API at all.
        broker: Option<Versions>,
    },
    /// The request cannot be said in the version agreed on.
    #[error("the request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The response is not one.
    #[error("the response cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The broker answered with an error.
    #[error("{}: {}", code.name(), message.as_deref().unwrap_or(code.message()))]
    Refused {
        /// Which.
        code: ErrorCode,
        /// In the broker's words, if it has any.
        message: Option<String>,
    },
    /// The broker's answer contradicts the protocol.
    #[error("the broker's answer makes no sense: {0}")]
    Nonsense(String),
}

impl ClientError {
    /// An error of the broker without words.
    pub fn refused(code: ErrorCode) -> Self {
        Self::Refused { code, message: None }
    }

    /// What an answer's error code and words come to.
    pub(crate) fn check(code: ErrorCode, message: Option<StrBytes>) -> Result<(), Self> {
        if code.is_none() {
            return Ok(());
        }
        Err(Self::Refused { code, message: message.map(StrBytes::into_string) })
    }

    /// The same error for another who waited for it.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Connect { address, error } => Self::Connect {
                address: address.clone(),
                error: io::Error::new(error.kind(), error.to_string()),
            },
            Self::Closed { address, reason } => {
                Self::Closed { address: address.clone(), reason: reason.clone() }
            }
            Self::TimedOut { address, api, limit } => {
                Self::TimedOut { address: address.clone(), api: *api, limit: *limit }
            }
            Self::NoCommonVersion { api, client, broker } => {
                Self::NoCommonVersion { api: *api, client: *client, broker: *broker }
            }
            Self::Refused { code, message } => {
                Self::Refused { code: *code, message: message.clone() }
            }
            Self::Encode(_) | Self::Decode(_) | Self::Nonsense(_) => {
                Self::Nonsense(self.to_string())
            }
        }
    }

    /// The broker's error code, if it answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Connect { .. }
            | Self::Closed { .. }
            | Self::TimedOut { .. }
            | Self::NoCommonVersion { .. }
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::Nonsense(_) => None,
        }
    }

    /// Whether trying again, perhaps elsewhere, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::NoCommonVersion { .. }
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::Nonsense(_) => false,
        }
    }

    /// Whether another broker may be the coordinator now, or this one is gone.
    pub fn is_coordinator_lost(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => {
                matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
            }
            Self::NoCommonVersion { .. }
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::Nonsense(_) => false,
        }
    }

    /// Whether the request may have been carried out although there is no answer.
    pub fn is_indeterminate(&self) -> bool {
        match self {
            Self::Closed { .. } | Self::TimedOut { .. } | Self::Decode(_) | Self::Nonsense(_) => {
                true
            }
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::NetworkException
                    // Written, but the sync that `flush.messages` asks for failed.
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::UnknownServerError
            ),
            Self::Connect { .. } | Self::NoCommonVersion { .. } | Self::Encode(_) => false,
        }
    }
}
