//! Tokens of a real SoftHSM 2, and the module in front of it that fails as it is told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use credvault::provider::Pkcs11;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Library};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tempfile::TempDir;
use uuid::Uuid;

/// Long enough to be looked for in memory.
pub(super) const PIN: &str = "pin-of-hunter2-and-nobody";
const OFFICERS_PIN: &str = "officer-hunter2";

/// SoftHSM in this process, which the providers under test initialise as well.
static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let library = Library::new(set("CREDVAULT_PKCS11_MODULE")).unwrap();
    // A provider may have been first.
    let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    library
});

fn set(variable: &str) -> PathBuf {
    std::env::var_os(variable).expect("run these tests by tests/providers/run pkcs11").into()
}

/// A token of its own, with the key `credvault`, and a module of its own in front of it.
pub(super) struct Token {
    pub(super) label: String,
    pub(super) folder: TempDir,
}

impl Token {
    pub(super) fn new() -> Self {
        let token = Self::without_key();
        token.add_key("credvault", &[]);
        token
    }

    pub(super) fn without_key() -> Self {
        let folder = TempDir::with_prefix("credvault-pkcs11-").unwrap();
        fs::copy(set("CREDVAULT_PKCS11_FAULTS"), folder.path().join("module.so")).unwrap();
        let token = Self { label: Uuid::new_v4().simple().to_string(), folder };
        token.write_pin(PIN);
        Self::init(&token.label, false);
        token
    }

    /// A second token with the same label.
    pub(super) fn twin(&self) {
        Self::init(&self.label, false);
    }

    /// Wipes the token and initialises it again, with the same label and PIN, and no key.
    pub(super) fn reinitialize(&self) {
        Self::init(&self.label, true);
    }

    fn init(label: &str, again: bool) {
        // The one slot without a token is for one who initialises at a time.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = LIBRARY.get_slots_with_token().unwrap();
        let is_it = |slot: &&Slot| {
            let token = LIBRARY.get_token_info(**slot).unwrap();
            if again { token.label() == label } else { !token.token_initialized() }
        };
        let slot = *slots.iter().find(is_it).unwrap();
        LIBRARY.init_token(slot, &AuthPin::from(OFFICERS_PIN), label).unwrap();
        let session = LIBRARY.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&AuthPin::from(OFFICERS_PIN))).unwrap();
        session.init_pin(&AuthPin::from(PIN)).unwrap();
    }

    /// A session of the test's own. It is logged out with its end.
    fn session(&self) -> Session {
        let slots = LIBRARY.get_slots_with_token().unwrap();
        let is_it = |slot: &&Slot| LIBRARY.get_token_info(**slot).unwrap().label() == self.label;
        let session = LIBRARY.open_rw_session(*slots.iter().find(is_it).unwrap()).unwrap();
        session.login(UserType::User, Some(&AuthPin::from(PIN))).unwrap();
        session
    }

    /// A session that stays open and logged in, as of a service that uses the token for other things.
    pub(super) fn of_a_host(&self) -> Session {
        self.session()
    }

    /// Generates an AES-256 key as the manual says, with other attributes where `instead` has some.
    pub(super) fn add_key(&self, label: &str, instead: &[Attribute]) {
        let mut template = vec![
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(vec![1]),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::ValueLen(32.into()),
        ];
        template.retain(|attribute| {
            !instead.iter().any(|other| other.attribute_type() == attribute.attribute_type())
        });
        template.extend_from_slice(instead);
        self.session().generate_key(&Mechanism::AesKeyGen, &template).unwrap();
    }

    pub(super) fn write_pin(&self, pin: &str) {
        let path = self.folder.path().join("pin");
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn uri(&self) -> String {
        self.uri_of(&format!("token={};object=credvault", self.label))
    }

    /// The URI of these path attributes, with this module and PIN file.
    pub(super) fn uri_of(&self, path: &str) -> String {
        let folder = self.folder.path().display();
        format!("pkcs11:{path}?module-path={folder}/module.so&pin-source=file:{folder}/pin")
    }

    pub(super) fn provider(&self) -> Pkcs11 {
        Pkcs11::from_uri(&self.uri()).unwrap()
    }

    /// The module's next calls of a function come to something else: `NAME WHAT COUNT`.
    pub(super) fn fault(&self, fault: &str) {
        fs::write(self.folder.path().join("fault"), fault).unwrap();
    }

    /// How often the module was called by this function.
    pub(super) fn calls(&self, name: &str) -> usize {
        let path = self.folder.path().join("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        calls.lines().filter(|call| *call == name).count()
    }

    pub(super) fn forget_calls(&self) {
        let _ = fs::remove_file(self.folder.path().join("calls"));
    }
}
