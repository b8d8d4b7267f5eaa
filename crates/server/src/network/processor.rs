//! One connection: frames in, responses out in the same order. Kafka's `Processor`, one per connection instead of a few
//! for all, because a task costs what a selection key does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_env::{BoxFuture, Env, Stream};
use ottla_protocol::Monotonic;
use tokio::io::AsyncReadExt;
use tokio::sync::{SemaphorePermit, watch};
use tracing::{debug, warn};

use super::mute::Mute;
use super::response_writer::ResponseWriter;
use super::{
    ConnectionContext, Outgoing, Part, PendingResponse, Reply, RequestChannel, wait_stopped,
};

/// Bytes before each frame that give its length.
const LENGTH_PREFIX: usize = 4;
/// Buffer of a connection that has little to say.
const SMALL_BUFFER: usize = 4 * 1024;
/// Buffer of a connection that fills the small one.
const BUSY_BUFFER: usize = 64 * 1024;
/// A large frame's buffer grows by this much, or doubles: memory follows what was sent, not what was announced.
const GROWTH: usize = 1024 * 1024;
/// Bytes of responses in memory beyond which no further request is handled before some have left.
const MAX_READY_BYTES: usize = 1024 * 1024;
/// A buffer that a large frame left behind is given back after this long.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// `connections.max.idle.ms=-1`: ten years.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why a connection was ended from this side.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer announced a request of {len} bytes; socket.request.max.bytes={max}")]
    FrameLength { len: i32, max: usize },
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotYet(String),
    #[error("no complete request for connections.max.idle.ms={}", .0.as_millis())]
    Idle(Duration),
}

/// A response that is due.
enum Pending {
    Ready(Vec<Part>),
    Waiting(PendingResponse),
}

/// The task of one connection.
pub(super) struct Processor {
    env: Env,
    stream: Box<dyn Stream>,
    context: ConnectionContext,
    channel: Arc<RequestChannel>,
    responses: Responses,
}

/// The responses of a connection, in the order of their requests.
struct Responses {
    pending: VecDeque<Pending>,
    /// The last request is one that later ones must not overtake.
    held: bool,
    /// Bytes in memory of the responses that are ready.
    ready_bytes: usize,
    /// For how long the client has to be silent when what is ready has left.
    throttle: Duration,
    /// Parts gathered for the next write; kept for its capacity.
    parts: Vec<Part>,
    writer: ResponseWriter,
}

impl Processor {
    pub(super) fn new(
        env: &Env,
        stream: Box<dyn Stream>,
        context: ConnectionContext,
        channel: Arc<RequestChannel>,
    ) -> Self {
        let writer = ResponseWriter::new(channel.sendfile(), Arc::clone(channel.cold_reads()));
        let pending = VecDeque::new();
        let responses = Responses {
            pending,
            held: false,
            ready_bytes: 0,
            throttle: Duration::ZERO,
            parts: Vec::new(),
            writer,
        };
        Self { env: env.clone(), stream, context, channel, responses }
    }

    /// Serves the connection until either side ends it or the node stops.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let peer = self.context.peer;
        let ended = tokio::select! {
            biased;
            () = wait_stopped(&mut stopped) => Ok(()),
            ended = self.serve() => ended,
        };
        match ended {
            Ok(()) => debug!(%peer, "connection ended"),
            Err(ConnectionError::Io(error)) => debug!(%peer, %error, "connection lost"),
            Err(reason @ ConnectionError::NotYet(_)) => debug!(%peer, %reason, "connection closed"),
            Err(reason) => warn!(%peer, %reason, "connection closed"),
        }
    }

    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let Self { env, stream, context, channel, responses } = self;
        let config = channel.config();
        let mut frames = FrameReader::new(config.request_max_bytes);
        let mut watchdog = Watchdog::new(env, config.connections_max_idle.unwrap_or(NEVER));
        let mut mute = Mute::new(env);
        loop {
            while !mute.is_on() && responses.room(config.queued_max_requests) {
                let Some((frame, permit)) = frames.buffered(channel).await? else { break };
                watchdog.active();
                responses.push(channel.dispatch(context, frame))?;
                drop(permit);
            }
            responses.gather_ready().await?;
            // Before the client can know of it, as Kafka counts (KIP-219).
            mute.extend(std::mem::take(&mut responses.throttle));
            watchdog.until_idle(responses.write_gathered(stream.as_mut())).await??;
            let room = !mute.is_on() && responses.room(config.queued_max_requests);
            if room && frames.has_arrived()? {
                // What left made room for a request that nothing may ever follow.
                continue;
            }
            tokio::select! {
                biased;
                ready = responses.head_ready() => {
                    ready?;
                    watchdog.active();
                }
                read = frames.read(stream.as_mut(), channel), if room => match read? {
                    0 if frames.buffer.is_empty() => return Ok(()),
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    _ => {}
                },
                () = mute.over() => watchdog.active(),
                () = &mut watchdog.timer => {
                    let waiting = mute.is_on() || !responses.pending.is_empty();
                    if watchdog.fired(waiting)? {
                        frames.shrink();
                        responses.writer.shrink();
                    }
                }
            }
            if frames.buffer.capacity() > BUSY_BUFFER {
                watchdog.shrink_soon();
            }
        }
    }
}

