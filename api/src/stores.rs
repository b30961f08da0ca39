//! PostgreSQL and Cassandra.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CassandraTls, PostgresTls, SecretRef};

/// A PostgreSQL database.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// TCP port.
    #[serde(default = "postgres_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Database for landing table, bookkeeping and sink table.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Secret of type kubernetes.io/basic-auth, with the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
    /// Encryption and verification. Without `tls`, traffic is encrypted and the server is verified fully; in a
    /// pipeline that is older than this default, it is plain text (`status.defaultTlsMode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PostgresTls>,
}

/// The landing table.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
    .message("spec.landing.table cannot be changed: create a new pipeline instead"))]
pub struct Landing {
    /// Name of the table. Default: derived from namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("spec.landing.table must contain only lower-case letters, digits and '_', and not start with a digit"))]
    pub table: Option<String>,
    /// Who creates the table.
    #[serde(default)]
    pub management: TableManagement,
    /// What `_raw` of the landing table and `raw` of rejects have of an item. Default: `Masked` if a field has
    /// a mask, otherwise `Keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawItems>,
}

/// What `_raw` of the landing table and `raw` of rejects have of an item: the item, the item without what fields
/// with a mask read, or null. Default: `Masked` if a field has a mask, otherwise `Keep`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RawItems {
    /// The item.
    Keep,
    /// The item, in which `***` replaces what fields with a mask read. Null for an item that is not JSON.
    Masked,
    /// Null.
    None,
}

/// Who creates a table.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableManagement {
    /// The pipeline creates the table if it does not exist, and adds columns to it.
    #[default]
    Direct,
    /// The table is managed externally: it must exist and fit, and is not changed.
    None,
}

/// A Cassandra cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cassandra {
    /// Nodes to contact first, each `host` or `host:port`. Default port: 9042.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 260)))]
    pub contact_points: Vec<String>,
    /// Datacenter whose nodes receive the requests.
    #[schemars(length(min = 1, max = 128))]
    pub local_datacenter: String,
    /// Secret of type kubernetes.io/basic-auth, with the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
    /// Encryption and verification. Without `tls`, traffic is encrypted and the server is verified fully; in a
    /// pipeline that is older than this default, it is plain text (`status.defaultTlsMode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CassandraTls>,
}

const fn postgres_port() -> i32 {
    5432
}
