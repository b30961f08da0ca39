//! The table in Cassandra that follows the totals, as a record: its key is the group and the window.

use userpipeline_api::{Changes, FieldType};

use super::{Aggregate, Function};
use crate::{Field, Origin, RecordSchema, time_form::TimeForm};

impl Aggregate {
    /// The record of a total. None where Cassandra does not have it.
    pub fn mirror_schema(&self) -> Option<RecordSchema> {
        self.mirror.as_ref()?;
        let field = |name: &str, field_type: FieldType, optional: bool| Field {
            name: name.to_owned(),
            field_type,
            from: Origin::Pointer(String::new()),
            optional,
            default: None,
            doc: String::new(),
            mask: None,
            time_form: TimeForm::default(),
        };
        let groups = self.group_by.iter().map(|column| field(&column.name, column.field_type, false));
        let windows = ["window_start", "window_end"].map(|name| field(name, FieldType::Timestamp, name == "window_end"));
        let windows = windows.into_iter().filter(|_| self.window.is_some());
        let values = self
            .values
            .iter()
            .map(|value| field(&value.name, value.function.field_type(), true));
        let start = self.window.iter().map(|_| "window_start".to_owned());
        let key: Vec<String> = self.group_by.iter().map(|column| column.name.clone()).chain(start).collect();
        Some(RecordSchema {
            name: "Total".to_owned(),
            namespace: "dev.userpipeline".to_owned(),
            // Without groups, each window is a partition.
            cluster_by: if self.group_by.is_empty() {
                Vec::new()
            } else {
                key[self.group_by.len()..].to_vec()
            },
            key,
            order_by: None,
            delete_when: None,
            filter: None,
            changes: Changes::Expected,
            fields: groups.chain(windows).chain(values).collect(),
        })
    }
}

impl Function {
    /// The type of its result in Cassandra.
    pub(crate) const fn field_type(&self) -> FieldType {
        match self {
            Self::Count | Self::CountDistinct(_) => FieldType::Long,
            Self::Avg(_) => FieldType::Double,
            Self::Sum(column) | Self::Min(column) | Self::Max(column) => column.field_type,
        }
    }
}
