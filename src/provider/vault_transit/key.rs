//! Which key of which transit engine is meant, and where.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{Error, ErrorKind, Result};

/// The most bytes of a key with its address: more than anybody types, and little in each record.
const MAX_BYTES: usize = 1_024;

/// The longest name of a host, by RFC 1035.
const MAX_HOST_BYTES: usize = 253;

/// `https://HOST[:PORT]/MOUNT/KEY`. Every call is to this address. Nothing that stands in the database takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// `https://HOST[:PORT]`
    origin: String,
    mount: String,
    name: String,
}

impl Key {
    /// Reads what follows `vault-transit:`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other form, which is not repeated: it may be a secret in the wrong place.
    pub(super) fn read(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "a key of Vault or OpenBao is given as `vault-transit:https://HOST[:PORT]/MOUNT/KEY`, without `v1`, user, query \
                 or fragment; `http` is for this machine alone (what was given is not repeated here)",
            )
        })
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let host = Host::parse(authority)?;
        let (mount, name) = path.rsplit_once('/')?;
        let allowed = scheme == "https" || (scheme == "http" && host.is_this_machine);
        // Of the API's version, and put before the path here.
        let is_versioned = mount.split('/').next() == Some("v1");
        (allowed && !is_versioned && is_path(mount) && is_segment(name)).then(|| Self {
            origin: format!("{scheme}://{authority}"),
            mount: mount.to_owned(),
            name: name.to_owned(),
        })
    }

    /// `https://HOST[:PORT]`, to which a path is added.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The path of what is done with the key, as a policy has it.
    pub(super) fn path(&self, what: &str) -> String {
        format!("{}/{what}/{}", self.mount, self.name)
    }

    pub(super) fn mount(&self) -> &str {
        &self.mount
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.origin, self.mount, self.name)
    }
}

struct Host {
    is_this_machine: bool,
}

impl Host {
    /// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`, a name in lower case.
    fn parse(authority: &str) -> Option<Self> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (Self { is_this_machine: host.parse::<Ipv6Addr>().ok()?.is_loopback() }, port)
            }
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (Self::of_name(host)?, port)
            }
        };
        let is_port =
            |digits: &str| digits.parse::<u16>().is_ok_and(|port| port > 0 && digits == port.to_string());
        (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
    }

    fn of_name(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self { is_this_machine: address.is_loopback() });
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        // A last label of digits would be an IPv4 address to some, in a form of many.
        let is_number = |label: &str| label.starts_with(|first: char| first.is_ascii_digit());
        let well_formed = name.len() <= MAX_HOST_BYTES
            && name.split('.').all(is_label)
            && !name.rsplit('.').next().is_some_and(is_number);
        well_formed.then(|| Self { is_this_machine: name == "localhost" })
    }
}

/// Whether `path` is one or more segments: the path of a mount.
pub(super) fn is_path(path: &str) -> bool {
    path.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && !segment.bytes().all(|byte| byte == b'.')
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_address_a_mount_and_a_name_and_nothing_else() {
        for (text, path) in [
            ("https://bao.example:8200/transit/credvault", "transit/decrypt/credvault"),
            ("https://bao/transit/k", "transit/decrypt/k"),
            ("https://10.0.0.1:1/team/one/transit/a.b-c_d", "team/one/transit/decrypt/a.b-c_d"),
            ("https://[2001:db8::1]:8200/t/k", "t/decrypt/k"),
            ("http://127.0.0.1:8200/t/k", "t/decrypt/k"),
            ("http://127.9.9.9/t/k", "t/decrypt/k"),
            ("http://[::1]:8200/t/k", "t/decrypt/k"),
            ("http://localhost:8200/t/k", "t/decrypt/k"),
        ] {
            let key = Key::read(text).unwrap();
            assert_eq!((key.to_string().as_str(), key.path("decrypt").as_str()), (text, path));
        }
        let longest = format!("https://h/t/{}", "k".repeat(MAX_BYTES - 12));
        assert!(Key::read(&longest).is_ok());
        for text in [
            "",
            "hunter2",
            "https://hunter2",
            "https://h/hunter2",
            "https://h//hunter2",
            "https://h/t/hunter2/",
            "https://h/t//hunter2",
            "https://h/t/../hunter2",
            "https://h/./hunter2",
            "https://h/t/hunter2?x",
            "https://h/t/hunter2#x",
            "https://h/t/hunter%32",
            "https://h/t/hunter 2",
            "https://h/v1/transit/hunter2",
            "https://hunter2@h/t/k",
            "https://user:hunter2@h/t/k",
            "https:///t/hunter2",
            "https://h:/t/hunter2",
            "https://h:0/t/hunter2",
            "https://h:08200/t/hunter2",
            "https://h:65536/t/hunter2",
            "https://h:+82/t/hunter2",
            "https://[::1/t/hunter2",
            "https://[::1]8200/t/hunter2",
            "https://[127.0.0.1]/t/hunter2",
            "https://Hunter2/t/k",
            "https://h..x/t/hunter2",
            "https://-h/t/hunter2",
            "https://1/t/hunter2",
            "https://0x7f.1/t/hunter2",
            "https://127.1/t/hunter2",
            "http://h/t/hunter2",
            "http://127.0.0.1.example/t/hunter2",
            "http://localhost.example/t/hunter2",
            "http://[2001:db8::1]/t/hunter2",
            "ftp://localhost/t/hunter2",
            "HTTPS://h/t/hunter2",
            " https://h/t/hunter2",
            "https://h/t/hunter2\n",
            &format!("{longest}k"),
        ] {
            let error = Key::read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        }
    }
}
