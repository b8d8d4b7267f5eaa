//! Headers and bodies of every API that is served, well-formed and hostile.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::ApiVersion;
use ottla_protocol::messages::{
    API_DESCRIPTORS, ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse,
    MetadataRequest, OutboundFrameLimits,
};
use ottla_protocol::{
    ApiKey, ListenerType, Request, RequestError, RequestHeader, RequestHeaderError, Response,
    Versions, decode_response, decode_response_header, encode_request, message,
    unsupported_api_versions_response,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn served() -> impl Iterator<Item = (ApiKey, i16)> {
    ApiKey::ALL.iter().filter(|api| **api != ApiKey::QuorumMessage).flat_map(|&api| {
        let listeners = [ListenerType::Broker, ListenerType::Controller];
        let versions = listeners.into_iter().find_map(|listener| api.versions_on(listener));
        versions.into_iter().flat_map(move |v| (v.min..=v.max).map(move |version| (api, version)))
    })
}

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 7, client_id: None }
}

/// The first bytes of a frame: key, version, correlation id 7, client id "me".
fn frame(api_key: i16, api_version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(api_key);
    frame.put_i16(api_version);
    frame.put_i32(7);
    frame.put_i16(2);
    frame.put_slice(b"me");
    frame
}

#[test]
fn a_header_of_either_version_is_read() {
    let mut plain = frame(12, 3);
    plain.put_slice(b"body");
    let (header, body) = RequestHeader::decode(&plain.freeze()).unwrap();
    assert_eq!((header.api_key, header.api_version), (ApiKey::Heartbeat, 3));
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (7, Some("me")));
    assert_eq!(body.as_ref(), b"body");

    let mut flexible = frame(12, 4);
    // Two tagged fields nobody knows, the client id still with a 16-bit length (KIP-482).
    flexible.put_slice(&[2, 0, 1, 0xaa, 5, 2, 0xbb, 0xcc]);
    flexible.put_slice(b"body");
    let (header, body) = RequestHeader::decode(&flexible.freeze()).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("me"));
    assert_eq!(body.as_ref(), b"body");
}

#[test]
fn unknown_apis_and_versions_are_told_apart() {
    let decode = |key, version| RequestHeader::decode(&frame(key, version).freeze()).unwrap_err();
    assert_eq!(decode(999, 3), RequestHeaderError::UnknownApi { api_key: 999, api_version: 3 });
    assert!(matches!(decode(4, 0), RequestHeaderError::UnknownApi { api_key: 4, .. }));
    assert!(matches!(decode(17, 0), RequestHeaderError::NotServed(header)
        if header.api_key == ApiKey::SaslHandshake));
    let RequestHeaderError::UnsupportedVersion { header, served } = decode(18, 99) else {
        panic!("version 99 of ApiVersions is not served");
    };
    assert_eq!((header.api_key, header.correlation_id), (ApiKey::ApiVersions, 7));
    assert_eq!(served, Versions { min: 0, max: 4 });
    // Advertised for librdkafka's sake, and refused.
    assert!(matches!(decode(0, 2), RequestHeaderError::UnsupportedVersion { .. }));
}

#[test]
fn every_truncation_of_a_header_is_an_error() {
    let mut whole = frame(12, 4);
    whole.put_slice(&[1, 0, 1, 0xaa]);
    let whole = whole.freeze();
    for end in 0..whole.len() {
        let outcome = RequestHeader::decode(&whole.slice(..end));
        assert!(matches!(outcome, Err(RequestHeaderError::Malformed(_))), "{end}: {outcome:?}");
    }
    assert!(RequestHeader::decode(&whole).is_ok());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let response = Response::<Bytes>::from(unsupported_api_versions_response());
    let frame = response.encode(7, 0).unwrap().into_bytes();
    let expected = [
        0, 0, 0, 16, // length
        0, 0, 0, 7, // correlation id
        0, 35, // UNSUPPORTED_VERSION
        0, 0, 0, 1, // one API
        0, 18, 0, 0, 0, 4, // ApiVersions, 0 to 4
    ];
    assert_eq!(frame.as_ref(), expected);
}

#[test]
fn requests_and_responses_go_there_and_back() {
    let request = message!(HeartbeatRequest {
        group_id: "group".into(),
        generation_id: 3,
        member_id: "member".into(),
    });
    for version in 0..=4 {
        let header = header(ApiKey::Heartbeat, version);
        let frame = encode_request(&header, &request).unwrap().into_bytes();
        let mut expected = BytesMut::new();
        let limits = OutboundFrameLimits::new(1000);
        let version_of_wire = ApiVersion::new(version);
        kafka_wire::encode_request(&mut expected, 7, None, &request, version_of_wire, limits)
            .unwrap();
        assert_eq!(frame, expected.freeze());
        let (decoded, body) = RequestHeader::decode(&frame.slice(4..)).unwrap();
        assert_eq!(decoded, header);
        assert_eq!(Request::decode(&header, body).unwrap(), Request::from(request.clone()));

        let response = message!(HeartbeatResponse { error_code: 27 });
        let frame = Response::<Bytes>::from(response.clone()).encode(7, version).unwrap();
        let frame = frame.into_bytes();
        let (correlation_id, body) =
            decode_response_header(&frame.slice(4..), ApiKey::Heartbeat, version).unwrap();
        assert_eq!(correlation_id, 7);
        assert_eq!(decode_response::<HeartbeatResponse>(body, version).unwrap(), response);
    }
}

