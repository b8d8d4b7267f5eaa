//! Puts responses on the wire: bytes gathered into few system calls, file ranges without copying where that is cheaper.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use ottla_config::Sendfile;
use ottla_env::{File, Stream};
use ottla_storage::FileSlice;
use tokio::io::AsyncWriteExt;

use super::readahead::Readahead;
use crate::cold_reads::ColdReads;

/// A piece of a response.
#[derive(Clone)]
pub(crate) enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileSlice),
}

/// Slices up to this size are read into memory and leave with the bytes around them, in one system call.
const SMALL_SLICE: usize = 64 * 1024;
/// Bytes that were read for one system call and no more: what a peer that takes nothing has of the node's memory.
const MAX_RUN: usize = 1024 * 1024;
/// Larger slices leave in pieces of this size: each is in memory before it is sent, and between two others have a turn.
const PIECE: usize = 1024 * 1024;
/// A piece that is not sent by `sendfile` is read and written in bites of this size: they stay in the L2 cache.
const BITE: usize = 256 * 1024;
/// Slices of one `writev`; Linux takes up to 1024.
const MAX_SLICES: usize = 64;

/// Writes responses to one connection.
pub(super) struct ResponseWriter {
    sendfile: bool,
    cold_reads: Arc<ColdReads>,
    readahead: Readahead,
    bite: Vec<u8>,
}

impl ResponseWriter {
    pub(super) fn new(mode: Sendfile, cold_reads: Arc<ColdReads>) -> Self {
        // Every socket is plaintext so far, and there sendfile is faster and cheaper (bench/RESULTS.md).
        let sendfile = match mode {
            Sendfile::Auto | Sendfile::On => true,
            Sendfile::Off => false,
        };
        Self { sendfile, cold_reads, readahead: Readahead::default(), bite: Vec::new() }
    }

    /// Frees the buffer that large reads left behind.
    pub(super) fn shrink(&mut self) {
        self.bite = Vec::new();
    }

    /// Writes all of `parts`, in order.
    pub(super) async fn write_all(
        &mut self,
        stream: &mut dyn Stream,
        parts: &mut Vec<Part>,
    ) -> io::Result<()> {
        let mut run = Vec::new();
        let mut read = 0;
        for part in parts.drain(..) {
            match part {
                Part::Bytes(bytes) => run.push(bytes),
                Part::File(slice) if slice.len <= SMALL_SLICE => {
                    read += slice.len;
                    run.push(self.read(slice).await?);
                    if read > MAX_RUN {
                        write_run(stream, &mut run).await?;
                        read = 0;
                    }
                }
                Part::File(slice) => {
                    write_run(stream, &mut run).await?;
                    read = 0;
                    self.write_slice(stream, &slice).await?;
                }
            }
        }
        write_run(stream, &mut run).await
    }

    /// Reads a slice; if it is not in memory, without blocking this thread.
    async fn read(&mut self, slice: FileSlice) -> io::Result<Bytes> {
        let read = match slice.try_read() {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                self.readahead.missed(&slice);
                let missing = slice.clone();
                self.cold_reads.run(move || missing.read()).await
            }
            Err(error) => Err(error),
        };
        self.read_ahead(&slice);
        read.map_err(|error| match error.kind() == io::ErrorKind::UnexpectedEof {
            true => file_ended(),
            false => error,
        })
    }

    async fn write_slice(&mut self, stream: &mut dyn Stream, slice: &FileSlice) -> io::Result<()> {
        let mut sent = 0;
        while sent < slice.len {
            let piece = FileSlice {
                position: slice.position + sent as u64,
                len: (slice.len - sent).min(PIECE),
                ..slice.clone()
            };
            if !piece.is_in_memory() {
                self.readahead.missed(&piece);
                let missing = piece.clone();
                self.cold_reads.run(move || missing.bring_in()).await;
            }
            self.read_ahead(&piece);
            match self.sendfile {
                true => send_file(stream, &piece).await?,
                false => self.copy(stream, &piece).await?,
            }
            sent += piece.len;
        }
        Ok(())
    }

    /// Has the disk read what comes after `slice`, if the connection seems to want it.
    fn read_ahead(&mut self, slice: &FileSlice) {
        if let Some(ahead) = self.readahead.reads(slice) {
            self.cold_reads.read_ahead(Arc::clone(&slice.file), ahead.position, ahead.len);
        }
    }

    async fn copy(&mut self, stream: &mut dyn Stream, piece: &FileSlice) -> io::Result<()> {
        self.bite.resize(BITE, 0);
        let mut sent = 0;
        while sent < piece.len {
            let want = (piece.len - sent).min(BITE);
            let bite = self.bite.get_mut(..want).unwrap_or_default();
            let read = piece.file.read_at(bite, piece.position + sent as u64)?;
            if read == 0 {
                return Err(file_ended());
            }
            stream.write_all(bite.get(..read).unwrap_or_default()).await?;
            sent += read;
        }
        Ok(())
    }
}

async fn send_file(stream: &mut dyn Stream, piece: &FileSlice) -> io::Result<()> {
    let mut sent = 0;
    while sent < piece.len {
        let offset = piece.position + sent as u64;
        let file: &dyn File = &*piece.file;
        match poll_fn(|cx| stream.poll_send_file(cx, file, offset, piece.len - sent)).await? {
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