impl Responses {
    /// Whether another request may be handled before a response has left.
    fn room(&self, bound: usize) -> bool {
        self.pending.len() < bound
            && !self.held
            && self.ready_bytes < MAX_READY_BYTES
            && self.throttle.is_zero()
    }

    fn push(&mut self, reply: Reply) -> Result<(), ConnectionError> {
        match reply {
            Reply::Ready(Outgoing { parts, throttle }) => {
                self.throttle = self.throttle.max(throttle);
                self.ready_bytes += bytes_in_memory(&parts);
                self.pending.push_back(Pending::Ready(parts));
            }
            Reply::Later(response) => self.pending.push_back(Pending::Waiting(response)),
            Reply::Held(response) => {
                self.pending.push_back(Pending::Waiting(response));
                self.held = true;
            }
            Reply::Nothing => {}
            Reply::NotYet(reason) => return Err(ConnectionError::NotYet(reason)),
            Reply::Close(reason) => return Err(ConnectionError::Refused(reason)),
        }
        Ok(())
    }

    /// Completes when the oldest response, if it was still being waited for, can leave.
    async fn head_ready(&mut self) -> Result<(), ConnectionError> {
        let Some(Pending::Waiting(response)) = self.pending.front_mut() else {
            return std::future::pending().await;
        };
        let response = response.await;
        self.resolve_head(response)
    }

    fn resolve_head(&mut self, response: Result<Outgoing, String>) -> Result<(), ConnectionError> {
        let Outgoing { parts, throttle } = response.map_err(ConnectionError::Refused)?;
        self.throttle = self.throttle.max(throttle);
        if let Some(head) = self.pending.front_mut() {
            self.ready_bytes += bytes_in_memory(&parts);
            *head = Pending::Ready(parts);
        }
        // A held request is always the last one: when it is answered at the head, nothing waits behind it.
        self.held &= self.pending.len() > 1;
        Ok(())
    }

    /// Takes the responses at the head that can leave. Waits for nothing.
    async fn gather_ready(&mut self) -> Result<(), ConnectionError> {
        loop {
            match self.pending.front_mut() {
                Some(Pending::Ready(parts)) => {
                    self.ready_bytes -= bytes_in_memory(parts);
                    self.parts.append(parts);
                    self.pending.pop_front();
                }
                Some(Pending::Waiting(response)) => {
                    let polled = poll_fn(|cx| Poll::Ready(response.as_mut().poll(cx))).await;
                    let Poll::Ready(response) = polled else { break };
                    self.resolve_head(response)?;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Writes what was gathered, all in as few system calls as it fits in.
    async fn write_gathered(&mut self, stream: &mut dyn Stream) -> io::Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        self.writer.write_all(stream, &mut self.parts).await
    }
}

fn bytes_in_memory(parts: &[Part]) -> usize {
    let lens = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => bytes.len(),
        Part::File(_) => 0,
    });
    lens.sum()
}

/// Cuts frames out of the bytes that arrive.
struct FrameReader<'a> {
    max_frame: usize,
    buffer: BytesMut,
    /// How much room the next read asks for; grows when a read fills it.
    room: usize,
    /// The memory granted to the frame whose length is known and whose bytes are still coming.
    permit: Option<Option<SemaphorePermit<'a>>>,
}

impl<'a> FrameReader<'a> {
    fn new(max_frame: usize) -> Self {
        Self { max_frame, buffer: BytesMut::new(), room: SMALL_BUFFER, permit: None }
    }

