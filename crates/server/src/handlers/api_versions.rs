//! ApiVersions: what this release serves (KIP-511, KIP-584).

use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{ErrorCode, advertised_apis, message};

use super::{Answer, RequestContext};

/// The first version in which a client names itself, and is checked for it.
const FIRST_VERSION_WITH_SOFTWARE: i16 = 3;

pub(super) fn handle(context: &RequestContext, request: &ApiVersionsRequest) -> Answer {
    let named = [&request.client_software_name, &request.client_software_version];
    if context.version() >= FIRST_VERSION_WITH_SOFTWARE
        && !named.into_iter().all(|name| is_software_name(name))
    {
        let error_code = ErrorCode::InvalidRequest.code();
        return Answer::now(message!(ApiVersionsResponse { error_code: error_code }));
    }
    Answer::now(message!(ApiVersionsResponse { api_keys: advertised_apis() }))
}

/// Letters, digits, `-` and `.`, not at either end the latter two.
fn is_software_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    name.bytes().all(inner) && edge(name.as_bytes().first()) && edge(name.as_bytes().last())
}
