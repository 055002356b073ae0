//! One session with the token, and what its key does in it.

use cryptoki::context::Pkcs11 as Library;
use cryptoki::error::Error as Pkcs11Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::Ulong;
use zeroize::Zeroizing;

use super::failure;
use super::login::log_in;
use super::module::Module;
use super::record::{CIPHERTEXT_BYTES, IV_BYTES, Sealed};
use super::uri::{Hex, TokenAttributes, Uri};
use crate::crypto::random;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{KEY_BYTES, KeyBytes};

/// How many tokens or keys are named that match where one should.
const MAX_NAMED: usize = 4;

/// The tag's length, in bits as `CK_GCM_PARAMS` wants it: the longest, which a record has.
const TAG_BITS: Ulong = Ulong::new(8 * 16);

/// A key of a token, in a session that ends with this value.
pub(super) struct TokenKey<'a> {
    uri: &'a Uri,
    /// The token, as errors name it.
    name: String,
    session: Session,
    handle: ObjectHandle,
}

impl<'a> TokenKey<'a> {
    /// Finds the token, opens a session, logs in, finds the key.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if the module, the token or the key is not there, or the PIN is wrong; `Refused` if there are
    /// several; `Provider` if the token fails.
    pub(super) fn find(module: &Module, uri: &'a Uri) -> Result<Self> {
        let library = module.library()?;
        let slot = slot_of(&library, uri)?;
        let name = uri.token.to_string();
        let failed = |error| failure::of(&name, error);
        let session = library.open_ro_session(slot).map_err(failed)?;
        {
            let mut refused = module.refused_pins();
            // Asked again now that nobody else logs in: its flags say how many tries are left.
            let token = library.get_token_info(slot).map_err(failed)?;
            log_in(&session, &name, &token, uri.pin.as_ref(), &mut refused)?;
        }
        let handle = key_in(&session, uri, &name)?;
        Ok(Self { uri, name, session, handle })
    }

    /// Refuses a key that could leave the token, be used without its PIN, or not do what it is for.
    ///
    /// # Errors
    ///
    /// `Refused`, naming the attribute.
    pub(super) fn check(&self) -> Result<()> {
        let is = self
            .session
            .get_attributes(
                self.handle,
                &[
                    AttributeType::Sensitive,
                    AttributeType::Extractable,
                    AttributeType::Private,
                    AttributeType::Encrypt,
                    AttributeType::Decrypt,
                    AttributeType::ValueLen,
                ],
            )
            .map_err(|error| failure::of(&self.name, error))?;
        for (wanted, said) in [
            (Attribute::Extractable(false), "CKA_EXTRACTABLE is not false, so it may leave the token"),
            (Attribute::Sensitive(true), "CKA_SENSITIVE is not true, so the token shows its value"),
            (Attribute::Private(true), "CKA_PRIVATE is not true, so it may be used without the PIN"),
            (Attribute::Encrypt(true), "CKA_ENCRYPT is not true"),
            (Attribute::Decrypt(true), "CKA_DECRYPT is not true"),
            (
                Attribute::ValueLen(Ulong::new(KEY_BYTES as _)),
                "CKA_VALUE_LEN is not 32, as it is for AES-256",
            ),
        ] {
            if !is.contains(&wanted) {
                let what = format!("{} of {} is not as it has to be: {said}", self.uri.key, self.name);
                return Err(Error::new(ErrorKind::Refused, what));
            }
        }
        Ok(())
    }

