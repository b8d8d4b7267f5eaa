//! Every API in every version that the node advertises: asked plainly, asked for nothing, and asked for what is not there.

mod configs;
mod groups;
mod log;
mod partitions;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::{
    AddRaftVoterRequest, ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest,
    DescribeLogDirsRequest, RemoveRaftVoterRequest, RequestResponsePair, UnregisterBrokerRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, TopicId, Versions, decode_response_header, message};

use crate::client::Client;
use crate::node::Node;
use crate::requests::text;

/// A client that visits every version of the APIs it is told to ask.
pub(super) struct Tour {
    client: Client,
    /// A topic of one partition with three records.
    orders: TopicId,
    /// Where the node keeps it.
    data_dir: String,
    advertised: BTreeMap<ApiKey, Versions>,
    asked: BTreeSet<ApiKey>,
}

/// The topic of every tour.
const ORDERS: &str = "orders";

impl Tour {
    async fn begin(node: &Node) -> Self {
        let mut client = Client::connect(node).await;
        let answer = client.call(4, &api_versions(4)).await;
        let advertised = rows(&answer);
        let orders = client.create_topic(ORDERS, 1).await;
        client.append_ok(ORDERS, crate::records::batch(&["a", "b", "c"])).await;
        let data_dir = node.path().display().to_string();
        Self { client, orders, data_dir, advertised, asked: BTreeSet::new() }
    }

    /// The advertised versions of an API, which counts as asked then. Produce is advertised lower than it is served.
    fn versions(&mut self, api: ApiKey) -> std::ops::RangeInclusive<i16> {
        self.asked.insert(api);
        let versions = self.advertised[&api];
        let min = if api == ApiKey::Produce { 3 } else { versions.min };
        min..=versions.max
    }

    /// Sends `request` and a request for nothing in every version.
    async fn every<R: RequestResponsePair + Default>(
        &mut self,
        request: impl Fn(i16) -> R,
        check: impl Fn(i16, R::Response),
    ) {
        let api = ApiKey::from_key(R::API_KEY.value()).unwrap();
        for version in self.versions(api) {
            check(version, self.client.call(version, &request(version)).await);
        }
    }

    fn assert_all_asked(&self) {
        let advertised: BTreeSet<_> = self.advertised.keys().copied().collect();
        assert_eq!(self.asked, advertised, "an advertised API is missing from the tour");
    }
}

fn rows(answer: &ApiVersionsResponse) -> BTreeMap<ApiKey, Versions> {
    assert_eq!(answer.error_code, 0);
    let rows = answer.api_keys.iter().map(|row| {
        let versions = Versions { min: row.min_version, max: row.max_version };
        (ApiKey::from_key(row.api_key).unwrap(), versions)
    });
    rows.collect()
}

fn api_versions(version: i16) -> ApiVersionsRequest {
    if version < 3 {
        return ApiVersionsRequest::default();
    }
    message!(ApiVersionsRequest {
        client_software_name: text("api-test"),
        client_software_version: text("1.0"),
    })
}

/// `value` from version `first` on, the default before.
fn since<T: Default>(version: i16, first: i16, value: T) -> T {
    if version >= first { value } else { T::default() }
}

#[tokio::test]
async fn every_version_of_every_api_is_answered() {
    let node = Node::start().await;
    let mut tour = Tour::begin(&node).await;
    let everything = tour.advertised.clone();
    tour.every(api_versions, |_, answer| assert_eq!(rows(&answer), everything)).await;
    log::ask_plainly(&mut tour).await;
    topics::ask_plainly(&mut tour).await;
    partitions::ask_plainly(&mut tour).await;
    groups::ask_plainly(&mut tour).await;
    configs::ask_plainly(&mut tour).await;
    let cluster_id = node.cluster_id();
    tour.every(
        |version| message!(DescribeClusterRequest { include_fenced_brokers: version >= 2 }),
        |version, answer| {
            assert_eq!(answer.cluster_id.as_str(), cluster_id, "version {version}");
            assert_eq!(answer.controller_id, 1);
            assert_eq!(answer.brokers[0].port, i32::from(node.address().port()));
        },
    )
    .await;
    tour.every(
        |_| message!(AddRaftVoterRequest { cluster_id: None, voter_id: 2, timeout_ms: 1000 }),
        |_, answer| assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code()),
    )
    .await;
    tour.every(
        |_| message!(RemoveRaftVoterRequest { cluster_id: None, voter_id: 2 }),
        |_, answer| assert_eq!(answer.error_code, ErrorCode::VoterNotFound.code()),
    )
    .await;
    tour.every(
        |_| message!(UnregisterBrokerRequest { broker_id: 999 }),
        |_, answer| assert_eq!(answer.error_code, ErrorCode::BrokerIdNotRegistered.code()),
    )
    .await;
    let data = node.path().display().to_string();
    tour.every(
        |_| message!(DescribeLogDirsRequest { topics: None }),
        |version, answer| {
            let [dir] = &answer.results[..] else { panic!("{answer:?}") };
            assert_eq!((answer.error_code, dir.error_code), (0, 0), "version {version}");
            assert_eq!(dir.log_dir.as_str(), data);
            let orders = dir.topics.iter().find(|topic| topic.name.as_str() == ORDERS).unwrap();
            let partition = &orders.partitions[0];
            assert!(partition.partition_size > 0 && !partition.is_future_key);
            assert_eq!(partition.offset_lag, 0);
            assert_eq!(dir.total_bytes > 0 && dir.usable_bytes > 0, version >= 4);
        },
    )
    .await;
    tour.assert_all_asked();
    node.stop().await;
}

