//! Who asks: what a service has been given to sign in with, by the variables of Azure's own tools.

use std::ffi::OsString;
use std::sync::Arc;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};

use super::transport::{Https, Peer};
use crate::error::{Error, ErrorKind, Result};

const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// Where Entra is, unless this variable says where.
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// One of the three ways in which a service signs in, in the order of the SDK's default for other languages.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// A service principal, by `AZURE_CLIENT_SECRET`.
    ClientSecret { tenant: String, client: String },
    /// A Kubernetes service account, by `AZURE_FEDERATED_TOKEN_FILE`.
    Workload { tenant: String, client: String },
    /// The machine's own, or the one of `AZURE_CLIENT_ID`.
    Managed { client: Option<String> },
}

impl Choice {
    /// By the variables that are set; an empty one is not.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| text(name, value)).transpose();
        let both = |because: &str| match (text(TENANT)?, text(CLIENT)?) {
            (Some(tenant), Some(client)) => Ok((tenant, client)),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "{because} is set, and says nothing without {TENANT} and {CLIENT}, both: set these, too, or unset it"
                ),
            )),
        };
        if set(SECRET).is_some() {
            let (tenant, client) = both(SECRET)?;
            return Ok(Self::ClientSecret { tenant, client });
        }
        if set(CERTIFICATE).is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{CERTIFICATE} is set, and this build signs in by no certificate: use a federated token, a managed \
                         identity or a client secret"
                ),
            ));
        }
        if set(TOKEN_FILE).is_some() {
            let (tenant, client) = both(TOKEN_FILE)?;
            return Ok(Self::Workload { tenant, client });
        }
        Ok(Self::Managed { client: text(CLIENT)? })
    }
}

/// The value of the variable `name`, if it is text.
fn text(name: &str, value: OsString) -> Result<String> {
    let no_text =
        |_| Error::new(ErrorKind::InvalidInput, format!("{name} is set, and no text: it isn't UTF-8"));
    value.into_string().map_err(no_text)
}

/// What signs in, by the environment. Reads files, which blocks; nothing is asked yet.
///
/// # Errors
///
/// `InvalidInput` if the variables make no sense, `Unsupported` for a certificate, `Provider` if the token's file can't be
/// read.
pub(super) fn of_environment() -> Result<Arc<dyn TokenCredential>> {
    let unusable = |what: &'static str| move |_| Error::new(ErrorKind::InvalidInput, what);
    Ok(match Choice::of(|name| std::env::var_os(name))? {
        Choice::ClientSecret { tenant, client } => {
            let secret = Secret::new(text(SECRET, std::env::var_os(SECRET).unwrap_or_default())?);
            let options = ClientSecretCredentialOptions { client_options: entra()? };
            ClientSecretCredential::new(&tenant, client, secret, Some(options)).map_err(unusable(
                "AZURE_TENANT_ID, or AZURE_AUTHORITY_HOST, is none of Azure's: a tenant is a UUID or a domain, the authority \
                 a URL of https",
            ))?
        }
        Choice::Workload { tenant, client } => {
            let file = std::env::var_os(TOKEN_FILE).unwrap_or_default();
            if std::fs::File::open(&file).is_err() {
                let what = format!(
                    "the file of {TOKEN_FILE} can't be read: is this a pod of the workload identity?"
                );
                return Err(Error::new(ErrorKind::Provider, what));
            }
            let options = WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options: entra()? },
                client_id: Some(client),
                tenant_id: Some(tenant),
                token_file_path: Some(file.into()),
            };
            WorkloadIdentityCredential::new(Some(options)).map_err(unusable(
                "AZURE_TENANT_ID, AZURE_AUTHORITY_HOST or the token of AZURE_FEDERATED_TOKEN_FILE is none of Azure's",
            ))?
        }
        Choice::Managed { client } => {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: client.map(UserAssignedId::ClientId),
                client_options: options(Https::new(Peer::ManagedIdentity, "")?),
            };
            ManagedIdentityCredential::new(Some(options)).map_err(unusable(
                "the managed identity of this kind of machine is not known here: of Azure's services, virtual machines, AKS, \
                 App Service and Container Apps are",
            ))?
        }
    })
}

fn entra() -> Result<ClientOptions> {
    let authority = match std::env::var_os(AUTHORITY) {
        Some(authority) if !authority.is_empty() => text(AUTHORITY, authority)?,
        _ => PUBLIC_AUTHORITY.to_owned(),
    };
    let transport = Https::new(Peer::Entra, &authority)?;
    // Else the SDK reads the variable itself, and takes an empty one for a URL.
    let mut cloud = CustomConfiguration::default();
    cloud.authority_host = authority;
    Ok(ClientOptions { cloud: Some(Arc::new(cloud.into())), ..options(transport) })
}

/// With the transport, and without the SDK's own retries, which would multiply with the provider's.
pub(super) fn options(transport: Https) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(transport))),
        ..ClientOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(set: &[(&str, &str)]) -> Result<Choice> {
        Choice::of(|name| set.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn the_variables_that_are_set_say_who_signs_in() {
        let (tenant, client) = ((TENANT, "t"), (CLIENT, "c"));
        let both = || ("t".to_owned(), "c".to_owned());
        let secret = || {
            let (tenant, client) = both();
            Choice::ClientSecret { tenant, client }
        };
        let workload = || {
            let (tenant, client) = both();
            Choice::Workload { tenant, client }
        };
        let (hunter, file) = ((SECRET, "hunter2"), (TOKEN_FILE, "/token"));
        assert_eq!(choice(&[tenant, client, hunter]).unwrap(), secret());
        assert_eq!(choice(&[tenant, client, hunter, file, (CERTIFICATE, "/c")]).unwrap(), secret());
        assert_eq!(choice(&[tenant, client, file]).unwrap(), workload());
        assert_eq!(choice(&[tenant, client, (SECRET, ""), file]).unwrap(), workload());
        assert_eq!(choice(&[tenant, client]).unwrap(), Choice::Managed { client: Some("c".into()) });
        assert_eq!(choice(&[tenant, (CLIENT, "")]).unwrap(), Choice::Managed { client: None });
        assert_eq!(choice(&[]).unwrap(), Choice::Managed { client: None });
    }

    #[test]
    fn half_of_a_choice_is_refused_and_names_the_variables_and_no_value() {
        for set in [
            &[(SECRET, "hunter2")][..],
            &[(SECRET, "hunter2"), (CLIENT, "c")],
            &[(TOKEN_FILE, "/t"), (TENANT, "t")],
        ] {
            let error = choice(set).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            for name in [set[0].0, TENANT, CLIENT] {
                assert!(error.to_string().contains(name), "{error}");
            }
            assert!(!error.to_string().contains("hunter2"));
        }
        let error = choice(&[(TENANT, "t"), (CLIENT, "c"), (CERTIFICATE, "/c")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_set_and_is_no_text_is_refused_and_not_passed_over() {
        use std::os::unix::ffi::OsStringExt as _;
        let no_text = || OsString::from_vec(b"hunter2\xff".to_vec());
        let set = |broken: &'static str| {
            Choice::of(move |name| match name {
                _ if name == broken => Some(no_text()),
                TENANT | CLIENT => Some("given".into()),
                _ => None,
            })
        };
        assert!(
            matches!(set(SECRET), Ok(Choice::ClientSecret { .. })),
            "it falls through to another identity"
        );
        for error in [text(SECRET, no_text()).unwrap_err(), set(CLIENT).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("UTF-8") && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
