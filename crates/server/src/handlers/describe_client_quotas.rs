//! DescribeClientQuotas: which quotas are set, as of the metadata that this node has (KIP-546).

use ottla_protocol::messages::DescribeClientQuotasRequest;

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Broker, request: &DescribeClientQuotasRequest) -> Answer {
    Answer::now(broker.image().describe_client_quotas(request))
}