#[tokio::test]
async fn every_version_of_every_api_has_an_answer_to_a_request_for_nothing() {
    let node = Node::start().await;
    let mut tour = Tour::begin(&node).await;
    log::ask_for_nothing(&mut tour).await;
    topics::ask_for_nothing(&mut tour).await;
    partitions::ask_for_nothing(&mut tour).await;
    groups::ask_for_nothing(&mut tour).await;
    configs::ask_for_nothing(&mut tour).await;
    tour.every(
        |_| ApiVersionsRequest::default(),
        |version, answer| {
            // A client that can say its name has to (KIP-511).
            let expected = if version < 3 { ErrorCode::None } else { ErrorCode::InvalidRequest };
            assert_eq!(ErrorCode::from_wire(answer.error_code), expected, "version {version}");
        },
    )
    .await;
    tour.every(
        |_| DescribeClusterRequest::default(),
        |_, answer| {
            assert_eq!(answer.error_code, 0);
        },
    )
    .await;
    // A cluster without a name is another than this one.
    let elsewhere = ErrorCode::InconsistentClusterId.code();
    tour.every(|_| AddRaftVoterRequest::default(), |_, it| assert_eq!(it.error_code, elsewhere))
        .await;
    tour.every(|_| RemoveRaftVoterRequest::default(), |_, it| assert_eq!(it.error_code, elsewhere))
        .await;
    tour.every(
        |_| UnregisterBrokerRequest::default(),
        |_, answer| assert_eq!(answer.error_code, ErrorCode::BrokerIdNotRegistered.code()),
    )
    .await;
    tour.every(
        |_| message!(DescribeLogDirsRequest { topics: Some(Vec::new()) }),
        |_, answer| assert!(answer.results[0].topics.is_empty()),
    )
    .await;
    tour.assert_all_asked();
    node.stop().await;
}

#[tokio::test]
async fn every_version_has_an_answer_about_what_is_not_there() {
    let node = Node::start().await;
    let mut tour = Tour::begin(&node).await;
    log::ask_for_the_missing(&mut tour).await;
    topics::ask_for_the_missing(&mut tour).await;
    partitions::ask_for_the_missing(&mut tour).await;
    groups::ask_for_the_missing(&mut tour).await;
    configs::ask_for_the_missing(&mut tour).await;
    tour.client.assert_served().await;
    node.stop().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0_and_the_connection_goes_on() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    for version in [5, 99, i16::MAX, -1] {
        let header = [&18i16.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes()];
        // The client id is as long as in every version; what follows, only the client knows.
        client.send_frame(&[&header.concat(), &[0, 1, b'x', 0, 9, 9, 9][..]].concat()).await;
        let frame = client.receive().await.unwrap();
        let (correlation_id, body) =
            decode_response_header(&frame, ApiKey::ApiVersions, 0).unwrap();
        assert_eq!(correlation_id, 7);
        let answer: ApiVersionsResponse = ottla_protocol::decode_response(body, 0).unwrap();
        assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
        assert_eq!((answer.api_keys[0].api_key, answer.api_keys[0].max_version), (18, 4));
    }
    client.assert_served().await;
}

#[tokio::test]
async fn produce_is_advertised_from_version_0_and_refused_below_3() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let advertised = rows(&client.call(0, &api_versions(0)).await);
    assert_eq!(advertised[&ApiKey::Produce], Versions { min: 0, max: 13 });
    for version in 0..3i16 {
        let mut client = Client::connect(&node).await;
        let header = [&[0, 0], &version.to_be_bytes()[..], &[0, 0, 0, 1], &[0xff, 0xff]].concat();
        client.send_frame(&[header, vec![0, 1, 0, 0, 0, 9, 0, 0, 0, 0]].concat()).await;
        client.assert_closed().await;
    }
    client.assert_served().await;
}