    /// `key`, encrypted by the token under a fresh IV, with `context` authenticated beside it.
    ///
    /// # Errors
    ///
    /// `Provider` if the token fails; `Unsupported` if it has no AES-GCM, or one of another form.
    pub(super) fn encrypt(&self, key: &KeyBytes, context: &[u8]) -> Result<Sealed> {
        let failed = |error| failure::of(&self.name, error);
        let mut iv = [0; IV_BYTES];
        random::fill(&mut iv)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, context, TAG_BITS).map_err(failed)?);
        let ciphertext = self.session.encrypt(&mechanism, self.handle, key.expose()).map_err(failed)?;
        drop(mechanism);
        let Ok(ciphertext) = <[u8; CIPHERTEXT_BYTES]>::try_from(ciphertext) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} answers CKM_AES_GCM with another length than ciphertext and tag have", self.name),
            ));
        };
        // As it is now: a token that insists on an IV of its own has written it there.
        Ok(Sealed { iv, ciphertext })
    }

    /// What the token decrypts, or what it says instead.
    pub(super) fn decrypt(
        &self,
        sealed: &Sealed,
        context: &[u8],
    ) -> std::result::Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
        let mut iv = sealed.iv;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, context, TAG_BITS)?);
        self.session.decrypt(&mechanism, self.handle, &sealed.ciphertext).map(Zeroizing::new)
    }

    /// The error of a decryption that failed for good.
    pub(super) fn undecrypted(&self, error: Pkcs11Error) -> Error {
        failure::of_decryption(&self.name, &self.uri.key, error)
    }
}

/// The slot of the one token that matches.
fn slot_of(library: &Library, uri: &Uri) -> Result<Slot> {
    let wanted: &TokenAttributes = &uri.token;
    let mut found: Vec<(Slot, TokenInfo)> = Vec::new();
    let mut failed = None;
    for slot in library.get_slots_with_token().map_err(|error| failure::of(wanted, error))? {
        if !wanted.may_be_in(slot) {
            continue;
        }
        match library.get_token_info(slot) {
            Ok(token) if token.token_initialized() && wanted.match_token(&token) => found.push((slot, token)),
            Ok(_) => {}
            // Another reader's card may be broken or just gone: it only matters if the token is nowhere else.
            Err(error) => failed = Some(error),
        }
    }
    match (found.as_slice(), failed) {
        ([(slot, _)], _) => Ok(*slot),
        ([], Some(error)) => Err(failure::of(wanted, error)),
        ([], None) => Err(Error::new(
            ErrorKind::KeyUnavailable,
            format!("{wanted} is not there, as the module {:?} says", uri.module),
        )),
        (several, _) => {
            let names: Vec<String> = several
                .iter()
                .take(MAX_NAMED)
                .map(|(slot, token)| {
                    format!("{:?} serial {} in slot {slot}", token.label(), token.serial_number())
                })
                .collect();
            Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{} tokens match where one should, add `serial` to the URI: {}",
                    several.len(),
                    names.join(", ")
                ),
            ))
        }
    }
}

/// The one AES key that matches.
fn key_in(session: &Session, uri: &Uri, name: &str) -> Result<ObjectHandle> {
    let failed = |error| failure::of(name, error);
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
    ];
    template.extend(uri.key.label.clone().map(|label| Attribute::Label(label.into_bytes())));
    template.extend(uri.key.id.clone().map(Attribute::Id));
    let found = session
        .iter_objects(&template)
        .and_then(|handles| handles.take(MAX_NAMED).collect::<std::result::Result<Vec<_>, _>>())
        .map_err(failed)?;
    match found[..] {
        [handle] => Ok(handle),
        [] => Err(Error::new(
            ErrorKind::KeyUnavailable,
            format!("AES {} is not in {name}, or not for this PIN's user", uri.key),
        )),
        _ => {
            let ids = found.iter().map(|handle| {
                let id = session.get_attributes(*handle, &[AttributeType::Id]).map_err(failed)?;
                Ok(match &id[..] {
                    [Attribute::Id(id)] if !id.is_empty() => format!("id {}", Hex(id)),
                    _ => "no id".to_owned(),
                })
            });
            let ids = ids.collect::<Result<Vec<_>>>()?.join(", ");
            Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "several AES keys of {name} match {} where one should, add `id` to the URI: {ids}",
                    uri.key
                ),
            ))
        }
    }
}
