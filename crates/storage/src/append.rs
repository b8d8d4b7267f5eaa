//! What is appended, what comes of it, and why it may be refused.

use ottla_protocol::record_batch::RecordBatchError;
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp, record_batch};
use thiserror::Error;

use crate::log_dir::LogDirFailure;
use crate::producer_state::ProducerStateError;

/// Where records come from. Kafka's `AppendOrigin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A produce request: everything is checked.
    Client,
    /// A coordinator of this node: control batches are allowed, sequences are not checked.
    Coordinator,
    /// The leader of the partition, whose log this one repeats.
    Replication,
    /// The metadata quorum.
    RaftLeader,
}

/// How a leader appends.
#[derive(Clone, Copy, Debug)]
pub struct LeaderAppend {
    /// The leader's epoch, stamped on every batch.
    pub leader_epoch: LeaderEpoch,
    /// Who sent the records.
    pub origin: AppendOrigin,
    /// The wall clock, for timestamps.
    pub now: Timestamp,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogAppendInfo {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The broker's time if the topic stamps it (`message.timestamp.type=LogAppendTime`), else
    /// [`Timestamp::NONE`].
    pub log_append_time: Timestamp,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// The log's end after the append.
    pub log_end_offset: Offset,
    /// The batch was there already, and nothing was written: the offsets are those it has.
    pub duplicate: bool,
    /// `flush.messages` is reached: [`Log::flush`](crate::Log::flush) before acknowledging.
    pub flush_due: bool,
}

/// One record that was refused (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Position of the record in its batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why nothing was appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// `CORRUPT_MESSAGE`: a batch fails its checksum, or has impossible offsets.
    #[error("corrupt record batch: {0}")]
    CorruptMessage(String),
    /// The bytes are not whole batches of format 2.
    #[error(transparent)]
    MalformedBatch(#[from] RecordBatchError),
    /// The records of a batch are not what its header says.
    #[error(transparent)]
    MalformedRecords(#[from] record_batch::RecordError),
    /// `MESSAGE_TOO_LARGE`
    #[error("a record batch of {size} bytes is larger than max.message.bytes, {max}")]
    RecordTooLarge {
        /// Size of the batch in bytes.
        size: usize,
        /// The limit in bytes.
        max: u32,
    },
    /// `RECORD_LIST_TOO_LARGE`
    #[error("{size} bytes of batches do not fit into a segment of {max} bytes")]
    RecordListTooLarge {
        /// Size of all batches in bytes.
        size: usize,
        /// `segment.bytes`.
        max: u32,
    },
    /// `INVALID_RECORD`, with the records at fault where single ones are.
    #[error("{message}")]
    InvalidRecord {
        /// What is wrong.
        message: String,
        /// The records at fault, or the first thousand of them.
        record_errors: Vec<RecordError>,
    },
    /// `INVALID_TIMESTAMP`
    #[error("{message}")]
    InvalidTimestamp {
        /// What is wrong.
        message: String,
        /// The records at fault, or the first thousand of them.
        record_errors: Vec<RecordError>,
    },
    /// The producer is out of step or fenced.
    #[error(transparent)]
    ProducerState(#[from] ProducerStateError),
    /// Offsets given by a leader do not follow the log's end.
    #[error("offset {first} was appended to a log that ends at {log_end}")]
    UnexpectedOffset {
        /// First offset of the batch.
        first: Offset,
        /// The log's end.
        log_end: Offset,
    },
    /// `KAFKA_STORAGE_ERROR`: the disk failed, or the log is deleted or closed.
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

impl AppendError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRecord { message: message.into(), record_errors: Vec::new() }
    }

    /// The code a client is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::CorruptMessage(_) => ErrorCode::CorruptMessage,
            Self::RecordTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
            Self::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            Self::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::MalformedBatch(error) => error.error_code(),
            Self::MalformedRecords(error) => error.error_code(),
            Self::ProducerState(error) => match error {
                ProducerStateError::OutOfOrderSequence { .. } => {
                    ErrorCode::OutOfOrderSequenceNumber
                }
                ProducerStateError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                ProducerStateError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
                ProducerStateError::TransactionCoordinatorFenced { .. } => {
                    ErrorCode::TransactionCoordinatorFenced
                }
            },
            Self::UnexpectedOffset { .. } => ErrorCode::UnknownServerError,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }

    /// The records at fault (KIP-467); empty if the whole batch is.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::InvalidRecord { record_errors, .. }
            | Self::InvalidTimestamp { record_errors, .. } => record_errors,
            Self::CorruptMessage(_)
            | Self::RecordTooLarge { .. }
            | Self::RecordListTooLarge { .. }
            | Self::MalformedBatch(_)
            | Self::MalformedRecords(_)
            | Self::ProducerState(_)
            | Self::UnexpectedOffset { .. }
            | Self::Storage(_) => &[],
        }
    }
}
