//! The credentials of an organization: `put`, `get`, `list`, `transfer`, `delete`.

use std::io::IsTerminal;

use anyhow::Context;
use credvault::{
    Credential, Error, ErrorKind, ExposeSecret, IntegrationId, Organization, OrganizationId, SecretText,
    Stored, Summary,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{Address, Get, Global, Integration, Put, Transfer};
use crate::connection;
use crate::failure::{Exit, refused, usage};
use crate::hidden_input;
use crate::output::{self, Report};
use crate::standard_streams;
use crate::summaries::{self, data_key, expiry};

/// What stands for a value that is not shown, whatever its length.
const MASK: &str = "********";

/// `credvault put`.
pub(crate) async fn put(global: &Global, put: Put) -> anyhow::Result<Report> {
    if put.create && put.address.integration.connector.is_none() {
        return Err(usage("--create makes an integration with the connector that --connector names"));
    }
    if put.field.is_none() && std::io::stdin().is_terminal() {
        return Err(usage(
            "standard input is a terminal: give a JSON object there, or --field NAME to be asked",
        ));
    }
    let vault = connection::open(global).await?;
    let organization = vault.organization(put.address.organization);
    let credential = Credential::new(put.credential_type).with_expiry(put.expires_at);
    let credential = match &put.field {
        Some(name) => credential.with_field(name, field_value(name)?),
        None => {
            let credential = credential.with_json_fields(&standard_streams::read_to_end()?);
            credential
                .context("standard input, which without --field NAME holds all fields as one JSON object")?
        }
    };
    if credential.fields().len() == 0 {
        return Err(usage("the JSON object on standard input has no fields"));
    }
    let (integration, revision) = match &put.address.integration.connector {
        Some(connector) if put.create => organization.put_by_connector(connector, &credential).await?,
        _ => {
            let integration = find(&organization, &put.address.integration).await?;
            (integration, organization.put(integration, &credential).await?)
        }
    };
    let fields: Vec<&str> = credential.fields().map(|(name, _)| name).collect();
    Ok(Report::new(
        "put",
        Exit::Done,
        format!("Stored the credential of integration {integration}.\n"),
        json!({
            "organization_id": organization.id().to_string(),
            "integration_id": integration.to_string(),
            "credential_type": credential.credential_type().as_str(),
            "fields": fields,
            "expires_at": credential.expires_at().map(output::rfc3339),
            "revision": revision.as_str(),
        }),
    ))
}

/// The value of one field: from a prompt on a terminal, else all of standard input but one newline at its end.
fn field_value(name: &str) -> anyhow::Result<SecretText> {
    if std::io::stdin().is_terminal() {
        let prompt = format!("{}: ", output::printable(name));
        let typed = hidden_input::ask(&prompt)?;
        if typed.is_empty() {
            return Err(usage(format!("nothing was typed: it is the value of field {name:?}")));
        }
        return Ok(typed.into());
    }
    let text = standard_streams::read_to_end()?;
    let value = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text);
    if value.is_empty() {
        return Err(usage(format!("standard input is empty: it is the value of field {name:?}")));
    }
    Ok(SecretText::copy_of(value))
}

/// `credvault get`.
pub(crate) async fn get(global: &Global, get: &Get) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let organization = vault.organization(get.address.organization);
    let integration = find(&organization, &get.address.integration).await?;
    let stored =
        organization.get(integration).await?.ok_or_else(|| no_credential(integration, &organization))?;
    if let Some(name) = &get.field
        && stored.credential.field(name).is_none()
    {
        return Err(not_found(format!(
            "the credential of integration {integration} has no field {name:?}; `credvault get` lists its fields"
        )));
    }
    let text = match &get.field {
        Some(name) => one_value(&stored, name),
        None => all_fields(&stored, integration, get.reveal),
    };
    Ok(Report::secret(text, document(&stored, &organization, integration, get)?))
}

/// The value of one field as it is; on a terminal with a newline, so that the prompt comes on a line of its own.
fn one_value(stored: &Stored, name: &str) -> Zeroizing<String> {
    let value = stored.credential.field(name).map_or("", ExposeSecret::expose_secret);
    let mut text = Zeroizing::new(String::with_capacity(value.len() + 1));
    text.push_str(value);
    if standard_streams::shows_on_a_terminal() {
        text.push('\n');
    }
    text
}

fn all_fields(stored: &Stored, integration: IntegrationId, reveal: bool) -> Zeroizing<String> {
    let credential = &stored.credential;
    let head = output::facts(&[
        ("integration", integration.to_string()),
        ("type", credential.credential_type().to_string()),
        ("expires", expiry(credential.expires_at())),
        ("revision", stored.revision.to_string()),
    ]);
    // Spelled out, what steers a terminal takes eight bytes at most.
    let room = |(name, value): (&str, &SecretText)| 8 * (name.len() + value.len()) + 32;
    let mut text =
        Zeroizing::new(String::with_capacity(head.len() + credential.fields().map(room).sum::<usize>() + 16));
    text.push_str(&head);
    text.push_str("fields\n");
    for (name, value) in credential.fields() {
        text.push_str("  ");
        text.push_str(&output::printable(name));
        text.push_str(": ");
        if reveal {
            // A key in PEM has lines; anything else that steers a terminal is spelled out.
            for c in value.expose_secret().chars() {
                if output::steers(c) && c != '\n' && c != '\t' {
                    text.extend(c.escape_default());
                } else {
                    text.push(c);
                }
            }
        } else {
            text.push_str(MASK);
        }
        text.push('\n');
    }
    if !reveal {
        text.push_str("(--reveal shows the values, --field NAME prints one)\n");
    }
    text
}

