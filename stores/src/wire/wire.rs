//! The files of a connection, and the fields that name them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use userpipeline_api::{CaSource, Certificates, SecretKeyRef, SecretRef};

use super::{
    material::{ClientCertificate, Fingerprint, Material},
    problem::TlsProblem,
};
use crate::{
    Secrets, StoreError,
    error::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CREDENTIALS_MISSING, TLS_MISMATCH},
};

/// The files are read again for a comparison after this long. Batches of a few messages ask hundreds of times a second.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// A client certificate in a Secret.
#[derive(Clone, Debug)]
struct ClientSecret {
    name: String,
    /// Where the spec names the Secret.
    field: String,
    /// The keys with the certificate and its private key.
    keys: [&'static str; 2],
}

/// The keys of a Secret of type kubernetes.io/tls.
const TLS_KEYS: [&str; 2] = ["tls.crt", "tls.key"];
/// Those of the Secret of a `KafkaUser`.
const USER_KEYS: [&str; 2] = ["user.crt", "user.key"];

/// A user name and a password in a Secret.
#[derive(Clone, Debug)]
struct Login {
    secret: String,
    /// Where the spec names the Secret.
    field: String,
    /// None: it is in the Secret.
    username: Option<String>,
}

/// The mounted files of a connection to a store. They are read for each connection, so that a rotation takes effect.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The path of its block in the resource, such as `spec.postgres`.
    pub field: &'static str,
    secrets: Secrets,
    ca: Option<CaSource>,
    client: Option<ClientSecret>,
    /// The public authorities are accepted besides those of `ca`.
    pub(super) accepts_public: bool,
    login: Option<Login>,
    /// A key of a Secret with a token, and the field that names it.
    token: Option<(SecretKeyRef, String)>,
    /// What the files were when they were read last, and when that was.
    seen: Arc<Mutex<Option<(Instant, Fingerprint)>>>,
}

impl Wire {
    pub fn new(field: &'static str, secrets: &Secrets) -> Self {
        Self {
            field,
            secrets: secrets.clone(),
            ca: None,
            client: None,
            accepts_public: false,
            login: None,
            token: None,
            seen: Arc::default(),
        }
    }

    #[must_use]
    pub fn with_certificates(mut self, certificates: Option<&Certificates>) -> Self {
        let Certificates { ca, client_secret_ref } = certificates.cloned().unwrap_or_default();
        self.ca = ca;
        self.client = client_secret_ref.map(|secret| ClientSecret {
            name: secret.name,
            field: format!("{}.tls.clientSecretRef", self.field),
            keys: TLS_KEYS,
        });
        self
    }

    /// Accepts the public authorities besides those of `ca`.
    #[must_use]
    pub const fn with_public_authorities(mut self) -> Self {
        self.accepts_public = true;
        self
    }

    /// `field` is where the block names the Secret.
    #[must_use]
    pub fn with_credentials(mut self, secret: &SecretRef, field: &str) -> Self {
        self.login = Some(Login {
            secret: secret.name.clone(),
            field: format!("{}.{field}", self.field),
            username: None,
        });
        self
    }

    /// As [`Self::with_credentials`], with a user name that is not in the Secret.
    #[must_use]
    pub fn with_username(mut self, username: &str) -> Self {
        if let Some(login) = &mut self.login {
            login.username = Some(username.to_owned());
        }
        self
    }

    /// The client certificate of a `KafkaUser`. `field` is where the block names its Secret.
    #[must_use]
    pub fn with_user_certificate(mut self, secret: &SecretRef, field: &str) -> Self {
        self.client = Some(ClientSecret {
            name: secret.name.clone(),
            field: format!("{}.{field}", self.field),
            keys: USER_KEYS,
        });
        self
    }

