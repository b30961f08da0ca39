//! A table in PostgreSQL that the schema Job creates, alters or verifies, in one transaction with all others.

use tokio_postgres::{Error, Transaction};
use userpipeline_api::TableManagement;
use userpipeline_record::{
    Field, RecordSchema,
    postgres::{Column as DeclaredColumn, OFFSET, ORDER_BY, PARTITION, REQUEST, quote},
};
use userpipeline_stores::{StoreError, error::TABLE_MISMATCH, postgres::explain};

use crate::{
    claims::{Holder, Kind, Resource},
    mode::Mode,
    sinks::columns::{Column, RequiredColumn, to_add, verify},
};

/// Counts the objects that this transaction created or changed: a statement without effect changes none.
const TOUCHED: &str = "SELECT (SELECT count(*) FROM pg_namespace WHERE xmin = own.id) + (SELECT count(*) FROM pg_class WHERE xmin = own.id) \
     + (SELECT count(*) FROM pg_attribute WHERE xmin = own.id) \
     FROM (SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text::xid AS id) own";

/// Executes a statement; in a dry run, records it where it has an effect, and the transaction is rolled back.
pub async fn execute(transaction: &Transaction<'_>, statement: &str, mode: &Mode) -> Result<(), Error> {
    if !mode.is_dry_run() {
        return transaction.batch_execute(statement).await;
    }
    let touched = async || Ok::<i64, Error>(transaction.query_one(TOUCHED, &[]).await?.get(0));
    let before = touched().await?;
    transaction.batch_execute(statement).await?;
    if touched().await? > before {
        let _ = mode.applies(|| format!("PostgreSQL: {statement}"));
    }
    Ok(())
}

pub async fn claim(transaction: &Transaction<'_>, holder: &Holder, table: &str, management: TableManagement) -> Result<(), StoreError> {
    let row = transaction
        .query_one("SELECT to_regclass($1) IS NULL", &[&quote(table)])
        .await
        .map_err(|e| explain(&format!("looking for table `{table}`"), &e))?;
    let resource = Resource {
        kind: Kind::Table,
        place: String::new(),
        name: table.to_owned(),
    };
    let created = row.get::<_, bool>(0) && management == TableManagement::Direct;
    holder.claim(transaction, &resource, created).await.map(drop)
}

pub struct Table<'a> {
    pub transaction: &'a Transaction<'a>,
    pub name: &'a str,
    /// The part of the spec that declares it.
    pub part: &'a str,
    pub schema: &'a RecordSchema,
    pub mode: &'a Mode,
}

impl Table<'_> {
    /// The table and its field in the spec, for messages.
    fn place(&self) -> String {
        format!("`{}` ({}.table)", self.name, self.part)
    }

    pub async fn execute(&self, statement: &str) -> Result<(), Error> {
        execute(self.transaction, statement, self.mode).await
    }

    /// An externally managed table must exist.
    pub async fn must_exist(&self) -> Result<(), StoreError> {
        if self.columns().await?.is_empty() {
            return Err(StoreError::configuration(
                TABLE_MISMATCH,
                format!(
                    "table {} is not there, and {}.management is None: make it, or choose Direct",
                    self.place(),
                    self.part
                ),
            ));
        }
        Ok(())
    }

    /// Adds the columns of fields that were declared since the table was created.
    pub async fn add_columns(&self, add: impl Fn(&str, &Field) -> String) -> Result<(), StoreError> {
        let found = self.columns().await?;
        for added in to_add(&self.place(), self.schema, &found)? {
            let statement = add(self.name, added);
            let failed = |e| explain(&format!("adding column `{}` to table {}", added.name, self.place()), &e);
            self.execute(&statement).await.map_err(failed)?;
        }
        Ok(())
    }

    pub async fn columns(&self) -> Result<Vec<Column>, StoreError> {
        // The catalogue and not information_schema, which hides columns that the user has no right to.
        let rows = self
            .transaction
            .query(
                "SELECT a.attname, t.typname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required, a.attnotnull FROM pg_attribute a \
                 JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
                &[&quote(self.name)],
            )
            .await
            .map_err(|e| self.verification_failed(&e))?;
        let found = rows.iter().map(|row| Column {
            name: row.get("attname"),
            data_type: row.get("typname"),
            required: row.get("required"),
            not_null: row.get("attnotnull"),
        });
        Ok(found.collect())
    }

    /// Compares the table with the declared columns. `landing`: every column but the key may be null.
    pub async fn verify(&self, declared: &[DeclaredColumn], landing: bool) -> Result<(), StoreError> {
        let found = self.columns().await?;
        let rows = self
            .transaction
            .query(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
                 WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY a.attnum",
                &[&quote(self.name)],
            )
            .await
            .map_err(|e| self.verification_failed(&e))?;
        let found_key: Vec<String> = rows.iter().map(|row| row.get("attname")).collect();
        let optional = |name: &str| {
            ["_published_version", ORDER_BY, REQUEST, PARTITION, OFFSET].contains(&name)
                || self
                    .schema
                    .fields
                    .iter()
                    .any(|f| f.name == name && (f.optional || landing && !self.schema.is_key(f)))
        };
        let required: Vec<RequiredColumn> = declared
            .iter()
            .map(|(name, data_type)| RequiredColumn {
                name: name.clone(),
                data_type,
                optional: optional(name),
            })
            .collect();
        verify(&self.place(), &required, &self.schema.key, &found, &found_key)
    }

    fn verification_failed(&self, e: &Error) -> StoreError {
        explain(&format!("verifying table {}", self.place()), e)
    }
}
