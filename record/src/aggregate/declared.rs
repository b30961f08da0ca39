//! From declared aggregates (`spec.aggregates`) to data, or their problems.

use userpipeline_api::{FieldType, names, zone};

use super::{Aggregate, AggregateValue, Column, Function, Length, Window};
use crate::{Field, Problem, RecordSchema};

/// Columns of the view besides groups and values.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];
/// Names that a column of a table cannot have.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

impl Aggregate {
    /// The declared aggregates of the records in `sink_table`, or all their problems.
    /// `cassandra`: the sink table there, if there is one.
    pub fn all(
        declared: &[userpipeline_api::Aggregate],
        schema: &RecordSchema,
        sink_table: &str,
        cassandra: Option<&str>,
    ) -> Result<Vec<Self>, Vec<Problem>> {
        let (mut aggregates, mut problems): (Vec<Self>, _) = (Vec::new(), Vec::new());
        for (position, one) in declared.iter().enumerate() {
            let mut check = Check {
                path: format!("spec.aggregates[{position}]"),
                schema,
                problems: Vec::new(),
            };
            let aggregate = check.aggregate(one, sink_table, cassandra);
            for other in &aggregates {
                check.differs("name", &aggregate.name, &other.name, &other.name);
                check.differs("sinks.postgres.view", &aggregate.view, &other.view, &other.name);
                if let (Some(own), Some(table)) = (&aggregate.mirror, &other.mirror) {
                    check.differs("sinks.cassandra.table", own, table, &other.name);
                }
            }
            problems.extend(check.problems);
            aggregates.push(aggregate);
        }
        if problems.is_empty() { Ok(aggregates) } else { Err(problems) }
    }
}