    /// `field` is where the block names the key.
    #[must_use]
    pub fn with_token(mut self, key: &SecretKeyRef, field: &str) -> Self {
        self.token = Some((key.clone(), format!("{}.{field}", self.field)));
        self
    }

    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self.field {
            "spec.schemaRegistry" => "registry",
            field => field.strip_prefix("spec.").unwrap_or(field),
        }
    }

    /// The files as they are now. The error lists everything that is missing.
    pub fn read(&self) -> Result<Material, StoreError> {
        let material = self.read_files()?;
        self.see(&material, Instant::now());
        Ok(material)
    }

    fn see(&self, material: &Material, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some((now, material.fingerprint()));
    }

    fn read_files(&self) -> Result<Material, StoreError> {
        let mut problems = Vec::new();
        let mut material = Material::default();
        if let Some(Login { secret, field, username }) = &self.login {
            let credentials = match username {
                None => self.secrets.credentials(secret, field),
                Some(username) => self.secrets.password_of(secret, username, field),
            };
            material.credentials = keep(credentials, &mut problems)?;
        }
        if let Some((key, field)) = &self.token {
            material.token = keep(self.secrets.value(&key.name, &key.key, field), &mut problems)?;
        }
        if let Some(ca) = &self.ca {
            material.ca = keep(self.secrets.authorities(ca, &self.ca_field()), &mut problems)?;
        }
        if let Some(ClientSecret { name, field, keys }) = &self.client {
            let [certificate, key] = keys.map(|key| self.secrets.value(name, key, field));
            let certificate = keep(certificate, &mut problems)?;
            let key = keep(key, &mut problems)?;
            material.client = certificate
                .zip(key)
                .map(|(certificate, key)| ClientCertificate { certificate, key });
        }
        if problems.is_empty() {
            return Ok(material);
        }
        problems.dedup();
        Err(StoreError::configuration(CREDENTIALS_MISSING, problems.join("; ")))
    }

    /// Whether the files differ from what a connection was opened with, as they were within the last second. Files that cannot be
    /// read are no rotation.
    pub fn is_rotated(&self, since: &Fingerprint) -> bool {
        self.is_rotated_at(since, Instant::now())
    }

    fn is_rotated_at(&self, since: &Fingerprint, now: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, fingerprint)) = seen
            && now < at + SEEN_FOR
        {
            return fingerprint != *since;
        }
        self.read_files().is_ok_and(|material| {
            self.see(&material, now);
            material.fingerprint() != *since
        })
    }

    /// The authorities' certificates, for messages.
    pub(super) fn authorities(&self) -> String {
        match &self.ca {
            Some(ca) => place(ca, &self.ca_field()),
            None => format!("the image's public authorities ({} is not set)", self.ca_field()),
        }
    }

    /// The client certificate, for messages.
    pub(super) fn client_certificate(&self) -> Option<String> {
        let ClientSecret { name, field, keys } = self.client.as_ref()?;
        let [certificate, key] = keys;
        Some(format!(
            "the client certificate in keys `{certificate}` and `{key}` of Secret `{name}` ({field})"
        ))
    }

    /// The user name and password, for messages.
    pub fn credentials_place(&self) -> String {
        let secret = self.login.as_ref().map(|Login { secret, field, username }| match username {
            None => format!("the keys `username` and `password` of Secret `{secret}` ({field})"),
            Some(username) => format!("user `{username}` with the key `password` of Secret `{secret}` ({field})"),
        });
        let token = self
            .token
            .as_ref()
            .map(|(key, field)| format!("the key `{}` of Secret `{}` ({field})", key.key, key.name));
        secret
            .or(token)
            .unwrap_or_else(|| format!("a request without credentials ({}.auth is not set)", self.field))
    }

    fn ca_field(&self) -> String {
        format!("{}.tls.ca", self.field)
    }

    fn client_field(&self) -> String {
        format!("{}.tls.clientSecretRef", self.field)
    }

    /// What a failed handshake means, and what to do. `at` names store and address; `name_field` is where the spec has the name
    /// that the server's certificate must have.
    pub fn explain(&self, at: &str, problem: &TlsProblem, name_field: &str) -> StoreError {
        let (reason, message) = match problem {
            TlsProblem::Expired => (
                CERTIFICATE_EXPIRED,
                "the server's certificate has expired: renew it on the server".to_owned(),
            ),
            TlsProblem::NotYetValid => (
                CERTIFICATE_REFUSED,
                "the server's certificate is not valid yet: check its dates and the clocks".to_owned(),
            ),
            TlsProblem::UnknownAuthority => (
                CERTIFICATE_REFUSED,
                format!(
                    "the server's certificate is not signed by an authority in {}: add the certificate of its authority",
                    self.authorities()
                ),
            ),
            TlsProblem::OtherName(names) => (
                CERTIFICATE_REFUSED,
                format!("the server's certificate is for another name{names}: fix {name_field}, or issue a certificate for that name"),
            ),
            TlsProblem::Invalid(why) => (CERTIFICATE_REFUSED, format!("the server's certificate is invalid: {why}")),
            TlsProblem::ClientRefused { expired, alert } => match self.client_certificate() {
                None => (
                    CERTIFICATE_REFUSED,
                    format!("the server requires a client certificate ({alert}): set {}", self.client_field()),
                ),
                Some(client) if *expired => (
                    CERTIFICATE_EXPIRED,
                    format!("the server refused {client}, because it has expired: renew it"),
                ),
                Some(client) => (
                    CERTIFICATE_REFUSED,
                    format!("the server refused {client} ({alert}): use a certificate of an authority that the server trusts"),
                ),
            },
            TlsProblem::NoTls => (
                TLS_MISMATCH,
                format!(
                    "the server does not answer with TLS: enable TLS there, or request plain text with {}",
                    self.plain_text()
                ),
            ),
            // Cassandra refuses a client certificate with an internal error.
            TlsProblem::Other(text) => {
                let client = self
                    .client_certificate()
                    .map(|client| format!("; check that the server trusts {client}"));
                let message = format!("the TLS handshake failed: {text}{}", client.unwrap_or_default());
                (CERTIFICATE_REFUSED, message)
            }
        };
        StoreError::configuration(reason, format!("{at}: {message}"))
    }

    /// How the spec requests plain text.
    fn plain_text(&self) -> String {
        match self.field {
            "spec.schemaRegistry" => "an http:// address in spec.schemaRegistry.url".to_owned(),
            "spec.http" => "an http:// address in spec.http.baseUrl".to_owned(),
            field => format!("{field}.tls: {{mode: Disable}}"),
        }
    }
}

