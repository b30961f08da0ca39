//! An aggregate as data: totals of the rows of the sink table in PostgreSQL, by group and window.

mod declared;
mod mirror;
mod window;

use sha2::{Digest, Sha256};
use userpipeline_api::FieldType;

pub use self::window::{Length, Window};
use crate::{Problem, RecordSchema};

/// Changes where the objects of an aggregate change in the database, so that they are built again.
const FORMAT: u32 = 2;

/// A declared aggregate whose fields exist and have fitting types.
///
/// [`Aggregate::hash`] hashes the `Debug` text of these types, so their names and fields are stored names.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub name: String,
    /// The view that users read.
    pub view: String,
    /// The table whose rows are counted.
    pub sink_table: String,
    pub group_by: Vec<Column>,
    pub window: Option<Window>,
    pub values: Vec<AggregateValue>,
    /// Seconds after the end of a window.
    pub keep: Option<u64>,
    /// The table in Cassandra that follows the totals.
    pub mirror: Option<String>,
}

/// A field of the record, which is a column of the sink table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub field_type: FieldType,
    pub optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateValue {
    pub name: String,
    pub function: Function,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    Count,
    CountDistinct(Column),
    Sum(Column),
    Avg(Column),
    Min(Column),
    Max(Column),
}

impl Function {
    /// Whether it needs to know how often each value occurs: a sum can be corrected, a minimum cannot.
    pub const fn counts_values(&self) -> bool {
        matches!(self, Self::CountDistinct(_) | Self::Min(_) | Self::Max(_))
    }

    pub const fn column(&self) -> Option<&Column> {
        match self {
            Self::Count => None,
            Self::CountDistinct(column) | Self::Sum(column) | Self::Avg(column) | Self::Min(column) | Self::Max(column) => Some(column),
        }
    }
}

impl Aggregate {
    /// The declared aggregates, or all their problems in one text. None without a sink table.
    /// `tables`: the sink tables in PostgreSQL and Cassandra.
    pub fn read(
        declared: &[userpipeline_api::Aggregate],
        schema: &RecordSchema,
        tables: (Option<&str>, Option<&str>),
    ) -> Result<Vec<Self>, String> {
        let (Some(table), cassandra) = tables else { return Ok(Vec::new()) };
        Self::all(declared, schema, table, cassandra)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))
    }

    /// Changes when the totals must be built again: eight hexadecimal digits.
    pub fn hash(&self) -> String {
        format!("{:.8x}", Sha256::digest(format!("{FORMAT} {self:?}").as_bytes()))
    }
}