/// The JSON document: `"fields": {NAME: VALUE}`, where the value is null unless it was asked for.
fn document(
    stored: &Stored,
    organization: &Organization,
    integration: IntegrationId,
    get: &Get,
) -> anyhow::Result<Zeroizing<String>> {
    let credential = &stored.credential;
    let expires_at = credential.expires_at().map(output::rfc3339);
    let begin = format!(
        r#"{},"organization_id":"{}","integration_id":"{integration}","credential_type":{},"expires_at":{},"revision":"{}","fields":{{"#,
        output::open_document("get"),
        organization.id(),
        Value::from(credential.credential_type().as_str()),
        Value::from(expires_at),
        stored.revision,
    );
    let room = |(name, value): (&str, &SecretText)| 6 * (name.len() + value.len()) + 16;
    let mut document =
        Zeroizing::new(String::with_capacity(begin.len() + credential.fields().map(room).sum::<usize>() + 8));
    document.push_str(&begin);
    for (at, (name, value)) in credential.fields().enumerate() {
        if at > 0 {
            document.push(',');
        }
        output::push_json(&mut document, name)?;
        document.push(':');
        if get.reveal || get.field.as_deref() == Some(name) {
            output::push_json(&mut document, value.expose_secret())?;
        } else {
            document.push_str("null");
        }
    }
    document.push_str("}}\n");
    Ok(document)
}

/// `credvault list`.
pub(crate) async fn list(global: &Global, organization: OrganizationId) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let credentials = vault.organization(organization).list().await?;
    let text = if credentials.is_empty() {
        format!("Organization {organization} has no credentials.\n")
    } else {
        output::table(
            ["CONNECTOR", "INTEGRATION", "TYPE", "EXPIRES", "WRITTEN", "DATA KEY"],
            credentials.iter().map(row),
        )
    };
    let fields = json!({
        "organization_id": organization.to_string(),
        "credentials": credentials.iter().map(summaries::document).collect::<Vec<_>>(),
    });
    Ok(Report::new("list", Exit::Done, text, fields))
}

fn row(summary: &Summary) -> [String; 6] {
    [
        summary.connector_type.clone(),
        summary.integration_id.to_string(),
        summary.credential_type.to_string(),
        expiry(summary.expires_at),
        output::moment(summary.updated_at),
        data_key(summary),
    ]
}

/// `credvault transfer`.
pub(crate) async fn transfer(global: &Global, transfer: &Transfer) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let (from, to) = (transfer.from, transfer.to);
    let integration = find(&vault.organization(from), &transfer.integration).await?;
    if let Err(error) = vault.transfer(integration, from, to).await {
        let (from, to) = (vault.organization(from), vault.organization(to));
        return Err(match in_the_way(&from, &to, integration).await? {
            Some(message) if error.kind() == ErrorKind::Refused => refused(message),
            _ => error.into(),
        });
    }
    Ok(Report::new(
        "transfer",
        Exit::Done,
        format!(
            "Integration {integration} is organization {to}'s now, its credential sealed anew for it.\n\
             `credvault transfer --integration {integration} --from {to} --to {from}` takes it back.\n"
        ),
        json!({
            "integration_id": integration.to_string(),
            "from_organization_id": from.to_string(),
            "to_organization_id": to.to_string(),
        }),
    ))
}

/// Why an integration can't become another organization's, if that has one with the same connector.
async fn in_the_way(
    from: &Organization,
    to: &Organization,
    integration: IntegrationId,
) -> anyhow::Result<Option<String>> {
    let Some(summary) = from.describe(integration).await? else { return Ok(None) };
    let connector = summary.connector_type;
    Ok(to.integration(&connector).await?.map(|other| {
        format!(
            "integration {integration} stays as it is: organization {} has an integration with {connector:?} already, \
             {other}",
            to.id()
        )
    }))
}

/// `credvault delete`.
pub(crate) async fn delete(global: &Global, address: &Address) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let organization = vault.organization(address.organization);
    let integration = find(&organization, &address.integration).await?;
    if !organization.delete(integration).await? {
        return Err(no_credential(integration, &organization));
    }
    Ok(Report::new(
        "delete",
        Exit::Done,
        format!("Deleted the credential of integration {integration}.\n"),
        json!({ "organization_id": organization.id().to_string(), "integration_id": integration.to_string() }),
    ))
}

/// The integration that was named by its id or its connector.
pub(crate) async fn find(
    organization: &Organization,
    integration: &Integration,
) -> anyhow::Result<IntegrationId> {
    if let Some(id) = integration.id {
        return Ok(id);
    }
    let connector = integration.connector.as_deref().context("no integration was named")?;
    organization.integration(connector).await?.ok_or_else(|| {
        let id = organization.id();
        not_found(format!(
            "organization {id} has no integration with {connector:?}; `credvault list --organization {id}` lists what it \
             has, `credvault put --create` makes one"
        ))
    })
}

/// The error for an integration that has none.
pub(crate) fn no_credential(integration: IntegrationId, organization: &Organization) -> anyhow::Error {
    let id = organization.id();
    not_found(format!(
        "integration {integration} of organization {id} has no credential; `credvault list --organization {id}` \
         lists what it has"
    ))
}

fn not_found(message: String) -> anyhow::Error {
    Error::new(ErrorKind::NotFound, message).into()
}