/// Certificates of authorities, for messages. `field` is where the spec has `ca`.
pub fn place(ca: &CaSource, field: &str) -> String {
    if let Some(key) = &ca.secret_key_ref {
        return format!("key `{}` of Secret `{}` ({field}.secretKeyRef)", key.key, key.name);
    }
    match &ca.config_map_key_ref {
        Some(key) => format!("key `{}` of ConfigMap `{}` ({field}.configMapKeyRef)", key.key, key.name),
        None => field.to_owned(),
    }
}

/// What was read, or nothing where it is missing, which is one of the problems. Other errors end the reading.
fn keep<T>(read: Result<T, StoreError>, problems: &mut Vec<String>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.reason == CREDENTIALS_MISSING => {
            problems.push(error.message);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_noticed_after_a_second_and_an_own_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("login");
        std::fs::create_dir(&secret).unwrap();
        let put = |password: &str| std::fs::write(secret.join("password"), password).unwrap();
        std::fs::write(secret.join("username"), "ada").unwrap();
        put("old");
        let login = SecretRef { name: "login".to_owned() };
        let wire = Wire::new("spec.postgres", &Secrets::in_dir(dir.path())).with_credentials(&login, "credentialsSecretRef");
        let before = Instant::now();
        let opened_with = wire.read().unwrap().fingerprint();

        put("new");
        assert!(!wire.is_rotated_at(&opened_with, before));
        assert!(wire.is_rotated_at(&opened_with, Instant::now() + SEEN_FOR));

        // What another connection was opened with is known at once.
        put("newest");
        let opened_with = wire.read().unwrap().fingerprint();
        assert!(!wire.is_rotated_at(&opened_with, Instant::now()));
    }
}
