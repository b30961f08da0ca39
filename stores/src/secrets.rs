//! Secrets, mounted as files: `DIR/<secret>/<key>`.
//!
//! They are read for each connection, so that a rotated Secret takes effect without a restart.

use std::{fmt, fs, io, path::PathBuf};

use crate::error::{CREDENTIALS_MISSING, StoreError};

#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The Secret's name, for messages.
    pub secret: String,
    pub username: String,
    pub password: String,
}

/// Without the password, so that none gets into a log.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("secret", &self.secret)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// From a Secret of type kubernetes.io/basic-auth. `field` is where the spec names it.
    pub fn credentials(&self, secret: &str, field: &str) -> Result<Credentials, StoreError> {
        Ok(Credentials {
            secret: secret.to_owned(),
            username: self.value(secret, "username", field)?,
            password: self.value(secret, "password", field)?,
        })
    }

    /// The value of one key, without the line end that `echo` leaves. `field` is where the spec names the Secret.
    pub fn value(&self, secret: &str, key: &str, field: &str) -> Result<String, StoreError> {
        let missing = |what: String| Err(StoreError::configuration(CREDENTIALS_MISSING, what));
        let folder = self.dir.join(secret);
        match fs::read_to_string(folder.join(key)) {
            Ok(text) => match text.trim_end_matches(['\r', '\n']) {
                "" => missing(format!("Secret `{secret}` ({field}) has an empty key `{key}`")),
                value => Ok(value.to_owned()),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let empty = fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
                if empty {
                    missing(format!("Secret `{secret}` ({field}) is missing: create it with the key `{key}`"))
                } else {
                    missing(format!("Secret `{secret}` ({field}) has no key `{key}`"))
                }
            }
            Err(e) => missing(format!("key `{key}` of Secret `{secret}` ({field}) does not read: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_secret_is_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_dir(dir.path());
        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("db/username"), "ann\n").unwrap();
        fs::write(dir.path().join("db/password"), "one").unwrap();
        assert_eq!(secrets.credentials("db", "spec.postgres").unwrap().password, "one");

        fs::write(dir.path().join("db/password"), "two").unwrap();

        assert_eq!(secrets.credentials("db", "spec.postgres").unwrap().password, "two");
    }

    #[test]
    fn what_is_missing_is_named_with_secret_key_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_dir(dir.path());
        let message = |secrets: &Secrets| secrets.credentials("db", "spec.postgres.credentialsSecretRef").unwrap_err().message;
        assert_eq!(
            message(&secrets),
            "Secret `db` (spec.postgres.credentialsSecretRef) is missing: create it with the key `username`"
        );

        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("db/username"), "ann").unwrap();
        assert_eq!(
            message(&secrets),
            "Secret `db` (spec.postgres.credentialsSecretRef) has no key `password`"
        );

        fs::write(dir.path().join("db/password"), "").unwrap();
        assert_eq!(
            message(&secrets),
            "Secret `db` (spec.postgres.credentialsSecretRef) has an empty key `password`"
        );
    }

    #[test]
    fn a_password_is_not_printed() {
        let credentials = Credentials {
            secret: "db".into(),
            username: "ann".into(),
            password: "hunter2".into(),
        };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
