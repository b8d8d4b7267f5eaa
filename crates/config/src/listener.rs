//! Listeners: `NAME://host:port`, their protocols, and which of them is told to whom.

use std::fmt;

/// One `NAME://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    /// The listener's name, in capitals.
    pub name: String,
    /// Host name or address; empty listens on every interface.
    pub host: String,
    /// TCP port; 0 asks the system for a free one.
    pub port: u16,
    /// How bytes travel on it.
    pub protocol: SecurityProtocol,
}

/// How bytes travel on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL in the clear.
    SaslPlaintext,
    /// SASL under TLS.
    SaslSsl,
}

impl ListenerAddress {
    /// What `bind` takes: `host:port`, `0.0.0.0:port` for every interface; IPv6 hosts in brackets.
    pub fn socket_address(&self) -> String {
        match self.host.as_str() {
            "" => format!("0.0.0.0:{}", self.port),
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{name}://[{host}]:{port}"),
            false => write!(f, "{name}://{host}:{port}"),
        }
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}
