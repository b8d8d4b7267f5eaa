//! One socket to one broker, with many requests in flight. Kafka's `NetworkClient`.

mod driver;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_env::{Elapsed, Env, TaskHandle};
use ottla_protocol::fetch::{FetchRequest, FetchResponse};
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestResponsePair};
use ottla_protocol::produce::{ProduceRequest, ProduceResponse};
use ottla_protocol::{
    ApiKey, EncodeError, ErrorCode, Frame, RequestHeader, StrBytes, Versions, decode_response,
    encode_opaque_request, encode_request, message,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::driver::{Driver, EndReason, Expected, Heard, Idle, Outgoing};
use crate::ClientError;
use crate::client::RETRY_BACKOFF;

/// How a connection behaves.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// `client.id`: what the broker's logs and quotas call this client.
    pub client_id: String,
    /// `socket.connection.setup.timeout.ms`: how long connecting, and agreeing on versions, may take.
    pub connect_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`: how long it may take after several failures, each of
    /// which doubles the time (KIP-601).
    pub connect_timeout_max: Duration,
    /// `request.timeout.ms`: how long a response may take.
    pub request_timeout: Duration,
    /// `retry.backoff.ms`: how long to wait before what may pass is tried again.
    pub retry_backoff: Duration,
    /// `connections.max.idle.ms`: after this long with nothing to send and nothing to wait for, the
    /// connection is closed, within half as long again; `None` is never.
    pub max_idle: Option<Duration>,
    /// `metadata.recovery.strategy`: whether the addresses that were given first are asked again when no
    /// known broker answers (KIP-899).
    pub rebootstrap: bool,
    /// The largest response in bytes; a larger one ends the connection.
    pub max_frame_bytes: usize,
    /// Requests sent and not yet answered; further calls wait. At least 1.
    pub max_in_flight: usize,
    /// `SO_SNDBUF` in bytes; `None` keeps the system's default.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF` in bytes; `None` keeps the system's default.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            connect_timeout: Duration::from_secs(10),
            connect_timeout_max: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            retry_backoff: RETRY_BACKOFF,
            max_idle: Some(Duration::from_secs(540)),
            rebootstrap: true,
            max_frame_bytes: 100 << 20,
            max_in_flight: 64,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// A connection on which every API may be called. Clones share the socket; it closes with the last.
///
/// Responses come in the order of the requests; a call that waits long (Fetch, JoinGroup) holds
/// up those behind it, so give such calls a connection of their own.
#[derive(Clone)]
pub struct Connection {
    channel: Arc<Channel>,
    versions: Arc<BTreeMap<ApiKey, Versions>>,
}

impl Connection {
    /// Connects to `address`, which is `host:port`, and agrees on versions (KIP-35, KIP-511).
    pub async fn connect(
        env: &Env,
        address: &str,
        options: ConnectionOptions,
    ) -> Result<Self, ClientError> {
        let limit = options.connect_timeout;
        let connecting = async {
            let channel = Channel::open(env, address, options).await?;
            let versions = channel.negotiate().await?;
            Ok(Self { channel: Arc::new(channel), versions: Arc::new(versions) })
        };
        env.timeout(limit, connecting).await.unwrap_or_else(|Elapsed| {
            Err(ClientError::TimedOut { address: address.into(), api: ApiKey::ApiVersions, limit })
        })
    }

    /// Where the broker is, as given to [`Connection::connect`].
    pub fn address(&self) -> &str {
        &self.channel.address
    }

    /// Whether the connection has ended; calls on it fail.
    pub fn is_closed(&self) -> bool {
        self.channel.outgoing.is_closed()
    }

    /// For how long the broker has owed an answer and given none; zero if it owes none.
    pub(crate) fn silence(&self) -> Duration {
        let channel = &self.channel;
        let owes = channel.in_flight.available_permits() < channel.options.max_in_flight.max(1);
        if owes { channel.heard.ago() } else { Duration::ZERO }
    }

    /// The newest version of `api` in `client` that the broker speaks too.
    pub fn version_within(&self, api: ApiKey, client: Versions) -> Result<i16, ClientError> {
        let broker = self.versions.get(&api).copied();
        broker
            .map(|broker| (broker.max.min(client.max), broker.min.max(client.min)))
            .and_then(|(newest, oldest)| (oldest <= newest).then_some(newest))
            .ok_or(ClientError::NoCommonVersion { api, client, broker })
    }

    /// For how long nothing should be sent after a response to Produce or Fetch that says
    /// `throttle_time_ms` (KIP-219). Brokers that speak older versions only have kept the response
    /// back for that long.
    pub fn silence_after(&self, api: ApiKey, throttle_time_ms: i32) -> Duration {
        let first = if api == ApiKey::Produce { 6 } else { 8 };
        match self.records_version(api) {
            Ok(version) if version >= first => {
                Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0))
            }
            Ok(_) | Err(_) => Duration::ZERO,
        }
    }

    /// The version in which [`Connection::call`] will send an `R`.
    pub fn version_of<R: RequestResponsePair>(&self) -> Result<i16, ClientError> {
        self.version_within(api_of::<R>()?, client_versions::<R>())
    }

    /// The version in which Produce or Fetch will be sent; from 13 on they name topics by id
    /// (KIP-516).
    pub fn records_version(&self, api: ApiKey) -> Result<i16, ClientError> {
        let client = api.served_versions().unwrap_or(Versions { min: 0, max: -1 });
        self.version_within(api, client)
    }

    /// Sends `request` in the newest version both sides know, and waits for the response.
    ///
    /// May be dropped at any time. Fails after `request_timeout`, which ends the connection.
    pub async fn call<R: RequestResponsePair>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.call_within(request, self.channel.options.request_timeout).await
    }

    /// [`Connection::call`] with another time limit, for calls that the broker may hold back.
    pub async fn call_within<R: RequestResponsePair>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        self.call_in(request, version, limit).await
    }

    /// [`Connection::call`] in no newer version than `newest`: later ones may name things
    /// otherwise (OffsetFetch and OffsetCommit from 10 on: topics by id, KIP-516).
    pub async fn call_up_to<R: RequestResponsePair>(
        &self,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, ClientError> {
        let mut client = client_versions::<R>();
        client.max = client.max.min(newest);
        let version = self.version_within(api_of::<R>()?, client)?;
        self.call_in(request, version, self.channel.options.request_timeout).await
    }

    /// What the broker speaks, as it said when the connection was made.
    pub fn broker_versions(&self) -> &BTreeMap<ApiKey, Versions> {
        &self.versions
    }

    async fn call_in<R: RequestResponsePair>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        let api = api_of::<R>()?;
        let encode = |header: &RequestHeader| encode_request(header, request);
        let body = self.channel.exchange((api, version), encode, limit).await?;
        Ok(decode_response(body, version)?)
    }

    /// Sends a body that is no concern of this library, and waits for one such: what the voters of the metadata quorum say
    /// to each other ([`ApiKey::QuorumMessage`]).
    pub async fn call_opaque(
        &self,
        api: ApiKey,
        body: &Bytes,
        limit: Duration,
    ) -> Result<Bytes, ClientError> {
        let version = self.version_within(api, Versions { min: 0, max: 0 })?;
        let encode = |header: &RequestHeader| encode_opaque_request(header, body);
        self.channel.exchange((api, version), encode, limit).await
    }

    /// Sends records without copying them. With `acks` 0 the broker does not answer: `None`, when
    /// the request is on its way.
    pub async fn produce(
        &self,
        request: &ProduceRequest,
    ) -> Result<Option<ProduceResponse>, ClientError> {
        let version = self.records_version(ApiKey::Produce)?;
        let encode = |header: &RequestHeader| request.encode(header);
        let limit = self.channel.options.request_timeout;
        if request.acks == 0 {
            self.channel.send_only((ApiKey::Produce, version), encode, limit).await?;
            return Ok(None);
        }
        let body = self.channel.exchange((ApiKey::Produce, version), encode, limit).await?;
        Ok(Some(ProduceResponse::decode(&body, version)?))
    }

    /// Fetches records; those of the response are slices of the received frame.
    pub async fn fetch(&self, request: &FetchRequest) -> Result<FetchResponse, ClientError> {
        let version = self.records_version(ApiKey::Fetch)?;
        let encode = |header: &RequestHeader| request.encode(header);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let limit = self.channel.options.request_timeout.saturating_add(wait);
        let body = self.channel.exchange((ApiKey::Fetch, version), encode, limit).await?;
        Ok(FetchResponse::decode(&body, version)?)
    }
}

