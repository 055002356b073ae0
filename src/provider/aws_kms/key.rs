//! Which key of AWS KMS is meant: an ARN, or an alias.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The most bytes of a key's id (`mrk-` and 32 hexadecimal digits are 36) and of an alias, as the API's reference has it.
const MAX_KEY_ID_BYTES: usize = 64;
const MAX_ALIAS_BYTES: usize = 256;

/// Longer than any region's name.
const MAX_REGION_BYTES: usize = 32;

/// Begins the id of a key that has replicas in other regions.
const MULTI_REGION: &str = "mrk-";

/// The ARN of a key, as KMS returns it: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyArn(String);

impl KeyArn {
    pub(super) fn read(text: &str) -> Option<Self> {
        let id = parts(text)?.resource.strip_prefix("key/")?;
        (id.len() <= MAX_KEY_ID_BYTES && is_of(id, "-")).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are one key, or replicas of one multi-region key, which open each other's ciphertexts.
    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        let replicas = |one: Parts<'_>, two: Parts<'_>| {
            one.resource.starts_with(&format!("key/{MULTI_REGION}"))
                && (one.partition, one.account, one.resource) == (two.partition, two.account, two.resource)
        };
        self == other
            || matches!((parts(&self.0), parts(&other.0)), (Some(one), Some(two)) if replicas(one, two))
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key that every call names. Nothing that stands in the database takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Arn(KeyArn),
    /// `alias/NAME`, or an ARN that ends so: whichever key it is of at the moment.
    Alias(String),
}

impl Key {
    /// Reads what follows `aws-kms:`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other form, which is not repeated: it may be a secret in the wrong place.
    pub(super) fn read(text: &str) -> Result<Self> {
        let alias = || {
            let resource = if text.starts_with("arn:") { parts(text)?.resource } else { text };
            let name = resource.strip_prefix("alias/")?;
            // Keys of that alias are managed by AWS for its own services.
            let usable = resource.len() <= MAX_ALIAS_BYTES && is_of(name, "/_-") && !name.starts_with("aws/");
            usable.then(|| Self::Alias(text.to_owned()))
        };
        KeyArn::read(text).map(Self::Arn).or_else(alias).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "a key of AWS KMS is given as `aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID`, the same with `alias/NAME` at its \
                 end, or `aws-kms:alias/NAME`, and is no key of AWS's own (what was given is not repeated here)",
            )
        })
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.as_str(),
            Self::Alias(alias) => alias,
        }
    }

    /// The region that an ARN says.
    pub(super) fn region(&self) -> Option<&str> {
        Some(parts(self.as_str())?.region)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE`
#[derive(Clone, Copy)]
struct Parts<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

fn parts(arn: &str) -> Option<Parts<'_>> {
    let mut fields = arn.splitn(6, ':');
    let mut next = || fields.next();
    let (scheme, partition, service) = (next()?, next()?, next()?);
    let (region, account, resource) = (next()?, next()?, next()?);
    let known = scheme == "arn" && service == "kms" && ["aws", "aws-cn", "aws-us-gov"].contains(&partition);
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let somewhere = (1..=MAX_REGION_BYTES).contains(&region.len()) && region.bytes().all(lower);
    let somebody = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (known && somewhere && somebody).then_some(Parts { partition, region, account, resource })
}

/// Whether `name` is one or more letters, digits and `others`.
fn is_of(name: &str, others: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || others.contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn a_key_is_named_in_the_forms_of_aws_and_in_no_other() {
        let alias_arn = ARN.replace("key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/team/credvault_1");
        for (text, region) in [
            (ARN, Some("eu-west-1")),
            (&alias_arn, Some("eu-west-1")),
            (
                &ARN.replace("arn:aws:kms:eu-west-1", "arn:aws-us-gov:kms:us-gov-west-1"),
                Some("us-gov-west-1"),
            ),
            (&ARN.replace("arn:aws:kms:eu-west-1", "arn:aws-cn:kms:cn-north-1"), Some("cn-north-1")),
            ("alias/credvault", None),
            (&format!("alias/{}", "x".repeat(MAX_ALIAS_BYTES - 6)), None),
        ] {
            let key = Key::read(text).unwrap();
            assert_eq!((key.as_str(), key.region()), (text, region));
        }
        for text in [
            "",
            "credvault",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/",
            "alias/aws/s3",
            "alias/hunter 2",
            "alias/hunter:2",
            "alias/hunter2\n",
            &alias_arn.replace("team", "aws"),
            &format!("alias/{}", "x".repeat(MAX_ALIAS_BYTES - 5)),
            &ARN.replace("kms", "s3"),
            &ARN.replace("arn:aws:", "arn:aws-other:"),
            &ARN.replace("arn:", "ARN:"),
            &ARN.replace("eu-west-1", ""),
            &ARN.replace("eu-west-1", "evil.example/"),
            &ARN.replace("eu-west-1", &"x".repeat(MAX_REGION_BYTES + 1)),
            &ARN.replace("111122223333", "11112222333"),
            &ARN.replace("111122223333", "11112222333x"),
            &ARN.replace("key/", "grant/"),
            &format!("{ARN}{}", "0".repeat(MAX_KEY_ID_BYTES)),
            &format!("{ARN}:hunter2"),
            &format!("{ARN} "),
        ] {
            let error = Key::read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn replicas_of_a_multi_region_key_are_one_key_and_no_others_are() {
        let of = |text: &str| KeyArn::read(text).unwrap();
        let replica = ARN.replace("key/", "key/mrk-");
        assert!(of(ARN).is_same_key(&of(ARN)));
        assert!(of(&replica).is_same_key(&of(&replica.replace("eu-west-1", "us-east-1"))));
        for (one, other) in [
            (ARN, ARN.replace("eu-west-1", "us-east-1")),
            (&replica, replica.replace("1111", "4444")),
            (&replica, replica.replace("90ab", "90ac")),
            (&replica, replica.replace("arn:aws:", "arn:aws-cn:")),
        ] {
            assert!(!of(one).is_same_key(&of(&other)), "{other}");
        }
    }
}
