//! How each command is typed: the end of its help.

pub(super) const ALL: &str = "\
Begin:
  credvault demo                                     see all of it in a throw-away folder
  credvault master-key generate --out master.key     make a master key, and back it up
  export CREDVAULT_MASTER_KEY=file:master.key
  credvault init                                     make the vault
  printf %s \"$TOKEN\" |
    credvault put --organization ID --connector github --create --field access_token
  credvault get --organization ID --connector github --field access_token

Environment:
  CREDVAULT_DATABASE     the database, where --database is not given; else DATABASE_URL
  CREDVAULT_MASTER_KEY   the master keys, where --master-key is not given; separated by blanks
  CREDVAULT_LOG          what to log to standard error, such as credvault=debug; else RUST_LOG
  NO_COLOR               when set, no colours; there are none outside a terminal

Exit codes:
  0 done   1 error   2 what was given is not valid   3 work remains: run it again
  4 findings, or rows in quarantine   5 refused by a guard; nothing was changed";

pub(super) const DEMO: &str = "\
Examples:
  credvault demo
  credvault demo --tokens 100000 --keep";

pub(super) const INIT: &str = "\
Example:
  credvault master-key generate --out master.key
  credvault init --database sqlite:vault.db --master-key file:master.key";

pub(super) const MIGRATE: &str = "\
Example:
  credvault migrate --dry-run
  credvault migrate";

pub(super) const MASTER_KEY: &str = "\
Example:
  credvault master-key generate --out master.key
  credvault master-key check --master-key file:master.key";

pub(super) const GENERATE: &str = "\
Examples:
  credvault master-key generate --out master.key
  credvault master-key generate | kubectl create secret generic credvault --from-file=master.key=/dev/stdin";

pub(super) const CHECK: &str = "\
Examples:
  credvault master-key check                           those of CREDVAULT_MASTER_KEY
  credvault master-key check --master-key file:old.key --master-key file:new.key";

pub(super) const REFRESH: &str = "\
Example:
  credvault master-key refresh                         after the key service rotated its own key";

pub(super) const PUT: &str = "\
Examples:
  printf %s \"$TOKEN\" |
    credvault put --organization ID --connector github --create --field access_token
  credvault put --organization ID --connector gcp --type service_account --field key < key.json
  credvault put --organization ID --integration ID --type oauth2 < tokens.json";

pub(super) const GET: &str = "\
Examples:
  credvault get --organization ID --connector github
  credvault get --organization ID --connector github --field access_token | some-program";

pub(super) const DESCRIBE: &str = "\
Example:
  credvault describe --organization ID --connector github";

pub(super) const LIST: &str = "\
Example:
  credvault list --organization ID";

pub(super) const EXPIRING: &str = "\
Examples:
  credvault expiring --within 7d
  credvault expiring --before 2027-01-31T12:00:00Z --limit 1000 --output json";

pub(super) const TRANSFER: &str = "\
Example:
  credvault transfer --connector github --from ID --to ID";

pub(super) const DELETE: &str = "\
Example:
  credvault delete --organization ID --connector github";

pub(super) const KEYS: &str = "\
Example:
  credvault keys list";

pub(super) const KEYS_LIST: &str = KEYS;

pub(super) const KEYS_SHOW: &str = "\
Example:
  credvault keys show ID     one of the ids that `credvault keys list` prints";

pub(super) const KEYS_CREATE: &str = "\
Examples:
  credvault keys create --organization ID
  credvault keys create --organization ID --master-key file:customer.key
  credvault rotate";

pub(super) const KEYS_COMPROMISE: &str = "\
Examples:
  credvault keys compromise ID --csv > to-re-issue.csv
  credvault keys compromise ID --output json | jq -r 'select(.event == \"credential\").integration_id'
  credvault rotate";

pub(super) const KEYS_DESTROY: &str = "\
Examples:
  credvault keys list                     which may be destroyed, and why others not
  credvault keys destroy ID
  credvault keys destroy ID --confirm ID  where there is no terminal";

pub(super) const ADOPT: &str = "\
Examples:
  printf %s \"$ENCRYPTION_SALT\" > salt
  credvault adopt --salt-file salt      begin: both services read these rows
  credvault adopt --re-encrypt          once no other service reads the table, and then
  credvault rotate
  credvault adopt --cut-over            once no other service writes it";

pub(super) const ROTATE: &str = "\
Examples:
  credvault rotate                        from cron, every day: does what is due
  credvault rotate --dry-run              says what is due
  credvault rotate --force --workers 2    a new data key now, as fast as it goes
  credvault rotate --max-age 30d --max-duration 2h --rows-per-second 200";

pub(super) const ROTATIONS: &str = "\
Examples:
  credvault rotations
  credvault rotations --limit 1 --output json";

pub(super) const REWRAP: &str = "\
Example:
  credvault master-key generate --out new.key
  … give every service both keys: CREDVAULT_MASTER_KEY=\"file:master.key file:new.key\"
  credvault rewrap --to file:new.key
  … take the old key from the services; keep it as long as the backups that need it

Raise the cost of a passphrase:
  credvault rewrap --to passphrase:file:passphrase --argon2 m=262144,t=4,p=4";

pub(super) const VERIFY: &str = "\
Examples:
  credvault verify --output json
  credvault verify --sample 10000     every key, and ten thousand of the rows";

pub(super) const QUARANTINE: &str = "\
Example:
  credvault quarantine list
  credvault quarantine retry";

pub(super) const QUARANTINE_LIST: &str = "\
Example:
  credvault quarantine list --output json";

pub(super) const QUARANTINE_RETRY: &str = "\
Example:
  credvault quarantine retry     after what was listed was restored, or stored anew
  credvault rotate";

pub(super) const STATUS: &str = "\
Examples:
  credvault status
  credvault status --count --output json     for a monitor, with the exit code";

pub(super) const ROLES: &str = "\
Example:
  credvault roles --step create | psql -1 -v ON_ERROR_STOP=1 app     as an administrator
  DATABASE_URL=postgres://credvault_owner@… credvault init
  credvault roles --step grant | psql -1 -v ON_ERROR_STOP=1 -U credvault_owner app";

pub(super) const COMPLETIONS: &str = "\
Examples:
  credvault completions bash > ~/.local/share/bash-completion/completions/credvault
  credvault completions zsh > ~/.zfunc/_credvault
  credvault completions fish > ~/.config/fish/completions/credvault.fish";

pub(super) const MAN: &str = "\
Examples:
  credvault man | man -l -
  credvault man --out ~/.local/share/man/man1";
