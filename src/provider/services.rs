//! The providers that are features of the library, by the beginning of their spec.

use std::sync::Arc;

use super::MasterKeyProvider;
use crate::error::{Error, ErrorKind, Result};

/// What a spec begins with, and the feature that has its provider.
const FEATURES: [(&str, &str); 6] = [
    ("aws-kms:", "aws-kms"),
    ("azure-kv:", "azure-kv"),
    ("exec:", "exec"),
    ("gcp-kms:", "gcp-kms"),
    ("pkcs11:", "pkcs11"),
    ("vault-transit:", "vault-transit"),
];

/// The provider that `spec` says, or that this build lacks it; `None` for what is no service's.
pub(super) fn from_spec(spec: &str) -> Option<Result<Arc<dyn MasterKeyProvider>>> {
    #[cfg(feature = "pkcs11")]
    if spec.starts_with("pkcs11:") {
        return Some(super::Pkcs11::from_uri(spec).map(|provider| Arc::new(provider) as _));
    }
    #[cfg(feature = "aws-kms")]
    if let Some(key) = spec.strip_prefix("aws-kms:") {
        return Some(super::AwsKms::new(key).map(|provider| Arc::new(provider) as _));
    }
    #[cfg(feature = "azure-kv")]
    if let Some(key) = spec.strip_prefix("azure-kv:") {
        return Some(super::AzureKv::new(key).map(|provider| Arc::new(provider) as _));
    }
    #[cfg(feature = "gcp-kms")]
    if let Some(key) = spec.strip_prefix("gcp-kms:") {
        return Some(super::GcpKms::new(key).map(|provider| Arc::new(provider) as _));
    }
    #[cfg(all(unix, feature = "exec"))]
    if let Some(path) = spec.strip_prefix("exec:") {
        return Some(super::Exec::new(path).map(|provider| Arc::new(provider) as _));
    }
    #[cfg(feature = "vault-transit")]
    if let Some(key) = spec.strip_prefix("vault-transit:") {
        return Some(super::VaultTransit::new(key).map(|provider| Arc::new(provider) as _));
    }
    let (prefix, feature) = FEATURES.into_iter().find(|(prefix, _)| spec.starts_with(prefix))?;
    Some(Err(Error::new(
        ErrorKind::Unsupported,
        format!("this build has no provider `{prefix}`: build credvault with the feature `{feature}`"),
    )))
}
