//! The files of `migrations/`, in the binary.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

/// One migration of one dialect.
pub(super) struct Embedded {
    pub(super) version: i64,
    pub(super) description: &'static str,
    sql: &'static str,
}

/// The files of a folder. Not sqlx's macro `migrate!`: that would compile all of sqlx a second time for the build
/// machine in every release build, to read what stands here. A test holds this list to the folders.
macro_rules! embedded {
    ($folder:literal) => {
        embedded!($folder:
            1 "identity tables" "001_identity_tables.sql",
            2 "integration tables" "002_integration_tables.sql",
            3 "vault tables" "003_vault_tables.sql",
            4 "validate credential keys" "004_validate_credential_keys.sql",
            5 "analyze credentials rarely" "005_analyze_credentials_rarely.sql",
        )
    };
    ($folder:literal: $($version:literal $description:literal $file:literal,)*) => {
        [$(Embedded {
            version: $version,
            description: $description,
            sql: include_str!(concat!("../../../migrations/", $folder, $file)),
        }),*]
    };
}

#[cfg(feature = "postgres")]
pub(super) static POSTGRES: [Embedded; 5] = embedded!("");
#[cfg(feature = "sqlite")]
pub(super) static SQLITE: [Embedded; 5] = embedded!("sqlite/");

impl Embedded {
    pub(super) fn migration(&self) -> Migration {
        Migration::new(
            self.version,
            self.description.into(),
            MigrationType::Simple,
            self.sql.into_sql_str(),
            false,
        )
    }
}

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    fn files(folder: &str) -> Vec<(String, String)> {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn listed(list: &[Embedded]) -> Vec<(String, String)> {
        list.iter()
            .map(|known| {
                let name = format!("{:03}_{}.sql", known.version, known.description.replace(' ', "_"));
                (name, known.sql.to_owned())
            })
            .collect()
    }

    #[test]
    fn list_is_the_files_of_both_folders() {
        assert_eq!(listed(&POSTGRES), files("migrations"));
        assert_eq!(listed(&SQLITE), files("migrations/sqlite"));
    }

    #[test]
    fn sql_is_checked_in_with_unix_line_ends() {
        for known in POSTGRES.iter().chain(&SQLITE) {
            assert!(!known.sql.contains('\r'), "{}", known.description);
        }
    }
}
