//! Secrets, mounted as files: `DIR/<secret>/<key>`.
//!
//! They are read for each connection, so that a rotated Secret takes effect without a restart.

use std::{fmt, fs, io, path::PathBuf};

use crate::error::{CREDENTIALS_MISSING, StoreError};

/// The keys of a Secret of type kubernetes.io/basic-auth.
const USERNAME: &str = "username";
const PASSWORD: &str = "password";

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
        let [username, password] = [USERNAME, PASSWORD].map(|key| self.read(secret, key));
        match (username, password) {
            (Ok(username), Ok(password)) => Ok(Credentials {
                secret: secret.to_owned(),
                username,
                password,
            }),
            (Err(Missing::Secret), _) | (_, Err(Missing::Secret)) => Err(missing(format!(
                "Secret `{secret}` ({field}) not found: create it with the keys `{USERNAME}` and `{PASSWORD}` (type kubernetes.io/basic-auth)"
            ))),
            (username, password) => {
                let problems: Vec<String> = [(USERNAME, username.err()), (PASSWORD, password.err())]
                    .into_iter()
                    .filter_map(|(key, problem)| Some(problem?.describe(key)))
                    .collect();
                Err(missing(format!("Secret `{secret}` ({field}) {}", problems.join(" and "))))
            }
        }
    }

    /// Checks the credentials of several Secrets, each with the field that names it. The error lists everything that is missing.
    pub fn check<'a>(&self, secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), StoreError> {
        let problems: Vec<String> = secrets
            .into_iter()
            .filter_map(|(secret, field)| self.credentials(secret, field).err())
            .map(|error| error.message)
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(missing(problems.join("; ")))
    }

    /// The value of one key, without the line end that `echo` leaves. `field` is where the spec names the Secret.
    pub fn value(&self, secret: &str, key: &str, field: &str) -> Result<String, StoreError> {
        self.read(secret, key).map_err(|problem| {
            missing(match problem {
                Missing::Secret => format!("Secret `{secret}` ({field}) not found: create it with the key `{key}`"),
                problem => format!("Secret `{secret}` ({field}) {}", problem.describe(key)),
            })
        })
    }

    fn read(&self, secret: &str, key: &str) -> Result<String, Missing> {
        let folder = self.dir.join(secret);
        match fs::read_to_string(folder.join(key)) {
            Ok(text) => match text.trim_end_matches(['\r', '\n']) {
                "" => Err(Missing::Value),
                value => Ok(value.to_owned()),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A Secret that does not exist is mounted as an empty folder.
                let is_empty = fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
                Err(if is_empty { Missing::Secret } else { Missing::Key })
            }
            Err(e) => Err(Missing::Unreadable(e.to_string())),
        }
    }
}

/// What of a Secret is missing.
enum Missing {
    Secret,
    Key,
    Value,
    Unreadable(String),
}

impl Missing {
    fn describe(&self, key: &str) -> String {
        match self {
            Self::Secret | Self::Key => format!("has no key `{key}`"),
            Self::Value => format!("has an empty key `{key}`"),
            Self::Unreadable(error) => format!("has an unreadable key `{key}`: {error}"),
        }
    }
}

fn missing(message: String) -> StoreError {
    StoreError::configuration(CREDENTIALS_MISSING, message)
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
            "Secret `db` (spec.postgres.credentialsSecretRef) not found: create it with the keys `username` and `password` (type kubernetes.io/basic-auth)"
        );
        let value = secrets.value("api", "token", "spec.source.http.auth.bearer").unwrap_err().message;
        assert_eq!(
            value,
            "Secret `api` (spec.source.http.auth.bearer) not found: create it with the key `token`"
        );

        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("db/other"), "ann").unwrap();
        assert_eq!(
            message(&secrets),
            "Secret `db` (spec.postgres.credentialsSecretRef) has no key `username` and has no key `password`"
        );

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
    fn everything_that_is_missing_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_dir(dir.path());
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/username"), "ann").unwrap();
        let error = secrets.check([("a", "spec.postgres"), ("b", "spec.cassandra")]).unwrap_err();
        assert_eq!(error.reason, CREDENTIALS_MISSING);
        assert!(
            error.message.contains("Secret `a` (spec.postgres) not found")
                && error.message.contains("`b` (spec.cassandra) has no key `password`"),
            "{}",
            error.message
        );
        fs::write(dir.path().join("b/password"), "x").unwrap();
        assert_eq!(secrets.check([("b", "spec.cassandra")]), Ok(()));
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
