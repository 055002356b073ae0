//! Master keys and records, read and written again: what the property tests and fuzz targets compare.

use super::recipe::Recipe;
use super::text::MasterKeyLines;
use super::{MAX_KEY_FILE_BYTES, ProviderRecord};
use crate::error::{Error, ErrorKind, Result};

/// A key file's keys, without comments and blanks; empty, too, if what was read can't be written.
///
/// # Errors
///
/// As reading it.
pub(crate) fn key_file_again(bytes: &[u8]) -> Result<String> {
    // The file's size is looked at before it is read.
    if bytes.len() > MAX_KEY_FILE_BYTES {
        return Err(Error::new(ErrorKind::Provider, "the key file is too large"));
    }
    MasterKeyLines::read("key file".to_owned(), bytes).map(|keys| keys.again().unwrap_or_default())
}

/// The record of a passphrase; empty, which none is, if what was read can't be written.
///
/// # Errors
///
/// As reading it.
pub(crate) fn passphrase_record_again(text: &str) -> Result<String> {
    let recipe = Recipe::of_record(&ProviderRecord::new(text.to_owned())?)?;
    Ok(recipe.to_record().unwrap_or_default().as_str().to_owned())
}
