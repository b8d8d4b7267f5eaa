//! A client that may send any bytes, and that waits for no answer longer than it should take.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ottla_env::{Env, Stream};
use ottla_protocol::fetch::{FetchRequest, FetchResponse};
use ottla_protocol::messages::{ApiVersionsRequest, RequestResponsePair};
use ottla_protocol::produce::{ProduceRequest, ProduceResponse};
use ottla_protocol::{
    ApiKey, RequestHeader, StrBytes, decode_response, decode_response_header, encode_request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{Node, in_time};

/// How long a client looks whether something comes that should not.
const MOMENT: Duration = Duration::from_millis(50);

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    /// Length of the answer that is being received.
    announced: Option<u32>,
    next_correlation_id: i32,
    client_id: StrBytes,
}

impl Client {
    pub(crate) async fn connect(node: &Node) -> Self {
        Self::connect_to(node.address()).await
    }

    pub(crate) async fn connect_to(address: SocketAddr) -> Self {
        let stream = Env::os().net.connect(&address.to_string()).await.unwrap();
        let client_id = StrBytes::from("api-test");
        Self { stream, announced: None, next_correlation_id: 1, client_id }
    }

    /// A client that calls itself `client_id`.
    pub(crate) async fn connect_as(node: &Node, client_id: &str) -> Self {
        Self { client_id: StrBytes::from(client_id), ..Self::connect(node).await }
    }

    /// Sends bytes as they are. A node that has closed the connection already may not take them.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _refused = self.stream.write_all(bytes).await;
    }

    /// Sends `body` with its length before it.
    pub(crate) async fn send_frame(&mut self, body: &[u8]) {
        self.send_bytes(&(body.len() as u32).to_be_bytes()).await;
        self.send_bytes(body).await;
    }

    /// Sends nothing any more, but still listens.
    pub(crate) async fn finish_sending(&mut self) {
        let _closed_already = self.stream.shutdown().await;
    }

    /// The next frame, without its length; `None` at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        let receive = async {
            let length = match self.announced.take() {
                Some(length) => length,
                None => self.stream.read_u32().await.ok()?,
            };
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.expect("an answer is cut short");
            Some(Bytes::from(frame))
        };
        in_time("an answer", receive).await
    }

    /// Waits until the length of an answer has arrived, and takes no more of it.
    pub(crate) async fn wait_for_bytes(&mut self) {
        self.announced = Some(in_time("an answer", self.stream.read_u32()).await.unwrap());
    }

    /// An answer was begun, which ends before its announced length, and the connection with it.
    pub(crate) async fn assert_cut_short(&mut self) {
        let announced = self.announced.take().unwrap() as usize;
        let mut rest = Vec::new();
        let ended = in_time("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        assert!(ended.is_err() || rest.len() < announced, "all {announced} bytes came");
    }

    /// Nothing may arrive for a moment. Absence is the one thing that there is no condition for.
    pub(crate) async fn assert_nothing_came(&mut self) {
        let came = Env::os().timeout(MOMENT, self.stream.read_u8()).await;
        assert!(came.is_err(), "an answer came too early, or the connection was closed");
    }

    /// The header in front of the next request.
    pub(crate) fn header(&mut self, api_key: ApiKey, api_version: i16) -> RequestHeader {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let client_id = Some(self.client_id.clone());
        RequestHeader { api_key, api_version, correlation_id, client_id }
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) async fn send<R: RequestResponsePair>(&mut self, version: i16, request: &R) -> i32 {
        let header = self.header(api_of::<R>(), version);
        let frame = encode_request(&header, request);
        let frame = frame.unwrap_or_else(|e| panic!("{} {version}: {e}", header.api_key));
        self.send_bytes(&frame.into_bytes()).await;
        header.correlation_id
    }

    /// The answer to the request `correlation_id`, which must be the next.
    pub(crate) async fn answer<R: RequestResponsePair>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> R::Response {
        let body = self.body(api_of::<R>(), version, correlation_id).await;
        let decoded = decode_response(body, version);
        decoded.unwrap_or_else(|error| panic!("{} {version}: {error}", api_of::<R>()))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call<R: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &R,
    ) -> R::Response {
        let correlation_id = self.send(version, request).await;
        self.answer::<R>(version, correlation_id).await
    }

    pub(crate) async fn send_produce(&mut self, version: i16, request: &ProduceRequest) -> i32 {
        let header = self.header(ApiKey::Produce, version);
        self.send_bytes(&request.encode(&header).unwrap().into_bytes()).await;
        header.correlation_id
    }

    pub(crate) async fn produce_answer(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> ProduceResponse {
        let body = self.body(ApiKey::Produce, version, correlation_id).await;
        ProduceResponse::decode(&body, version).unwrap()
    }

    pub(crate) async fn produce(
        &mut self,
        version: i16,
        request: &ProduceRequest,
    ) -> ProduceResponse {
        let correlation_id = self.send_produce(version, request).await;
        self.produce_answer(version, correlation_id).await
    }

    pub(crate) async fn send_fetch(&mut self, version: i16, request: &FetchRequest) -> i32 {
        let header = self.header(ApiKey::Fetch, version);
        self.send_bytes(&request.encode(&header).unwrap().into_bytes()).await;
        header.correlation_id
    }

    pub(crate) async fn fetch_answer(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> FetchResponse {
        let body = self.body(ApiKey::Fetch, version, correlation_id).await;
        FetchResponse::decode(&body, version).unwrap()
    }

    pub(crate) async fn fetch(&mut self, version: i16, request: &FetchRequest) -> FetchResponse {
        let correlation_id = self.send_fetch(version, request).await;
        self.fetch_answer(version, correlation_id).await
    }

    async fn body(&mut self, api: ApiKey, version: i16, correlation_id: i32) -> Bytes {
        let frame = self.receive().await;
        let frame = frame.unwrap_or_else(|| panic!("{api} {version}: the connection was closed"));
        let (answered, body) = decode_response_header(&frame, api, version).unwrap();
        assert_eq!(answered, correlation_id, "{api} {version}: answers are out of order");
        body
    }

    /// The node must answer nothing more and close the connection.
    pub(crate) async fn assert_closed(&mut self) {
        let frame = self.receive().await;
        assert_eq!(frame, None, "the connection should be closed");
    }

    /// The connection must still be served.
    pub(crate) async fn assert_served(&mut self) {
        let answer = self.call(0, &ApiVersionsRequest::default()).await;
        assert_eq!(answer.error_code, 0);
    }
}

fn api_of<R: RequestResponsePair>() -> ApiKey {
    ApiKey::from_key(R::API_KEY.value()).unwrap()
}
