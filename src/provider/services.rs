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

/// A provider of this spec, which all who give the spec ask together.
#[cfg(any(
    feature = "aws-kms",
    feature = "azure-kv",
    all(unix, feature = "exec"),
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault-transit"
))]
fn by_spec<P>(spec: &str, provider: Result<P>) -> Result<Arc<dyn MasterKeyProvider>>
where
    P: MasterKeyProvider + 'static,
{
    Ok(Arc::new(super::one_call::OneCall::new(spec, provider?)))
}

/// The provider that `spec` says, or that this build lacks it; `None` for what is no service's.
pub(super) fn from_spec(spec: &str) -> Option<Result<Arc<dyn MasterKeyProvider>>> {
    #[cfg(feature = "pkcs11")]
    if spec.starts_with("pkcs11:") {
        return Some(by_spec(spec, super::Pkcs11::from_uri(spec)));
    }
    #[cfg(feature = "aws-kms")]
    if let Some(key) = spec.strip_prefix("aws-kms:") {
        return Some(by_spec(spec, super::AwsKms::new(key)));
    }
    #[cfg(feature = "azure-kv")]
    if let Some(key) = spec.strip_prefix("azure-kv:") {
        return Some(by_spec(spec, super::AzureKv::new(key)));
    }
    #[cfg(feature = "gcp-kms")]
    if let Some(key) = spec.strip_prefix("gcp-kms:") {
        return Some(by_spec(spec, super::GcpKms::new(key)));
    }
    #[cfg(all(unix, feature = "exec"))]
    if let Some(path) = spec.strip_prefix("exec:") {
        return Some(by_spec(spec, super::Exec::new(path)));
    }
    #[cfg(feature = "vault-transit")]
    if let Some(key) = spec.strip_prefix("vault-transit:") {
        return Some(by_spec(spec, super::VaultTransit::new(key)));
    }
    let (prefix, feature) = FEATURES.into_iter().find(|(prefix, _)| spec.starts_with(prefix))?;
    Some(Err(Error::new(
        ErrorKind::Unsupported,
        format!("this build has no provider `{prefix}`: build credvault with the feature `{feature}`"),
    )))
}
