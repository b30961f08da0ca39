//! Secrets and ConfigMaps, mounted as files: `DIR/<name>/<key>`.
//!
//! They are read for each connection, so that a rotated Secret takes effect without a restart.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use userpipeline_api::{CaSource, ConfigMapKeyRef, document::CONFIG_MAPS};

use crate::error::{CREDENTIALS_MISSING, PIPELINE_INVALID, StoreError};

/// The keys of a Secret of type kubernetes.io/basic-auth.
const USERNAME: &str = "username";
const PASSWORD: &str = "password";

#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
    config_maps: PathBuf,
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
        Self {
            dir: dir.into(),
            config_maps: CONFIG_MAPS.into(),
        }
    }

    /// With the folder of the ConfigMaps, which is otherwise that of a pod.
    #[must_use]
    pub fn with_config_maps(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config_maps = dir.into();
        self
    }

    /// From a Secret of type kubernetes.io/basic-auth. `field` is where the spec names it.
    pub fn credentials(&self, secret: &str, field: &str) -> Result<Credentials, StoreError> {
        let [username, password] = [USERNAME, PASSWORD].map(|key| read(&self.dir, secret, key));
        match (username, password) {
            (Ok(username), Ok(password)) => Ok(Credentials {
                secret: secret.to_owned(),
                username,
                password,
            }),
            (Err(Missing::Object), _) | (_, Err(Missing::Object)) => Err(missing(format!(
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

    /// From a Secret that has only the password. `field` is where the spec names it.
    pub fn password_of(&self, secret: &str, username: &str, field: &str) -> Result<Credentials, StoreError> {
        Ok(Credentials {
            secret: secret.to_owned(),
            username: username.to_owned(),
            password: self.value(secret, PASSWORD, field)?,
        })
    }

    /// The value of one key, without the line end that `echo` leaves. `field` is where the spec names the Secret.
    pub fn value(&self, secret: &str, key: &str, field: &str) -> Result<String, StoreError> {
        read(&self.dir, secret, key).map_err(|problem| {
            missing(match problem {
                Missing::Object => format!("Secret `{secret}` ({field}) not found: create it with the key `{key}`"),
                problem => format!("Secret `{secret}` ({field}) {}", problem.describe(key)),
            })
        })
    }

    /// Certificates of authorities, in PEM. `field` is where the spec has `ca`.
    pub fn authorities(&self, ca: &CaSource, field: &str) -> Result<String, StoreError> {
        if let Some(key) = &ca.secret_key_ref {
            return self.value(&key.name, &key.key, &format!("{field}.secretKeyRef"));
        }
        let Some(ConfigMapKeyRef { name, key }) = &ca.config_map_key_ref else {
            let message = format!("{field} must have exactly one of configMapKeyRef and secretKeyRef");
            return Err(StoreError::configuration(PIPELINE_INVALID, message));
        };
        read(&self.config_maps, name, key).map_err(|problem| {
            missing(match problem {
                Missing::Object => format!("ConfigMap `{name}` ({field}.configMapKeyRef) not found: create it with the key `{key}`"),
                problem => format!("ConfigMap `{name}` ({field}.configMapKeyRef) {}", problem.describe(key)),
            })
        })
    }
}

/// The value of a key of a mounted object.
fn read(dir: &Path, name: &str, key: &str) -> Result<String, Missing> {
    let folder = dir.join(name);
    match fs::read_to_string(folder.join(key)) {
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => Err(Missing::Value),
            value => Ok(value.to_owned()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // What does not exist is mounted as an empty folder.
            let is_empty = fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
            Err(if is_empty { Missing::Object } else { Missing::Key })
        }
        Err(e) => Err(Missing::Unreadable(e.to_string())),
    }
}

/// What of a Secret or ConfigMap is missing.
enum Missing {
    Object,
    Key,
    Value,
    Unreadable(String),
}

impl Missing {
    fn describe(&self, key: &str) -> String {
        match self {
            Self::Object | Self::Key => format!("has no key `{key}`"),
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
    fn authorities_are_in_a_secret_or_a_config_map_and_missing_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_dir(dir.path().join("secrets")).with_config_maps(dir.path().join("config-maps"));
        for (member, folder, kind) in [
            ("secretKeyRef", "secrets", "Secret"),
            ("configMapKeyRef", "config-maps", "ConfigMap"),
        ] {
            let ca: CaSource = serde_json::from_value(serde_json::json!({member: {"name": "ca", "key": "ca.crt"}})).unwrap();
            let read = || secrets.authorities(&ca, "spec.x.tls.ca");
            let message = read().unwrap_err().message;
            assert_eq!(
                message,
                format!("{kind} `ca` (spec.x.tls.ca.{member}) not found: create it with the key `ca.crt`")
            );
            fs::create_dir_all(dir.path().join(folder).join("ca")).unwrap();
            fs::write(dir.path().join(folder).join("ca/other"), "x").unwrap();
            assert_eq!(
                read().unwrap_err().message,
                format!("{kind} `ca` (spec.x.tls.ca.{member}) has no key `ca.crt`")
            );
            fs::write(dir.path().join(folder).join("ca/ca.crt"), "pem").unwrap();
            assert_eq!(read().unwrap(), "pem");
        }
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
