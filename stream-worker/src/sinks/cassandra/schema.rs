//! Keyspace and table in Cassandra.

use scylla::client::session::Session;
use userpipeline_api::{StoreIdentity, TableManagement, document::CassandraTarget};
use userpipeline_record::{
    RecordSchema,
    cassandra::{TableOptions, column_type, keyspace_cql},
};
use userpipeline_stores::{Secrets, StoreError, error::TABLE_MISMATCH};

use super::{
    cluster::{await_agreement, cluster_name, connection, execute, identity, rows},
    retention,
};
use crate::{
    claims::{Claims, Kind},
    sinks::{
        columns::{Column, RequiredColumn, to_add, verify},
        sink::SchemaTask,
    },
};

/// Name, type, kind and position.
type ColumnRow = (String, String, String, i32);

/// Creates keyspace and table where they are missing, and verifies the table.
pub async fn apply(task: &SchemaTask<'_>, claims: &Claims) -> Result<(), StoreError> {
    let SchemaTask { pipeline, secrets, .. } = *task;
    let Some(target) = &pipeline.cassandra else { return Ok(()) };
    let session = connection(target, secrets).connect().await?;
    task.identities.add(identity(target, &session));
    let table = Table {
        task,
        session: &session,
        target,
    };
    let mut columns = table.columns().await?;
    table.claim(claims, columns.is_empty()).await?;
    if pipeline.tables.cassandra == TableManagement::None && columns.is_empty() {
        return Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!(
                "table `{}.{}` (spec.sinks.cassandra.table) is not there, and spec.sinks.cassandra.management is None: make it, or choose Direct",
                target.keyspace, target.table
            ),
        ));
    }
    table.create_keyspace().await?;
    if columns.is_empty() {
        if !table.create().await? {
            return Ok(());
        }
        columns = table.columns().await?;
    }
    table.verify_key(&columns)?;
    let columns = table.add_columns(columns).await?;
    table.verify(&columns)?;
    table.alter_options().await
}

/// Which cluster it is.
pub async fn identify(target: &CassandraTarget, secrets: &Secrets) -> Result<StoreIdentity, StoreError> {
    let session = connection(target, secrets).connect().await?;
    Ok(identity(target, &session))
}

struct Table<'a> {
    task: &'a SchemaTask<'a>,
    session: &'a Session,
    target: &'a CassandraTarget,
}

