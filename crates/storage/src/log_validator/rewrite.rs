//! Batches that cannot be stored as they came: the topic wants another compression, or the
//! header's largest timestamp is not that of the records.

use bytes::Bytes;
use ottla_config::{LogConfig, TopicCompression};
use ottla_protocol::Timestamp;
use ottla_protocol::compression::{Compression, Compressor, DecompressError};
use ottla_protocol::record_batch::{
    HEADER_LENGTH, LOG_OVERHEAD, RecordBatch, RecordError, batches,
};

use super::ValidationRules;
use crate::append::AppendError;
use crate::log_dir::LentDecompressor;

/// Lowest bits of the attributes: the codec.
const CODEC_MASK: i16 = 0b111;

/// The batch as it is to be stored; `None` if it is good as it is.
pub(super) fn rewrite(
    batch: &RecordBatch<'_>,
    rules: &ValidationRules<'_>,
    max_timestamp: Timestamp,
    decompressor: &mut LentDecompressor<'_>,
) -> Result<Option<Vec<u8>>, AppendError> {
    let codec = batch.compression()?;
    let wanted = stored_codec(rules.config, codec);
    let honest = rules.stamps_append_time() || batch.max_timestamp() == max_timestamp;
    if wanted == codec && honest {
        return Ok(None);
    }
    let mut bytes = vec![0; HEADER_LENGTH];
    if wanted == codec {
        bytes.extend_from_slice(batch.payload());
    } else {
        let limit = rules.decompressed_limit();
        let plain = decompressor
            .get()
            .decompress(codec, batch.payload(), limit)
            .map_err(|error: DecompressError| RecordError::from(error))?;
        Compressor::new(wanted, level(rules.config, wanted))
            .compress(&plain, &mut bytes)
            .map_err(|error| AppendError::invalid(error.to_string()))?;
    }
    put_header(&mut bytes, batch, wanted, max_timestamp);
    Ok(Some(bytes))
}

/// Fills in the header of `bytes`: that of `batch`, but for what changed, and the checksum.
fn put_header(bytes: &mut [u8], batch: &RecordBatch<'_>, codec: Compression, max: Timestamp) {
    let length = i32::try_from(bytes.len() - LOG_OVERHEAD).unwrap_or(i32::MAX);
    let attributes = batch.attributes() & !CODEC_MASK | i16::from(codec.id());
    bytes[..HEADER_LENGTH].copy_from_slice(&batch.as_bytes()[..HEADER_LENGTH]);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&max.0.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// All batches of `records`, with some replaced; each comes with its number, from 1.
pub(super) fn join(
    records: &Bytes,
    rewritten: Vec<(usize, Vec<u8>)>,
) -> Result<Bytes, AppendError> {
    let mut rewritten = rewritten.into_iter().peekable();
    let mut joined = Vec::with_capacity(records.len());
    for (index, batch) in batches(records).enumerate() {
        match rewritten.next_if(|(number, _)| *number == index + 1) {
            Some((_, bytes)) => joined.extend_from_slice(&bytes),
            None => joined.extend_from_slice(batch?.as_bytes()),
        }
    }
    Ok(joined.into())
}

fn stored_codec(config: &LogConfig, sent: Compression) -> Compression {
    match config.compression {
        TopicCompression::Producer => sent,
        TopicCompression::Uncompressed => Compression::None,
        TopicCompression::Gzip => Compression::Gzip,
        TopicCompression::Snappy => Compression::Snappy,
        TopicCompression::Lz4 => Compression::Lz4,
        TopicCompression::Zstd => Compression::Zstd,
    }
}

fn level(config: &LogConfig, codec: Compression) -> Option<i32> {
    match codec {
        Compression::None | Compression::Snappy => None,
        Compression::Gzip => Some(config.gzip_level),
        Compression::Lz4 => Some(config.lz4_level),
        Compression::Zstd => Some(config.zstd_level),
    }
}
