//! Bytes on disk: the log manager, logs, segments, indexes, recovery.