impl Table<'_> {
    const fn schema(&self) -> &RecordSchema {
        self.task.schema
    }

    /// The table and its place in the spec, for messages.
    fn place(&self) -> String {
        format!("`{}.{}` (spec.sinks.cassandra.table)", self.target.keyspace, self.target.table)
    }

    async fn columns(&self) -> Result<Vec<ColumnRow>, StoreError> {
        rows(
            self.session,
            "SELECT column_name, type, kind, position FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
            &[&self.target.keyspace, &self.target.table],
        )
        .await
    }

    async fn claim(&self, claims: &Claims, is_missing: bool) -> Result<(), StoreError> {
        if !claims.are_taken() {
            return Ok(());
        }
        let cluster = cluster_name(self.session).await?;
        let created = is_missing && self.task.pipeline.tables.cassandra == TableManagement::Direct;
        let name = format!("{}.{}", self.target.keyspace, self.target.table);
        claims.take(Kind::CassandraTable, &cluster, &name, created).await.map(drop)
    }

    /// Looks first, so that a user without the right to create keyspaces can use an existing one.
    async fn create_keyspace(&self) -> Result<(), StoreError> {
        let keyspace = &self.target.keyspace;
        let found = rows::<(String,)>(
            self.session,
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
            &[keyspace],
        )
        .await?;
        let statement = || keyspace_cql(keyspace, &self.task.pipeline.replication);
        if found.is_empty() && self.task.mode.applies(|| format!("Cassandra: {}", statement())) {
            let what = format!("making keyspace `{keyspace}` (spec.sinks.cassandra)");
            execute(self.session, &statement(), &what).await?;
        }
        Ok(())
    }

    /// Creates the table; false in a dry run, which records the statements instead.
    async fn create(&self) -> Result<bool, StoreError> {
        let (keyspace, table) = (&self.target.keyspace, &self.target.table);
        let statement = self.schema().cassandra_table_cql(keyspace, table);
        if !self.task.mode.applies(|| format!("Cassandra: {statement}")) {
            let desired = retention::desired(self.task.pipeline, self.schema().has_deletes());
            if let Some(statement) = desired.missing_from(&TableOptions::of_new_table()).alter_cql(keyspace, table) {
                let _ = self.task.mode.applies(|| format!("Cassandra: {statement}"));
            }
            return Ok(false);
        }
        let what = format!("making table `{keyspace}.{table}` (spec.sinks.cassandra)");
        execute(self.session, &statement, &what).await?;
        await_agreement(self.session, keyspace, table).await?;
        Ok(true)
    }

    fn verify_key(&self, columns: &[ColumnRow]) -> Result<(), StoreError> {
        let key = |kind: &str| {
            let mut key: Vec<_> = columns.iter().filter(|(.., found, _)| found == kind).collect();
            key.sort_by_key(|(.., position)| *position);
            key.into_iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>()
        };
        let (partition, clustering) = (key("partition_key"), key("clustering"));
        let desired: Vec<String> = self.schema().partition_key().cloned().collect();
        if (&partition, &clustering) == (&desired, &self.schema().cluster_by) {
            return Ok(());
        }
        Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!(
                "table {}: the primary key must be (({}){}) and is (({}){}); change spec.record.key and clusterBy, or create a new pipeline with another table",
                self.place(),
                desired.join(", "),
                appended(&self.schema().cluster_by),
                partition.join(", "),
                appended(&clustering)
            ),
        ))
    }

    /// Adds the columns of fields that were declared since the table was created; returns all columns.
    async fn add_columns(&self, columns: Vec<ColumnRow>) -> Result<Vec<Column>, StoreError> {
        let (keyspace, table, place) = (&self.target.keyspace, &self.target.table, self.place());
        // Nothing is required in Cassandra but the key, which is compared separately.
        let column = |name: String, data_type: String| Column {
            name,
            data_type,
            required: false,
            not_null: false,
        };
        let mut found: Vec<Column> = columns.into_iter().map(|(name, data_type, ..)| column(name, data_type)).collect();
        let missing = match self.task.pipeline.tables.cassandra {
            TableManagement::Direct => to_add(&place, self.schema(), &found)?,
            TableManagement::None => Vec::new(),
        };
        for field in missing {
            let statement = self.schema().cassandra_add_cql(keyspace, table, field);
            if self.task.mode.applies(|| format!("Cassandra: {statement}")) {
                let what = format!("adding column `{}` to table {place}", field.name);
                execute(self.session, &statement, &what).await?;
                await_agreement(self.session, keyspace, table).await?;
            }
            found.push(column(field.name.clone(), column_type(field.field_type).to_owned()));
        }
        Ok(found)
    }

    fn verify(&self, columns: &[Column]) -> Result<(), StoreError> {
        let fields = self.schema().fields.iter();
        let required: Vec<RequiredColumn> = fields
            .map(|f| RequiredColumn {
                name: f.name.clone(),
                data_type: column_type(f.field_type),
                optional: f.optional,
            })
            .collect();
        verify(&self.place(), &required, &[], columns, &[])
    }

    async fn alter_options(&self) -> Result<(), StoreError> {
        let (keyspace, table) = (&self.target.keyspace, &self.target.table);
        let current = retention::current(self.session, keyspace, table).await?;
        let change = retention::desired(self.task.pipeline, self.schema().has_deletes()).missing_from(&current);
        if let Some(statement) = change.alter_cql(keyspace, table)
            && self.task.mode.applies(|| format!("Cassandra: {statement}"))
        {
            let what = format!("changing how table {} keeps its rows", self.place());
            execute(self.session, &statement, &what).await?;
            await_agreement(self.session, keyspace, table).await?;
        }
        Ok(())
    }
}

/// The rest of a key, as it is written.
fn appended(names: &[String]) -> String {
    names.iter().map(|name| format!(", {name}")).collect::<Vec<_>>().concat()
}