    /// Length of the frame at the start of the buffer, once its prefix is there.
    fn frame_len(&self) -> Result<Option<usize>, ConnectionError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
        let len = i32::from_be_bytes(*prefix);
        let max = self.max_frame;
        match usize::try_from(len) {
            Ok(len) if len <= max => Ok(Some(len)),
            Ok(_) | Err(_) => Err(ConnectionError::FrameLength { len, max }),
        }
    }

    /// Whether all of the next frame is there.
    fn has_arrived(&self) -> Result<bool, ConnectionError> {
        Ok(self.frame_len()?.is_some_and(|len| self.buffer.len() >= LENGTH_PREFIX + len))
    }

    /// The next frame, if all of it has arrived.
    #[allow(
        clippy::type_complexity,
        reason = "a frame and the memory it holds, named at the one call"
    )]
    async fn buffered(
        &mut self,
        channel: &'a RequestChannel,
    ) -> Result<Option<(Bytes, Option<SemaphorePermit<'a>>)>, ConnectionError> {
        let Some(len) = self.frame_len()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_PREFIX + len {
            return Ok(None);
        }
        let permit = match self.permit.take() {
            Some(permit) => permit,
            None => channel.admit(len).await,
        };
        self.buffer.advance(LENGTH_PREFIX);
        Ok(Some((self.buffer.split_to(len).freeze(), permit)))
    }

    /// Reads what has arrived; 0 is the end of the stream. Safe to cancel.
    async fn read(
        &mut self,
        stream: &mut dyn Stream,
        channel: &'a RequestChannel,
    ) -> Result<usize, ConnectionError> {
        let missing = match self.frame_len()? {
            None => 0,
            Some(len) => {
                if self.permit.is_none() {
                    self.permit = Some(channel.admit(len).await);
                }
                (LENGTH_PREFIX + len).saturating_sub(self.buffer.len())
            }
        };
        if missing > BUSY_BUFFER {
            // Reading no further than the frame keeps the next one at the start of the buffer: nothing is moved later.
            self.buffer.reserve(missing.min(self.buffer.len().max(GROWTH)));
            let room = self.buffer.capacity() - self.buffer.len();
            let mut rest = (&mut self.buffer).limit(missing.min(room));
            return Ok(stream.read_buf(&mut rest).await?);
        }
        self.buffer.reserve(self.room.max(missing));
        let mut some = (&mut self.buffer).limit(self.room.max(missing));
        let read = stream.read_buf(&mut some).await?;
        if read >= self.room {
            self.room = BUSY_BUFFER;
        }
        Ok(read)
    }

    /// Gives back what a burst left behind.
    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.room = SMALL_BUFFER;
        }
    }
}

/// Ends connections that are silent, half-open or trickling, and reclaims buffers of quiet ones, with one timer.
struct Watchdog<'a> {
    env: &'a Env,
    max_idle: Duration,
    last_active: Monotonic,
    timer: BoxFuture<'static, ()>,
    shrink_due: bool,
}

impl<'a> Watchdog<'a> {
    fn new(env: &'a Env, max_idle: Duration) -> Self {
        let last_active = env.clock.now();
        let timer = env.clock.sleep(max_idle);
        Self { env, max_idle, last_active, timer, shrink_due: false }
    }

    /// A complete request arrived, or a response could leave.
    fn active(&mut self) {
        self.last_active = self.env.clock.now();
    }

    /// Looks again in a moment, to take a large buffer back.
    fn shrink_soon(&mut self) {
        if !self.shrink_due {
            self.shrink_due = true;
            self.timer = self.env.clock.sleep(SHRINK_AFTER.min(self.max_idle));
        }
    }

    /// The timer fired: whether buffers should shrink now, or that the connection is idle for too long.
    fn fired(&mut self, waiting_for_us: bool) -> Result<bool, ConnectionError> {
        let idle = self.env.clock.now().since(self.last_active);
        if waiting_for_us {
            self.timer = self.env.clock.sleep(self.max_idle);
            return Ok(false);
        }
        if idle >= self.max_idle {
            return Err(ConnectionError::Idle(self.max_idle));
        }
        let quiet = idle >= SHRINK_AFTER;
        self.shrink_due &= !quiet;
        let next = if self.shrink_due { SHRINK_AFTER } else { self.max_idle - idle };
        self.timer = self.env.clock.sleep(next);
        Ok(quiet)
    }

    /// Runs a write; a peer that takes nothing of it for the idle time is given up.
    async fn until_idle<F: Future>(&mut self, write: F) -> Result<F::Output, ConnectionError> {
        let mut write = std::pin::pin!(write);
        // Nearly every write completes at once: then no timer is made.
        let first = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = first {
            return Ok(output);
        }
        ottla_env::timeout(self.env.clock.as_ref(), self.max_idle, write)
            .await
            .map_err(|_elapsed| ConnectionError::Idle(self.max_idle))
    }
}
