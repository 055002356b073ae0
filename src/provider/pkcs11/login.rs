//! Logging in, without ever spending more than one try of a token's PIN counter on a wrong PIN.

use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;
use secrecy::ExposeSecret;

use super::failure;
use super::pin::PinSource;
use crate::error::{Error, ErrorKind, Result};

/// How many refused PINs are kept: more than one process has tokens.
const MAX_REFUSED: usize = 16;

/// The PINs that tokens refused, by serial number: the same PIN is not sent to the same token again, as long as the
/// process runs. Whoever restarts it, or corrects the PIN, has had a look.
#[derive(Default)]
pub(super) struct RefusedPins(Vec<(String, AuthPin)>);

impl RefusedPins {
    fn hold(&self, serial: &str, pin: &AuthPin) -> bool {
        self.0
            .iter()
            .any(|(token, refused)| token == serial && refused.expose_secret() == pin.expose_secret())
    }

    fn add(&mut self, serial: &str, pin: AuthPin) {
        if self.0.len() == MAX_REFUSED {
            self.0.remove(0);
        }
        self.0.push((serial.to_owned(), pin));
    }
}

/// Logs `session` in, unless this process is already: the login is the process's, for all its sessions with the token.
///
/// So nobody logs out here: a service that uses the token for other things would be logged out with it. The token does
/// that when the process closes its last session.
///
/// # Errors
///
/// `KeyUnavailable` for a wrong or locked PIN, or if there is none; `Refused` before the token's last try;
/// `Provider` if the PIN can't be read or the token fails.
pub(super) fn log_in(
    session: &Session,
    name: &str,
    token: &TokenInfo,
    source: Option<&PinSource>,
    refused: &mut RefusedPins,
) -> Result<()> {
    let state = session.get_session_info().map_err(|error| failure::of(name, error))?.session_state();
    if !token.login_required() || matches!(state, SessionState::RoUser | SessionState::RwUser) {
        return Ok(());
    }
    let unavailable = |what: &str| Error::new(ErrorKind::KeyUnavailable, format!("{name} {what}"));
    let source = source.ok_or_else(|| unavailable("wants a PIN: say where it is by `pin-source`"))?;
    if token.user_pin_locked() {
        return Err(unavailable(LOCKED));
    }
    if token.user_pin_final_try() {
        let what = "has one try of its PIN left, which no process spends by itself: log in by hand with the right PIN, \
                    then try again";
        return Err(Error::new(ErrorKind::Refused, format!("{name} {what}")));
    }
    let pin = source.pin()?;
    let wrong = |again: &str| unavailable(&format!("refused the PIN of {source}: it is wrong{again}"));
    if refused.hold(token.serial_number(), &pin) {
        return Err(wrong(", and this process doesn't send it again"));
    }
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Pkcs11Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            refused.add(token.serial_number(), pin);
            Err(wrong(""))
        }
        Err(Pkcs11Error::Pkcs11(RvError::PinLocked, _)) => Err(unavailable(LOCKED)),
        Err(Pkcs11Error::Pkcs11(RvError::PinExpired, _)) => {
            Err(unavailable("says that its PIN has expired: set a new one"))
        }
        Err(Pkcs11Error::Pkcs11(RvError::UserPinNotInitialized, _)) => {
            Err(unavailable("has no user PIN yet: its security officer sets one"))
        }
        Err(error) => Err(failure::of_login(name, error)),
    }
}

const LOCKED: &str = "has locked its PIN after too many wrong ones: its security officer unlocks it";
