//! Puts responses on the wire: bytes gathered into few system calls, file ranges without copying where that is cheaper.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use ottla_config::Sendfile;
use ottla_env::{File, Stream};
use tokio::io::AsyncWriteExt;

/// A piece of a response.
#[derive(Clone)]
pub(crate) enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

/// Bytes of a log segment.
#[derive(Clone)]
pub(crate) struct FileRange {
    /// The segment's file, which stays readable after the segment is deleted.
    pub(crate) file: Arc<dyn File>,
    /// Where the range starts.
    pub(crate) position: u64,
    /// Its length in bytes.
    pub(crate) len: usize,
}

/// Ranges up to this size are read into memory and leave with the bytes around them, in one system call.
const SMALL_RANGE: usize = 64 * 1024;
/// A larger range that is not sent by `sendfile` is read and written in pieces of this size: they stay in the L2 cache.
const PIECE: usize = 256 * 1024;
/// Slices of one `writev`; Linux takes up to 1024.
const MAX_SLICES: usize = 64;

/// Writes responses to one connection.
pub(super) struct ResponseWriter {
    sendfile: bool,
    piece: Vec<u8>,
}

impl ResponseWriter {
    pub(super) fn new(mode: Sendfile) -> Self {
        // Every socket is plaintext so far, and there sendfile is faster and cheaper (bench/RESULTS.md).
        let sendfile = match mode {
            Sendfile::Auto | Sendfile::On => true,
            Sendfile::Off => false,
        };
        Self { sendfile, piece: Vec::new() }
    }

    /// Frees the buffer that large reads left behind.
    pub(super) fn shrink(&mut self) {
        self.piece = Vec::new();
    }

    /// Writes all of `parts`, in order.
    pub(super) async fn write_all(
        &mut self,
        stream: &mut dyn Stream,
        parts: &mut Vec<Part>,
    ) -> io::Result<()> {
        let mut run = Vec::new();
        for part in parts.drain(..) {
            match part {
                Part::Bytes(bytes) => run.push(bytes),
                Part::File(range) if range.len <= SMALL_RANGE => run.push(read_range(&range)?),
                Part::File(range) => {
                    write_run(stream, &mut run).await?;
                    self.write_range(stream, &range).await?;
                }
            }
        }
        write_run(stream, &mut run).await
    }

    async fn write_range(&mut self, stream: &mut dyn Stream, range: &FileRange) -> io::Result<()> {
        if self.sendfile { send_file(stream, range).await } else { self.copy(stream, range).await }
    }

    async fn copy(&mut self, stream: &mut dyn Stream, range: &FileRange) -> io::Result<()> {
        self.piece.resize(PIECE, 0);
        let mut sent = 0;
        while sent < range.len {
            let want = (range.len - sent).min(PIECE);
            let piece = self.piece.get_mut(..want).unwrap_or_default();
            let read = range.file.read_at(piece, range.position + sent as u64)?;
            if read == 0 {
                return Err(file_ended());
            }
            stream.write_all(piece.get(..read).unwrap_or_default()).await?;
            sent += read;
        }
        Ok(())
    }
}

fn read_range(range: &FileRange) -> io::Result<Bytes> {
    let mut bytes = vec![0; range.len];
    match range.file.read_at(&mut bytes, range.position)? {
        read if read == range.len => Ok(bytes.into()),
        _ => Err(file_ended()),
    }
}

async fn send_file(stream: &mut dyn Stream, range: &FileRange) -> io::Result<()> {
    let mut sent = 0;
    while sent < range.len {
        let offset = range.position + sent as u64;
        let file = range.file.as_ref();
        match poll_fn(|cx| stream.poll_send_file(cx, file, offset, range.len - sent)).await? {
            0 => return Err(file_ended()),
            some => sent += some,
        }
    }
    Ok(())
}

/// The response already announced the length: without the bytes the connection cannot go on.
fn file_ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the segment is shorter than when it was read")
}

async fn write_run(stream: &mut dyn Stream, run: &mut Vec<Bytes>) -> io::Result<()> {
    let mut unsent = run.as_slice();
    let mut skip = 0;
    while !unsent.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = unsent.len().min(MAX_SLICES);
        for (slice, bytes) in slices.iter_mut().zip(unsent) {
            *slice = IoSlice::new(bytes);
        }
        if let (Some(first), Some(bytes)) = (slices.first_mut(), unsent.first()) {
            *first = IoSlice::new(bytes.get(skip..).unwrap_or_default());
        }
        let mut written =
            skip + stream.write_vectored(slices.get(..count).unwrap_or_default()).await?;
        if written == skip && unsent.iter().any(|bytes| bytes.len() > skip) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some((first, rest)) = unsent.split_first() {
            if written < first.len() {
                break;
            }
            written -= first.len();
            unsent = rest;
        }
        skip = written;
    }
    run.clear();
    Ok(())
}
