//! What a module's return value means for whoever wants a master key.

use std::fmt;

use cryptoki::error::{Error as Pkcs11Error, RvError};

use crate::error::{Error, ErrorKind};

/// What `name` failed with: retryable if a new session may be all that it takes.
pub(super) fn of(name: impl fmt::Display, error: Pkcs11Error) -> Error {
    let Pkcs11Error::Pkcs11(value, _) = &error else {
        return Error::new(ErrorKind::Provider, said(name, &error));
    };
    match value {
        RvError::MechanismInvalid => {
            Error::new(ErrorKind::Unsupported, format!("{name} has no CKM_AES_GCM, which seals master keys"))
        }
        value if is_lost(*value) || is_passing(*value) => {
            Error::new(ErrorKind::Provider, said(name, &error)).retryable()
        }
        _ => Error::new(ErrorKind::Provider, said(name, &error)),
    }
}

/// The same for a login, which is made again only if it didn't come to the token's ears: it may have counted a try.
pub(super) fn of_login(name: impl fmt::Display, error: Pkcs11Error) -> Error {
    let what = Error::new(ErrorKind::Provider, said(name, &error));
    match error {
        Pkcs11Error::Pkcs11(value, _) if is_lost(value) => what.retryable(),
        _ => what,
    }
}

/// The same for a decryption, which failed for good.
pub(super) fn of_decryption(name: impl fmt::Display, key: impl fmt::Display, error: Pkcs11Error) -> Error {
    match error {
        Pkcs11Error::Pkcs11(value, _) if is_refusal(value) || is_doubtful(&error) => Error::new(
            ErrorKind::Tampered,
            format!(
                "{}: the record was changed, belongs to another vault, master key or organization, or was made under \
                 another key than {key}; if the token decrypts nothing else either, the token itself fails",
                said(name, &error)
            ),
        ),
        error => of(name, error),
    }
}

/// Whether a decryption's failure may be the ciphertext's, or the token's own: modules say the same for both.
pub(super) fn is_doubtful(error: &Pkcs11Error) -> bool {
    matches!(
        error,
        Pkcs11Error::Pkcs11(
            RvError::GeneralError | RvError::DeviceError | RvError::FunctionFailed | RvError::ArgumentsBad,
            cryptoki::context::Function::Decrypt
        )
    )
}

/// `CKR_AEAD_DECRYPT_FAILED` of PKCS#11 3.0, which the binding has no name for.
const AEAD_DECRYPT_FAILED: RvError = RvError::UnknownErrorCode(0x42);

/// Whether a token says that the ciphertext is not what it once gave.
fn is_refusal(value: RvError) -> bool {
    matches!(
        value,
        RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | AEAD_DECRYPT_FAILED
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::SignatureInvalid
    )
}

/// Whether the session, the token or the login has gone away, which a new session may find again.
fn is_lost(value: RvError) -> bool {
    matches!(
        value,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::SlotIdInvalid
            | RvError::UserNotLoggedIn
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::CryptokiNotInitialized
    )
}

/// Whether it may be over in a moment.
fn is_passing(value: RvError) -> bool {
    matches!(
        value,
        RvError::GeneralError
            | RvError::DeviceError
            | RvError::FunctionFailed
            | RvError::FunctionCanceled
            | RvError::HostMemory
            | RvError::DeviceMemory
            | RvError::SessionCount
            | RvError::OperationActive
    )
}

/// In the standard's words: `C_Decrypt failed with EncryptedDataInvalid`.
fn said(name: impl fmt::Display, error: &Pkcs11Error) -> String {
    match error {
        Pkcs11Error::Pkcs11(value, function) => format!("{name}: C_{function:?} failed with {value:?}"),
        error => format!("{name}: {error}"),
    }
}