#[test]
fn the_answer_to_api_versions_has_the_old_header() {
    for version in 0..=4 {
        let response = message!(ApiVersionsResponse { error_code: 0 });
        let frame = Response::<Bytes>::from(response.clone()).encode(7, version).unwrap();
        let frame = frame.into_bytes();
        let body = frame.slice(8..);
        assert_eq!(decode_response::<ApiVersionsResponse>(body, version).unwrap(), response);
    }
}

#[test]
fn an_absurd_count_is_an_error_and_not_an_allocation() {
    for (api, version) in served() {
        for count in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xfe], [0x80, 0, 0, 0]] {
            let body = Bytes::from([count.as_slice(), &[0]].concat());
            let _ = Request::decode(&header(api, version), body);
        }
        // The compact form of 2³² - 2 elements.
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        let _ = Request::decode(&header(api, version), body);
    }
    for (version, count) in [(1, [0x7f, 0xff, 0xff, 0xff, 0]), (9, [0xff, 0xff, 0xff, 0xff, 0x0f])]
    {
        let outcome =
            Request::decode(&header(ApiKey::Metadata, version), Bytes::copy_from_slice(&count));
        assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
    }
}

#[test]
fn bytes_behind_a_request_are_ignored() {
    // What librdkafka 2.x sends to ask for all topics: three bytes too many.
    let body = Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0]);
    let outcome = Request::decode(&header(ApiKey::Metadata, 13), body);
    assert!(matches!(outcome, Ok(Request::Metadata(_))), "{outcome:?}");
}

#[test]
fn every_served_api_is_decoded() {
    for (api, version) in served() {
        let outcome = Request::decode(&header(api, version), Bytes::from_static(&[0xff; 3]));
        assert!(!matches!(outcome, Err(RequestError::NotServed(_))), "{api}");
    }
    let outcome = Request::decode(&header(ApiKey::Vote, 0), Bytes::new());
    assert!(matches!(outcome, Err(RequestError::NotServed(ApiKey::Vote))));
    assert_eq!(
        API_DESCRIPTORS.len() + 2,
        ApiKey::ALL.len(),
        "UnregisterController is newer, QuorumMessage is our own"
    );
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut body = BytesMut::new();
    let request = message!(MetadataRequest { allow_auto_topic_creation: true });
    kafka_wire_core::KafkaEncode::encode_into(&request, &mut body, ApiVersion::new(12)).unwrap();
    // Instead of no tagged field: one of tag 9 with two bytes.
    body.truncate(body.len() - 1);
    body.put_slice(&[1, 9, 2, 0xaa, 0xbb]);
    let decoded = Request::decode(&header(ApiKey::Metadata, 12), body.freeze()).unwrap();
    assert!(matches!(decoded, Request::Metadata(metadata) if metadata.allow_auto_topic_creation));
}

proptest! {
    #[test]
    fn random_frames_never_panic(frame in vec(any::<u8>(), 0..200)) {
        let _ = RequestHeader::decode(&Bytes::from(frame));
    }

    #[test]
    fn random_bodies_never_panic(body in vec(any::<u8>(), 0..200), pick: prop::sample::Index) {
        let all: Vec<_> = served().collect();
        let (api, version) = all[pick.index(all.len())];
        let _ = Request::decode(&header(api, version), Bytes::from(body));
    }

    #[test]
    fn small_numbers_go_deeper_than_random_ones(
        body in vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(3), any::<u8>()], 0..300),
        pick: prop::sample::Index,
    ) {
        let all: Vec<_> = served().collect();
        let (api, version) = all[pick.index(all.len())];
        let _ = Request::decode(&header(api, version), Bytes::from(body));
    }
}

#[test]
fn a_client_asks_for_versions_before_it_knows_any() {
    let request = message!(ApiVersionsRequest {
        client_software_name: "ottla".into(),
        client_software_version: "0.1.0".into(),
    });
    let header = header(ApiKey::ApiVersions, 3);
    let frame = encode_request(&header, &request).unwrap().into_bytes();
    let (decoded, body) = RequestHeader::decode(&frame.slice(4..)).unwrap();
    assert_eq!(Request::decode(&decoded, body).unwrap(), Request::ApiVersions(request));
}
