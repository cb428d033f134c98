//! The address of a cloud's API.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use crate::failure::Remedy;

/// An address such as `http://127.0.0.1:8773`, in a form that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address; an IPv6 one in brackets.
    host: String,
    port: u16,
}

/// Why a text cannot be used as an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// It is for TLS.
    #[error("The endpoint {0} is for https, which cumulet does not speak yet")]
    Https(String),
    /// It is anything else.
    #[error("The endpoint {0} is not of the form http://HOST:PORT")]
    Malformed(String),
}

impl Remedy for EndpointError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Https(_) => {
                "a daemon on this machine answers at http://127.0.0.1:8773; reach one elsewhere through \
                               ssh: ssh -L 8773:127.0.0.1:8773 THAT-MACHINE"
                    .to_owned()
            }
            Self::Malformed(_) => "for example http://127.0.0.1:8773".to_owned(),
        })
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(EndpointError::Https(text.to_owned())),
            _ => return Err(malformed()),
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host();
        // With a user before the host, what follows is not a port.
        let port = match authority.as_str().strip_prefix(host).ok_or_else(malformed)? {
            "" => 80,
            rest => rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(malformed)?,
        };
        let whole = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !whole || host.is_empty() || port == 0 {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Endpoint {
    /// What to connect to: a name or an address without brackets, and a port.
    pub(crate) fn target(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// The header `Host`, which signatures cover; HTTP's own port is left out, as every client does.
    pub(crate) fn host_header(&self) -> String {
        match self.port {
            80 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.host_header())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, target, shown) in [
            ("http://127.0.0.1:8773", ("127.0.0.1", 8773), "http://127.0.0.1:8773"),
            ("http://localhost/", ("localhost", 80), "http://localhost"),
            ("http://[::1]:8773/", ("::1", 8773), "http://[::1]:8773"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.target(), target);
            assert_eq!(endpoint.to_string(), shown);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for text in [
            "",
            "127.0.0.1:8773",
            "http://",
            "http://:80",
            "http://host:0",
            "http://host:99999",
            "http://user:word@host/",
            "http://host/path",
            "http://host/?query",
            "ftp://host",
            "unix:///socket",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::Malformed(text.into())), "{text}");
        }
        let https = "https://ec2.us-east-1.amazonaws.com";
        assert_eq!(https.parse::<Endpoint>(), Err(EndpointError::Https(https.into())));
    }
}
