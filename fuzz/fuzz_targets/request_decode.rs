//! Whatever a client sends: header and body decode or fail, and what decodes survives the way
//! back and forth.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_protocol::fetch::{FetchRequest, FetchResponse};
use ottla_protocol::produce::{ProduceRequest, ProduceResponse};
use ottla_protocol::{Request, RequestHeader, Response};

fuzz_target!(|frame: &[u8]| {
    let frame = Bytes::copy_from_slice(frame);
    // A client reads responses of brokers it does not trust, too.
    for version in [3, 7, 9, 13] {
        if let Ok(response) = ProduceResponse::decode(&frame, version) {
            let again = Response::<Bytes>::from(response.clone()).encode(0, version).unwrap();
            let body = again.into_bytes().slice(if version >= 9 { 9.. } else { 8.. });
            assert_eq!(ProduceResponse::decode(&body, version).unwrap(), response);
        }
    }
    for version in [4, 11, 12, 18] {
        if let Ok(response) = FetchResponse::decode(&frame, version) {
            let again = Response::from(response.clone()).encode(0, version).unwrap();
            let body = again.into_bytes().slice(if version >= 12 { 9.. } else { 8.. });
            assert_eq!(FetchResponse::decode(&body, version).unwrap(), response);
        }
    }
    let Ok((header, body)) = RequestHeader::decode(&frame) else { return };
    match Request::decode(&header, body) {
        Ok(Request::Produce(request)) => {
            let again = request.encode(&header).unwrap().into_bytes().slice(4..);
            let (_, body) = RequestHeader::decode(&again).unwrap();
            assert_eq!(ProduceRequest::decode(&body, header.api_version).unwrap(), request);
        }
        Ok(Request::Fetch(request)) => {
            let again = request.encode(&header).unwrap().into_bytes().slice(4..);
            let (_, body) = RequestHeader::decode(&again).unwrap();
            assert_eq!(FetchRequest::decode(&body, header.api_version).unwrap(), request);
        }
        Ok(_) | Err(_) => {}
    }
});
