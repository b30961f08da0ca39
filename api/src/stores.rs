//! The databases a pipeline works with.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PostgreSQL database.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Host name or address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port.
    #[serde(default = "postgres_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// The database in which landing table, bookkeeping and sink table are made.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// A Secret of type kubernetes.io/basic-auth: `username` and `password`.
    pub credentials_secret_ref: SecretRef,
}

/// The table in which fetched records land.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
    .message("spec.landing.table cannot be changed: make a new pipeline instead"))]
pub struct Landing {
    /// Its name; derived from namespace and name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("spec.landing.table must be lower-case letters, digits and '_', not starting with a digit"))]
    pub table: Option<String>,
    /// Who makes it.
    #[serde(default)]
    pub management: TableManagement,
}

/// Who makes a table.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableManagement {
    /// The pipeline: it makes the table where it is not there, and adds columns to it.
    #[default]
    Direct,
    /// Somebody else: it must be there and fit, and stays as it is.
    None,
}

/// A Cassandra cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cassandra {
    /// Nodes to start from, each `host` or `host:port` (9042 when not given).
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 260)))]
    pub contact_points: Vec<String>,
    /// The datacenter whose nodes are asked.
    #[schemars(length(min = 1, max = 128))]
    pub local_datacenter: String,
    /// A Secret of type kubernetes.io/basic-auth: `username` and `password`.
    pub credentials_secret_ref: SecretRef,
}

/// A Secret in the pipeline's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("the name of a Secret has lower-case letters, digits, '-' and '.'"))]
    pub name: String,
}

const fn postgres_port() -> i32 {
    5432
}
