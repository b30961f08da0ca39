//! The Secrets and ConfigMaps that a pod mounts.

use crate::{
    Cassandra, Certificates, HttpSource, Kafka, KafkaAuth, KafkaLogin, KafkaTls, Postgres, RecordSpec, RegistryAuth, SchemaRegistry,
    SecretRef, UserPipelineConnectionSpec,
};

/// Where a pod mounts ConfigMaps with certificates, each as a folder. The programs' default, so that the
/// arguments of pods do not depend on it: a pinned version may not know the option.
pub const CONFIG_MAPS: &str = "/etc/userpipeline/config-maps";

/// The Secrets and ConfigMaps that a program reads, each once, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Names of Secrets.
    pub secrets: Vec<String>,
    /// Names of ConfigMaps with certificates of authorities.
    pub config_maps: Vec<String>,
}

impl Mounts {
    /// What each block of a connection names.
    pub(super) fn of_connection(spec: &UserPipelineConnectionSpec) -> Self {
        let mut mounts = Self::default();
        spec.postgres.iter().for_each(|postgres| mounts.postgres(postgres));
        if let Some(kafka) = &spec.kafka {
            mounts.brokers(kafka.auth.as_ref(), kafka.tls.as_ref());
        }
        if let Some(registry) = &spec.schema_registry {
            mounts.registry(registry.auth.as_ref(), registry.tls.as_ref());
        }
        spec.cassandra.iter().for_each(|cassandra| mounts.cassandra(&cassandra.cluster()));
        spec.http.iter().for_each(|http| mounts.certificates(&http.tls));
        mounts.sorted()
    }

    /// What every program reads.
    pub(super) fn stores(&mut self, postgres: &Postgres, kafka: &Kafka, registry: Option<&SchemaRegistry>) {
        self.postgres(postgres);
        self.brokers(kafka.auth.as_ref(), kafka.tls.as_ref());
        if let Some(registry) = registry {
            self.registry(registry.auth.as_ref(), registry.tls.as_ref());
        }
    }

    fn postgres(&mut self, postgres: &Postgres) {
        self.secret(&postgres.credentials_secret_ref);
        if let Some(tls) = &postgres.tls {
            self.certificates(&tls.certificates);
        }
    }

    fn brokers(&mut self, auth: Option<&KafkaAuth>, tls: Option<&KafkaTls>) {
        match auth.and_then(KafkaAuth::login) {
            Some(KafkaLogin::Password { secret, .. } | KafkaLogin::Certificate { secret }) => self.secret(secret),
            Some(KafkaLogin::Unresolved) | None => {}
        }
        if let Some(tls) = tls {
            self.certificates(&tls.certificates);
        }
    }

    fn registry(&mut self, auth: Option<&RegistryAuth>, tls: Option<&Certificates>) {
        if let Some(auth) = auth {
            auth.basic.iter().for_each(|basic| self.secret(&basic.credentials_secret_ref));
            self.secrets.extend(auth.bearer.iter().map(|key| key.secret_key_ref.name.clone()));
        }
        if let Some(tls) = tls {
            self.certificates(tls);
        }
    }

    pub(super) fn cassandra(&mut self, cassandra: &Cassandra) {
        self.secret(&cassandra.credentials_secret_ref);
        if let Some(tls) = &cassandra.tls {
            self.certificates(&tls.certificates);
        }
    }

    pub(super) fn source(&mut self, source: &HttpSource) {
        self.secrets.extend(source.secrets().map(str::to_owned));
        self.certificates(&source.tls);
    }

    pub(super) fn masks(&mut self, record: &RecordSpec) {
        let masks = record.fields.iter().filter_map(|field| field.mask.as_ref());
        self.secrets
            .extend(masks.filter_map(|mask| Some(mask.key_secret_ref.as_ref()?.name.clone())));
    }

    pub(super) fn sorted(mut self) -> Self {
        for names in [&mut self.secrets, &mut self.config_maps] {
            names.sort();
            names.dedup();
        }
        self
    }

    fn secret(&mut self, secret: &SecretRef) {
        self.secrets.push(secret.name.clone());
    }

    fn certificates(&mut self, certificates: &Certificates) {
        if let Some(secret) = &certificates.client_secret_ref {
            self.secret(secret);
        }
        let Some(ca) = &certificates.ca else { return };
        self.secrets.extend(ca.secret_key_ref.iter().map(|key| key.name.clone()));
        self.config_maps.extend(ca.config_map_key_ref.iter().map(|key| key.name.clone()));
    }
}
