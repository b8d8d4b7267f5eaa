//! What a controller that belongs to no cluster yet adds to its answer to DescribeCluster (KIP-919), so that new ones find out
//! that they are all new.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire_core::{TaggedField, TaggedFields};

use crate::Uuid;
use crate::messages::DescribeClusterResponse;

/// A tag that Kafka does not use, of an optional field that everybody else skips (KIP-482).
const NEWCOMER: u32 = 10_000;

/// A controller without a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newcomer {
    /// Its `node.id`.
    pub node_id: i32,
    /// Chosen at random when its process started: by it a node knows itself.
    pub incarnation: Uuid,
    /// Its `controller.quorum.bootstrap.servers`, in order, each once.
    pub servers: Vec<String>,
}

impl Newcomer {
    /// Adds it to an answer.
    pub fn write(&self, response: &mut DescribeClusterResponse) {
        let mut data = BytesMut::new();
        data.put_i32(self.node_id);
        data.put_slice(self.incarnation.as_bytes());
        data.put_slice(self.servers.join(",").as_bytes());
        let field = TaggedField::new(NEWCOMER, data.freeze());
        response.unknown_tagged_fields = TaggedFields::from_sorted(vec![field]).unwrap_or_default();
    }

    /// The one that an answer names.
    pub fn read(response: &DescribeClusterResponse) -> Option<Self> {
        let mut fields = response.unknown_tagged_fields.iter();
        let mut data = Bytes::copy_from_slice(fields.find(|it| it.tag() == NEWCOMER)?.data());
        let node_id = data.try_get_i32().ok()?;
        let mut incarnation = [0; 16];
        data.try_copy_to_slice(&mut incarnation).ok()?;
        let servers = std::str::from_utf8(&data).ok()?.split(',').filter(|it| !it.is_empty());
        let servers = servers.map(str::to_owned).collect();
        Some(Self { node_id, incarnation: Uuid::from_bytes(incarnation), servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKey, Response, decode_response, decode_response_header};

    #[test]
    fn a_newcomer_survives_the_wire() {
        let mut response = DescribeClusterResponse::default();
        assert_eq!(Newcomer::read(&response), None);
        let servers = vec!["a:9093".to_owned(), "b:9093".to_owned()];
        let newcomer = Newcomer { node_id: 7, incarnation: Uuid::from_bytes([9; 16]), servers };
        newcomer.write(&mut response);
        let frame = Response::<Bytes>::from(response).encode(1, 1).unwrap().into_bytes();
        let (_, body) =
            decode_response_header(&frame.slice(4..), ApiKey::DescribeCluster, 1).unwrap();
        let decoded: DescribeClusterResponse = decode_response(body, 1).unwrap();
        assert_eq!(Newcomer::read(&decoded), Some(newcomer));
    }
}
