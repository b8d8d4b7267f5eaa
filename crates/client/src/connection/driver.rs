//! The task that owns the socket: writes requests, reads responses, matches one to the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_env::{Clock, ReadHalf, Stream, WriteHalf};
use ottla_protocol::{ApiKey, Frame, Monotonic, Part, decode_response_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Frames gathered into one write.
const MAX_GATHERED: usize = 32;
/// Pieces given to the system in one write; Linux takes at most 1024.
const MAX_SLICES: usize = 128;
/// Room kept for reading, in bytes.
const READ_CHUNK: usize = 64 * 1024;

/// What is to be sent.
pub(super) enum Outgoing {
    /// A request, and who waits for its response.
    Request(Frame, Expected),
    /// A request without a response.
    OneWay { frame: Frame, sent: oneshot::Sender<()>, _permit: OwnedSemaphorePermit },
}

/// A response to come.
pub(super) struct Expected {
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) reply: oneshot::Sender<Bytes>,
    /// Held until the response is there, whether or not someone still waits for it.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Why the connection ended, once it has.
#[derive(Clone, Default)]
pub(super) struct EndReason(Arc<OnceLock<String>>);

impl EndReason {
    pub(super) fn text(&self) -> String {
        self.0.get().cloned().unwrap_or_else(|| "given up after a timeout".to_owned())
    }
}

pub(super) struct Driver {
    reader: Reader,
    writer: Writer,
}

impl Driver {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        to_send: mpsc::Receiver<Outgoing>,
        max_in_flight: usize,
        max_frame_bytes: usize,
        heard: Heard,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (expect, expected) = mpsc::channel(max_in_flight);
        Self {
            reader: Reader { read, buffer: BytesMut::new(), expected, max_frame_bytes, heard },
            writer: Writer { write, to_send, expect },
        }
    }

    /// Runs until the connection ends, nobody holds it any more, or it was `idle` for too long.
    pub(super) async fn run(mut self, idle: Idle, end: EndReason) {
        let ended = tokio::select! {
            ended = self.reader.run() => ended,
            ended = self.writer.run() => ended,
            ended = idle.over() => ended,
        };
        let reason = ended.map_or_else(|error| error.to_string(), |()| "closed".to_owned());
        let _first_reason_counts = end.0.set(reason);
        // What waits is dropped with `self`, and its callers find the reason set.
    }
}

/// When the other end last had no reason to speak, or spoke.
#[derive(Clone)]
pub(super) struct Heard {
    clock: Arc<dyn Clock>,
    /// Nanoseconds of the clock.
    at: Arc<AtomicU64>,
}

impl Heard {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let heard = Self { clock, at: Arc::default() };
        heard.note();
        heard
    }

    pub(super) fn note(&self) {
        let Monotonic(now) = self.clock.now();
        self.at.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(super) fn ago(&self) -> Duration {
        let at = Monotonic(Duration::from_nanos(self.at.load(Ordering::Relaxed)));
        self.clock.now().since(at)
    }
}

/// Whether a connection is used: looked at now and then, so that no request has to tell.
pub(super) struct Idle {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limit: Option<Duration>,
    /// One is taken by each request that is under way.
    pub(super) permits: Arc<Semaphore>,
    pub(super) max_in_flight: usize,
    /// How many requests there were.
    pub(super) requests: Arc<AtomicI32>,
}

impl Idle {
    /// Ends when there was no request for `limit`, looked at twice in that time; no new one begins then.
    async fn over(self) -> io::Result<()> {
        let Some(limit) = self.limit else { return std::future::pending().await };
        let (mut seen, mut looks) = (self.requests.load(Ordering::Relaxed), 0);
        loop {
            self.clock.sleep(limit / 2).await;
            let requests = self.requests.load(Ordering::Relaxed);
            let unused = requests == seen && self.permits.available_permits() == self.max_in_flight;
            looks = if unused { looks + 1 } else { 0 };
            seen = requests;
            if looks >= 2 {
                self.permits.close();
                return Err(io::Error::other(format!(
                    "idle for {limit:?} (connections.max.idle.ms)"
                )));
            }
        }
    }
}

struct Writer {
    write: Box<dyn WriteHalf>,
    to_send: mpsc::Receiver<Outgoing>,
    expect: mpsc::Sender<Expected>,
}

impl Writer {
    async fn run(&mut self) -> io::Result<()> {
        let mut gathered = Vec::with_capacity(MAX_GATHERED);
        while self.to_send.recv_many(&mut gathered, MAX_GATHERED).await > 0 {
            let mut pieces = VecDeque::new();
            let mut sent_only = Vec::new();
            for outgoing in gathered.drain(..) {
                let frame = match outgoing {
                    Outgoing::Request(frame, expected) => {
                        // There is a place: the queue is as long as there are permits.
                        self.expect.try_send(expected).map_err(io::Error::other)?;
                        frame
                    }
                    Outgoing::OneWay { frame, sent, _permit } => {
                        sent_only.push((sent, _permit));
                        frame
                    }
                };
                pieces.extend(frame.parts.into_iter().map(|part| match part {
                    Part::Bytes(bytes) | Part::Records(bytes) => bytes,
                }));
            }
            write_all(&mut *self.write, pieces).await?;
            self.write.flush().await?;
            for (sent, _permit) in sent_only {
                let _nobody_waits = sent.send(());
            }
        }
        self.write.shutdown().await
    }
}

/// Writes all pieces, as many at once as the system takes.
async fn write_all(write: &mut dyn WriteHalf, mut pieces: VecDeque<Bytes>) -> io::Result<()> {
    loop {
        while pieces.front().is_some_and(Bytes::is_empty) {
            pieces.pop_front();
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let slices: Vec<IoSlice<'_>> =
            pieces.iter().take(MAX_SLICES).map(|piece| IoSlice::new(piece)).collect();
        let mut written =
            poll_fn(|cx| Pin::new(&mut *write).poll_write_vectored(cx, &slices)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(piece) = pieces.front_mut() {
            let step = written.min(piece.len());
            piece.advance(step);
            written -= step;
            if !piece.is_empty() {
                break;
            }
            pieces.pop_front();
        }
    }
}

struct Reader {
    read: Box<dyn ReadHalf>,
    buffer: BytesMut,
    expected: mpsc::Receiver<Expected>,
    max_frame_bytes: usize,
    heard: Heard,
}

impl Reader {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let frame = self.next_frame().await?;
            let expected = self
                .expected
                .try_recv()
                .map_err(|_| invalid("a response came that was not asked for".to_owned()))?;
            let (correlation_id, body) =
                decode_response_header(&frame, expected.api, expected.version)
                    .map_err(|error| invalid(error.to_string()))?;
            if correlation_id != expected.correlation_id {
                let wanted = expected.correlation_id;
                let text = format!("response {correlation_id} came instead of response {wanted}");
                return Err(invalid(text));
            }
            self.heard.note();
            let _caller_gave_up = expected.reply.send(body);
        }
    }

    /// The next frame without its length.
    async fn next_frame(&mut self) -> io::Result<Bytes> {
        self.fill(4).await?;
        let length = self.buffer.get_i32();
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.max_frame_bytes)
            .ok_or_else(|| {
                let limit = self.max_frame_bytes;
                invalid(format!("a response of {length} bytes came, above the limit of {limit}"))
            })?;
        self.fill(length).await?;
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Reads until the buffer holds `length` bytes.
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.buffer.reserve((length - self.buffer.len()).max(READ_CHUNK));
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the broker closed the connection",
                ));
            }
        }
        Ok(())
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
