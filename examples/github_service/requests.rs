//! What the service answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, StatusCode, request::Parts};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use credvault::{
    Credential, CredentialType, Error, ErrorKind, ExposeSecret, Organization, OrganizationId, Revision,
};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{Instrument, error, info_span, warn};
use zeroize::{Zeroize, Zeroizing};

use crate::Service;
use crate::database::is_transient;

/// A request with a token takes less than one kibibyte.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// A page of the list of what expires.
const MAX_EXPIRING: u32 = 1_000;

const JSON: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

pub(crate) fn routes(service: Service) -> Router {
    Router::new()
        .route("/organizations/{id}/github", post(connect).delete(disconnect))
        .route("/internal/organizations/{id}/github/token", get(token).put(replace))
        .route("/internal/expiring", get(expiring))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(service.clone(), authenticate))
        .with_state(service)
}

/// Lets in who knows the secret, and gives each request a span, which the log's lines, the vault's too, stand in.
async fn authenticate(State(service): State<Service>, request: Request, next: Next) -> Response {
    let given =
        request.headers().get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // In constant time but for the length, which is no secret.
    let known = given.is_some_and(|given| given.ct_eq(service.secret.expose_secret().as_bytes()).into());
    if !known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let span = info_span!("request", method = %request.method(), path = request.uri().path());
    next.run(request).instrument(span).await
}

/// Connects an organization: its integration and its token, or neither.
async fn connect(
    State(service): State<Service>,
    tenant: Tenant,
    Token(token): Token,
) -> Result<Response, Failure> {
    // In a task of its own: a client that hangs up drops this future, and a transaction should not be dropped half way
    // (launchbadge/sqlx #4385).
    let work = async move { service.database.connect_github(&tenant.0, &token).await }.in_current_span();
    let (integration, revision) =
        tokio::spawn(work).await.map_err(|_| Failure::Broken("a task ended early"))??;
    let body = serde_json::json!({ "integration_id": integration.to_string() }).to_string();
    Ok((StatusCode::CREATED, JSON, [(ETAG, etag(&revision))], body).into_response())
}

/// Disconnects an organization; its token goes with the integration.
async fn disconnect(State(service): State<Service>, tenant: Tenant) -> Result<StatusCode, Failure> {
    match service.database.disconnect_github(tenant.0.id()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Failure::Answer(StatusCode::NOT_FOUND, "the organization is not connected")),
    }
}

/// The token, for a worker.
async fn token(tenant: Tenant) -> Result<Response, Failure> {
    const ABSENT: Failure = Failure::Answer(StatusCode::NOT_FOUND, "the organization has no token");
    let integration = tenant.0.integration("github").await?.ok_or(ABSENT)?;
    let stored = tenant.0.get(integration).await?.ok_or(ABSENT)?;
    let token = stored.credential.field("access_token").ok_or(ABSENT)?.expose_secret();
    let expires_at = stored.credential.expires_at().and_then(|moment| moment.format(&Rfc3339).ok());
    // Wiped once it is sent, and with room from the beginning for every character's escape: where it grew, it would leave
    // a copy. What the server and the kernel write to the socket from is theirs.
    let mut body = Zeroizing::new(Vec::with_capacity(token.len() * 6 + 128));
    let answer = BTreeMap::from([("access_token", Some(token)), ("expires_at", expires_at.as_deref())]);
    serde_json::to_writer(&mut *body, &answer).map_err(|_| Failure::Broken("the answer has no JSON"))?;
    let headers = [(CACHE_CONTROL, "no-store".to_owned()), (ETAG, etag(&stored.revision))];
    Ok((JSON, headers, Bytes::from_owner(body)).into_response())
}

/// Replaces the token if it is still the one of `If-Match`: of two workers that refresh it, one is told to look again.
async fn replace(tenant: Tenant, headers: HeaderMap, Token(token): Token) -> Result<Response, Failure> {
    const CHANGED: Failure =
        Failure::Answer(StatusCode::PRECONDITION_FAILED, "the token changed: get it again");
    let condition = headers.get(IF_MATCH).ok_or(Failure::Answer(
        StatusCode::PRECONDITION_REQUIRED,
        "say with If-Match which token this one is to replace",
    ))?;
    let text = condition.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
    let revision: Revision = text.and_then(|text| text.parse().ok()).ok_or(CHANGED)?;
    let integration = tenant.0.integration("github").await?;
    let integration =
        integration.ok_or(Failure::Answer(StatusCode::NOT_FOUND, "the organization is not connected"))?;
    match tenant.0.update(integration, &revision, &token).await {
        Ok(revision) => Ok((StatusCode::NO_CONTENT, [(ETAG, etag(&revision))]).into_response()),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(CHANGED),
        Err(error) => Err(error.into()),
    }
}