/// The check of an aggregate. What has a problem is left out of the result, which is not used then.
struct Check<'a> {
    path: String,
    schema: &'a RecordSchema,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn add(&mut self, part: &str, problem: impl Into<String>) {
        self.problems.push(Problem {
            field: format!("{}.{part}", self.path),
            problem: problem.into(),
        });
    }

    fn differs(&mut self, part: &str, own: &str, other: &str, of: &str) {
        if own == other {
            self.add(part, format!("`{own}` is also that of aggregate `{of}`; choose another name"));
        }
    }

    fn aggregate(&mut self, declared: &userpipeline_api::Aggregate, sink_table: &str, cassandra: Option<&str>) -> Aggregate {
        let aggregate = Aggregate {
            name: declared.name.clone(),
            view: names::view(declared, sink_table),
            sink_table: sink_table.to_owned(),
            group_by: self.group_by(&declared.group_by),
            window: declared.window.as_ref().and_then(|window| self.window(window)),
            values: self.values(&declared.values),
            keep: declared.keep.map(|keep| std::time::Duration::from(keep).as_secs()),
            mirror: cassandra.and_then(|table| names::mirror(declared, table)),
        };
        if declared.sinks.cassandra.is_some() {
            self.mirror(&aggregate, cassandra);
        }
        if aggregate.view == sink_table {
            self.add(
                "sinks.postgres.view",
                format!("`{sink_table}` is the table of spec.sinks.postgres; choose another name"),
            );
        }
        if aggregate.keep.is_some() && declared.window.is_none() {
            self.add("keep", "needs window: without one, totals do not age");
        }
        self.column_names(&aggregate);
        aggregate
    }

    /// Cassandra has no null in a key, and no row without one.
    fn mirror(&mut self, aggregate: &Aggregate, cassandra: Option<&str>) {
        const PART: &str = "sinks.cassandra";
        if cassandra.is_none() {
            self.add(PART, "needs spec.sinks.cassandra with management Direct, whose keyspace it shares");
        }
        if aggregate.mirror.as_deref() == cassandra {
            self.add(PART, "`table` is the table of spec.sinks.cassandra; choose another name");
        }
        if aggregate.group_by.is_empty() && aggregate.window.is_none() {
            self.add(PART, "needs groupBy or window, which are the key of the table");
        }
        if let Some(column) = aggregate.group_by.iter().find(|column| column.optional) {
            let name = &column.name;
            self.add(
                PART,
                format!("`{name}` of groupBy is optional, and a key in Cassandra cannot be null: declare a default instead"),
            );
        }
    }

    fn field(&mut self, part: &str, name: &str) -> Option<Field> {
        let found = self.schema.position(name).map(|position| self.schema.fields[position].clone());
        if found.is_none() {
            self.add(part, format!("`{name}` is not a field of the record"));
        }
        found
    }

    fn column(&mut self, part: &str, name: &str, allowed: &[FieldType]) -> Option<Column> {
        let Field {
            name,
            field_type,
            optional,
            ..
        } = self.field(part, name)?;
        if !allowed.contains(&field_type) {
            let types: Vec<String> = allowed.iter().map(|one| format!("{one:?}").to_lowercase()).collect();
            self.add(
                part,
                format!(
                    "`{name}` has type {}; it must be one of {}",
                    format!("{field_type:?}").to_lowercase(),
                    types.join(", ")
                ),
            );
        }
        Some(Column {
            name,
            field_type,
            optional,
        })
    }

    fn group_by(&mut self, names: &[String]) -> Vec<Column> {
        use FieldType::{Boolean, Date, Int, Long, String, Timestamp, Uuid};
        let mut columns: Vec<Column> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let part = format!("groupBy[{i}]");
            if names[..i].contains(name) {
                self.add(&part, format!("`{name}` is listed twice"));
            }
            columns.extend(self.column(&part, name, &[String, Boolean, Int, Long, Date, Timestamp, Uuid]));
        }
        columns
    }

    fn window(&mut self, declared: &userpipeline_api::AggregateWindow) -> Option<Window> {
        let on = self.field("window.field", &declared.field)?;
        if on.field_type != FieldType::Timestamp || on.optional {
            self.add(
                "window.field",
                format!(
                    "`{}` must be a field of type timestamp that is not optional: each record needs its window",
                    on.name
                ),
            );
        }
        let time_zone = declared.time_zone.as_deref().unwrap_or("Etc/UTC");
        if let Err(problem) = zone(time_zone) {
            self.add("window.timeZone", problem);
        }
        let every = declared.every.into();
        let (part, length) = match declared.hop {
            None => ("window.every", Length::calendar(every, time_zone)),
            Some(_) if declared.time_zone.is_some() => (
                "window.timeZone",
                Err("is not allowed with hop: such windows start at multiples of hop since 1970 in UTC".to_owned()),
            ),
            Some(hop) => ("window.hop", Length::overlapping(every, hop.into())),
        };
        let length = length.map_err(|problem| self.add(part, problem)).ok()?;
        Some(Window { on: on.name, length })
    }

    fn values(&mut self, declared: &[userpipeline_api::AggregateValue]) -> Vec<AggregateValue> {
        let values = declared.iter().enumerate().filter_map(|(i, value)| {
            let function = self.function(&format!("values[{i}]"), value)?;
            let name = value.name.clone();
            Some(AggregateValue { name, function })
        });
        values.collect()
    }

    fn function(&mut self, path: &str, declared: &userpipeline_api::AggregateValue) -> Option<Function> {
        use FieldType::{Boolean, Bytes, Date, Double, Int, Long, String, Timestamp, Uuid};
        const NUMBERS: &[FieldType] = &[Int, Long, Double];
        const ORDERED: &[FieldType] = &[Int, Long, Double, Date, Timestamp];
        const COMPARED: &[FieldType] = &[String, Boolean, Int, Long, Double, Date, Timestamp, Uuid, Bytes];
        type Of = fn(Column) -> Function;
        let all: [(&str, &Option<std::string::String>, &[FieldType], Of); 5] = [
            ("countDistinct", &declared.count_distinct, COMPARED, Function::CountDistinct),
            ("sum", &declared.sum, NUMBERS, Function::Sum),
            ("avg", &declared.avg, NUMBERS, Function::Avg),
            ("min", &declared.min, ORDERED, Function::Min),
            ("max", &declared.max, ORDERED, Function::Max),
        ];
        let given = all.into_iter().filter(|(_, name, _, _)| name.is_some());
        let given: Vec<_> = given.collect();
        match (&given[..], &declared.count) {
            ([], Some(_)) => Some(Function::Count),
            ([(part, Some(name), allowed, of)], None) => self.column(&format!("{path}.{part}"), name, allowed).map(of),
            _ => {
                self.add(path, "must have exactly one of count, countDistinct, sum, avg, min and max");
                None
            }
        }
    }

    fn column_names(&mut self, aggregate: &Aggregate) {
        let groups = aggregate.group_by.iter().map(|column| column.name.as_str());
        let values = aggregate.values.iter().map(|value| value.name.as_str());
        let mut seen: Vec<&str> = WINDOW_COLUMNS.to_vec();
        for name in groups.chain(values) {
            if seen.contains(&name) || SYSTEM_COLUMNS.contains(&name) {
                self.add("values", format!("`{name}` is already a column of the view; choose another name"));
            }
            seen.push(name);
        }
    }
}

#[cfg(test)]
mod tests;