pub(crate) fn api_of<R: RequestResponsePair>() -> Result<ApiKey, ClientError> {
    let key = R::API_KEY.value();
    ApiKey::from_key(key).ok_or_else(|| ClientError::Nonsense(format!("no API has the key {key}")))
}

fn client_versions<R: RequestResponsePair>() -> Versions {
    let min = R::SUPPORTED_VERSIONS.min().value();
    // An API of which no version is stable yet is offered by no broker either.
    let max = R::API_DESCRIPTOR.latest_stable_version().map_or(-1, |version| version.value());
    Versions { min, max }
}

/// The socket without versions.
struct Channel {
    env: Env,
    address: Arc<str>,
    options: ConnectionOptions,
    next_correlation_id: Arc<AtomicI32>,
    in_flight: Arc<Semaphore>,
    outgoing: mpsc::Sender<Outgoing>,
    end_reason: EndReason,
    heard: Heard,
    driver: TaskHandle,
}

impl Channel {
    async fn open(
        env: &Env,
        address: &str,
        options: ConnectionOptions,
    ) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Connect { address: address.to_owned(), error };
        let stream = env.net.connect(address).await.map_err(failed)?;
        stream
            .set_buffer_sizes(options.send_buffer_bytes, options.receive_buffer_bytes)
            .map_err(failed)?;
        let max_in_flight = options.max_in_flight.max(1);
        let (outgoing, to_send) = mpsc::channel(max_in_flight);
        let end_reason = EndReason::default();
        let heard = Heard::new(env.clock.clone());
        let largest = options.max_frame_bytes;
        let driver = Driver::new(stream, to_send, max_in_flight, largest, heard.clone());
        let in_flight = Arc::new(Semaphore::new(max_in_flight));
        let next_correlation_id = Arc::new(AtomicI32::new(0));
        let idle = Idle {
            clock: env.clock.clone(),
            limit: options.max_idle,
            permits: in_flight.clone(),
            max_in_flight,
            requests: next_correlation_id.clone(),
        };
        Ok(Self {
            env: env.clone(),
            address: address.into(),
            options,
            next_correlation_id,
            in_flight,
            outgoing,
            driver: env.spawn("client connection", driver.run(idle, end_reason.clone())),
            end_reason,
            heard,
        })
    }

    /// Asks which versions the broker speaks; once more in its own version if it is older.
    async fn negotiate(&self) -> Result<BTreeMap<ApiKey, Versions>, ClientError> {
        let client = client_versions::<ApiVersionsRequest>();
        let mut version = ApiKey::ApiVersions.served_versions().map_or(client.max, |v| v.max);
        loop {
            let response = self.ask_versions(version).await?;
            let rows = response.api_keys.iter().filter_map(|row| {
                let versions = Versions { min: row.min_version, max: row.max_version };
                Some((ApiKey::from_key(row.api_key)?, versions))
            });
            let versions: BTreeMap<_, _> = rows.collect();
            let code = ErrorCode::from_wire(response.error_code);
            if code != ErrorCode::UnsupportedVersion || version == 0 {
                return ClientError::check(code, None).map(|()| versions);
            }
            // KIP-511: the answer is of version 0 and says what the broker knows.
            let broker_max = versions.get(&ApiKey::ApiVersions).map_or(0, |row| row.max);
            version = broker_max.clamp(0, version - 1);
        }
    }

    async fn ask_versions(&self, version: i16) -> Result<ApiVersionsResponse, ClientError> {
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from("ottla"),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        });
        let encode = |header: &RequestHeader| encode_request(header, &request);
        let limit = self.options.connect_timeout;
        let body = self.exchange((ApiKey::ApiVersions, version), encode, limit).await?;
        let refused = body.starts_with(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        Ok(decode_response(body, if refused { 0 } else { version })?)
    }

    /// Sends a request and waits for the body of its response.
    async fn exchange(
        &self,
        (api, version): (ApiKey, i16),
        encode: impl FnOnce(&RequestHeader) -> Result<Frame, EncodeError>,
        limit: Duration,
    ) -> Result<Bytes, ClientError> {
        let waiting = async {
            let header = self.header(api, version);
            let frame = encode(&header)?;
            let permit = self.permit().await?;
            let (reply, body) = oneshot::channel();
            let correlation_id = header.correlation_id;
            let expected = Expected { api, version, correlation_id, reply, _permit: permit };
            self.enqueue(Outgoing::Request(frame, expected))?;
            body.await.map_err(|_| self.closed())
        };
        self.within(limit, api, waiting).await
    }

    /// Sends a request that has no response, and waits until the socket has taken it.
    async fn send_only(
        &self,
        (api, version): (ApiKey, i16),
        encode: impl FnOnce(&RequestHeader) -> Result<Frame, EncodeError>,
        limit: Duration,
    ) -> Result<(), ClientError> {
        let sending = async {
            let frame = encode(&self.header(api, version))?;
            let permit = self.permit().await?;
            let (sent, done) = oneshot::channel();
            self.enqueue(Outgoing::OneWay { frame, sent, _permit: permit })?;
            done.await.map_err(|_| self.closed())
        };
        self.within(limit, api, sending).await
    }

    /// Ends the connection if `call` takes longer than `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        api: ApiKey,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        self.env.timeout(limit, call).await.unwrap_or_else(|Elapsed| {
            // Nobody knows any more which responses are to come, or how much of a request has left.
            self.driver.abort();
            Err(ClientError::TimedOut { address: self.address.clone(), api, limit })
        })
    }

    fn header(&self, api_key: ApiKey, api_version: i16) -> RequestHeader {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let client_id = Some(StrBytes::from(self.options.client_id.as_str()));
        RequestHeader { api_key, api_version, correlation_id, client_id }
    }

    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ClientError> {
        let permit = self.in_flight.clone().acquire_owned().await.map_err(|_| self.closed())?;
        if self.in_flight.available_permits() + 1 == self.options.max_in_flight.max(1) {
            // It owed nothing until now.
            self.heard.note();
        }
        Ok(permit)
    }

    /// Never waits: the queue has as many places as there are permits.
    fn enqueue(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        self.outgoing.try_send(outgoing).map_err(|_| self.closed())
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed { address: self.address.clone(), reason: self.end_reason.text() }
    }
}