/// What expires within so many seconds, soonest first: for a job that refreshes.
async fn expiring(
    State(service): State<Service>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Failure> {
    const INVALID: Failure = Failure::Answer(StatusCode::BAD_REQUEST, "give within=SECONDS, a whole number");
    let seconds: u32 = query.get("within").and_then(|text| text.parse().ok()).ok_or(INVALID)?;
    let before = OffsetDateTime::now_utc() + Duration::from_secs(seconds.into());
    let expiring = service.vault.expiring(before, MAX_EXPIRING).await?;
    let rows = expiring.iter().filter(|summary| summary.connector_type == "github").map(|summary| {
        serde_json::json!({
            "organization_id": summary.organization_id.to_string(),
            "integration_id": summary.integration_id.to_string(),
            "expires_at": summary.expires_at.and_then(|moment| moment.format(&Rfc3339).ok()),
        })
    });
    let body = serde_json::Value::from_iter(rows).to_string();
    Ok((JSON, body).into_response())
}

fn etag(revision: &Revision) -> String {
    format!("\"{revision}\"")
}

/// The organization of the path, as the vault has it: what is read through it is that organization's.
struct Tenant(Organization);

impl FromRequestParts<Service> for Tenant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Failure> {
        const INVALID: Failure = Failure::Answer(StatusCode::BAD_REQUEST, "an organization's id is a UUID");
        let Path(id) = Path::<String>::from_request_parts(parts, service).await.map_err(|_| INVALID)?;
        let id: OrganizationId = id.parse().map_err(|_| INVALID)?;
        Ok(Self(service.vault.organization(id)))
    }
}

/// The token that a request brings.
struct Token(Credential);

impl FromRequest<Service> for Token {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, service).await;
        let body = body.map_err(|why| Failure::Answer(why.status(), "the body is too long, or broke off"))?;
        let token = read_token(&body);
        // Wiped where the body has memory of its own. A short one mostly is a part of the buffer that the server read the
        // request into, which stays until something overwrites it: no handler gets at that.
        if let Ok(mut body) = body.try_into_mut() {
            body.as_mut().zeroize();
        }
        Ok(Self(token?))
    }
}

/// Reads `{"access_token": …, "installation_id": …, "expires_at": …}`, by way of wiped memory alone.
fn read_token(body: &[u8]) -> Result<Credential, Failure> {
    const INVALID: Failure = Failure::Answer(
        StatusCode::BAD_REQUEST,
        "give access_token, installation_id (a number) and expires_at (RFC 3339), as strings",
    );
    let text = std::str::from_utf8(body).map_err(|_| INVALID)?;
    let sent = Credential::new(CredentialType::token()).with_json_fields(text)?;
    let field = |name| sent.field(name).map(ExposeSecret::expose_secret).ok_or(INVALID);
    let installation_id = field("installation_id")?.parse().map_err(|_| INVALID)?;
    let expires_at = OffsetDateTime::parse(field("expires_at")?, &Rfc3339).map_err(|_| INVALID)?;
    Ok(Credential::github_installation(field("access_token")?, installation_id, expires_at))
}

/// Why there is no answer, or not the one that was asked for.
pub(crate) enum Failure {
    /// The request is to blame: what to tell it.
    Answer(StatusCode, &'static str),
    /// The vault's: its message names ids, never a secret.
    Vault(Error),
    /// Of a statement of the service's own.
    Database(sqlx::Error),
    /// Of the service itself.
    Broken(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Vault(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let again = (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]);
        match self {
            Self::Answer(status, why) => (status, why).into_response(),
            Self::Vault(error) => match error.kind() {
                // First: a conflict is retryable, but only after another look.
                ErrorKind::Conflict => StatusCode::CONFLICT.into_response(),
                ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
                ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
                kind if error.is_retryable() => {
                    warn!(%kind, "{error}");
                    again.into_response()
                }
                kind => {
                    error!(%kind, "{error}");
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
            },
            Self::Database(error) => {
                // Not as it prints itself: a constraint's detail holds the whole row.
                let code = error.as_database_error().and_then(|error| error.code());
                error!(code = code.as_deref().unwrap_or("none"), "the database failed");
                if is_transient(&error) {
                    return again.into_response();
                }
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            Self::Broken(why) => {
                error!("{why}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
