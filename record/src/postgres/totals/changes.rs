//! The statement that adds rows to the totals, and subtracts others from them.

use std::collections::BTreeSet;

use userpipeline_api::FieldType;

use super::{
    columns::{CHANGED_BY, GROUP, NEW_REVISION, REVISION, ROWS, WINDOW},
    names::Names,
    tables::{Sum, occurring, revised},
};
use crate::{
    aggregate::{Aggregate, Column, Function, Window},
    postgres::quote,
};

/// Where rows come from, and how often each counts.
pub(super) type Sources<'a> = &'a [(&'a str, i32)];

impl Aggregate {
    /// Adds the rows of the sink table.
    pub(super) fn fill(&self, names: &Names) -> String {
        format!(
            "WITH {}{} {}",
            self.rows(&[(&quote(&self.sink_table), 1)]),
            self.occurrences(names),
            self.write(names)
        )
    }

    /// Sets two variables of a function to the groups and windows of the totals that became empty.
    pub(super) fn apply(&self, names: &Names, sources: Sources<'_>, variables: [&str; 2]) -> String {
        format!(
            "WITH {}{}, written AS ({} RETURNING t.{GROUP}, t.{WINDOW}, t.{ROWS}) \
             SELECT array_agg({GROUP}), array_agg({WINDOW}) INTO {} FROM written WHERE {ROWS} = 0",
            self.rows(sources),
            self.occurrences(names),
            self.write(names),
            variables.join(", ")
        )
    }

    /// `counted`: the rows with their windows, without those whose windows have expired. `totals`: their sums by group and window.
    fn rows(&self, sources: Sources<'_>) -> String {
        let columns = self.columns_of_rows();
        let changed = sources
            .iter()
            .map(|(table, n)| format!("SELECT {columns}{n}::bigint AS _n FROM {table}"));
        let changed = changed.collect::<Vec<_>>().join(" UNION ALL ");
        let start = self
            .window
            .as_ref()
            .map_or_else(|| "timestamptz '-infinity'".to_owned(), Window::start);
        let windows = self.window.as_ref().map_or(1, Window::overlapping);
        let overlapping = if windows > 1 {
            format!(" CROSS JOIN generate_series(0, {}) AS _hop", windows - 1)
        } else {
            String::new()
        };
        let open = self.open(WINDOW).map_or_else(String::new, |open| format!(" WHERE {open}"));
        let groups = self.groups();
        format!(
            "changed AS ({changed}), placed AS (SELECT r.*, {start} AS {WINDOW} FROM changed AS r{overlapping}), \
             counted AS (SELECT * FROM placed{open}), \
             grouped AS (SELECT {groups}{WINDOW}, sum(_n)::bigint AS {ROWS}{sums} FROM counted GROUP BY {groups}{WINDOW}), \
             totals AS (SELECT {digest} AS {GROUP}, * FROM grouped)",
            sums = self.summed(),
            digest = self.digest(),
        )
    }

    /// Every column that the aggregate reads; ends with a comma.
    fn columns_of_rows(&self) -> String {
        let groups = self.group_by.iter().map(|column| &column.name);
        let values = self.values.iter().filter_map(|value| value.function.column());
        let on = self.window.iter().map(|window| &window.on);
        let all: BTreeSet<&String> = groups.chain(values.map(|column| &column.name)).chain(on).collect();
        list(all.into_iter().map(|name| format!("{}, ", quote(name))), "")
    }

    /// Ends with a comma.
    fn groups(&self) -> String {
        list(self.group_by.iter().map(|column| format!("{}, ", quote(&column.name))), "")
    }

    fn digest(&self) -> String {
        let names: Vec<String> = self.group_by.iter().map(|column| quote(&column.name)).collect();
        format!("sha256(convert_to(jsonb_build_array({})::text, 'UTF8'))", names.join(", "))
    }

    /// Begins with a comma.
    fn summed(&self) -> String {
        let sums = self.values.iter().enumerate().map(|(i, value)| match &value.function {
            Function::Sum(column) | Function::Avg(column) => {
                let number = number(column);
                format!(
                    ", coalesce(sum(_n) FILTER (WHERE {number} IS NOT NULL), 0)::bigint AS _n{i}, coalesce(sum(_n * {number}), 0) AS _s{i}"
                )
            }
            Function::Count | Function::CountDistinct(_) | Function::Min(_) | Function::Max(_) => String::new(),
        });
        sums.collect()
    }

    /// Writes the totals that change, in the order of their key.
    fn write(&self, names: &Names) -> String {
        let touched: Vec<String> = self.counted_values().map(|(i, _)| format!("touched{i}")).collect();
        let joins = touched.iter().map(|table| format!(" LEFT JOIN {table} USING ({GROUP}, {WINDOW})"));
        let sums: Vec<Sum> = self.sums().collect();
        // A value that occurs may change although the number of its records does not.
        let changes = sums.iter().filter(|sum| !sum.is_distinct).map(|sum| format!("{} <> 0", sum.column));
        let changes = changes.chain(touched.iter().map(|table| format!("{table}.{GROUP} IS NOT NULL")));
        let groups: Vec<String> = self.group_by.iter().map(|column| quote(&column.name)).collect();
        let added = sums.iter().map(|sum| {
            if sum.is_distinct {
                format!("coalesce({}, 0)", sum.column)
            } else {
                sum.column.clone()
            }
        });
        let revision = || self.mirror.iter();
        let revision_columns = revision().flat_map(|_| [REVISION.to_owned(), CHANGED_BY.to_owned()]);
        let revision_values = revision().flat_map(|_| [NEW_REVISION.to_owned(), "pg_current_xact_id()".to_owned()]);
        let summed = || [ROWS.to_owned()].into_iter().chain(sums.iter().map(|sum| sum.column.clone()));
        format!(
            "INSERT INTO {totals} AS t ({GROUP}, {WINDOW}, {columns}) SELECT {GROUP}, {WINDOW}, {new} FROM totals{joins} \
             WHERE {changes} ORDER BY {GROUP}, {WINDOW} ON CONFLICT ({GROUP}, {WINDOW}) DO UPDATE SET {sets}",
            totals = names.totals(),
            columns = list(groups.iter().cloned().chain(summed()).chain(revision_columns), ", "),
            new = list(
                groups.iter().cloned().chain([ROWS.to_owned()]).chain(added).chain(revision_values),
                ", "
            ),
            joins = list(joins, ""),
            changes = list([format!("{ROWS} <> 0")].into_iter().chain(changes), " OR "),
            sets = list(
                summed()
                    .map(|column| format!("{column} = t.{column} + excluded.{column}"))
                    .chain(revision().map(|_| revised())),
                ", "
            ),
        )
    }

    /// How often each value occurs, for the values that need it. `_d`: by how many the different values of a group become more. Begins
    /// with a comma.
    fn occurrences(&self, names: &Names) -> String {
        let (groups, digest) = (self.groups(), self.digest());
        let of = |(i, column): (usize, &Column)| {
            let (name, value) = (quote(&column.name), occurring(column));
            format!(
                ", occurring{i} AS (SELECT {groups}{WINDOW}, {value} AS _value, sum(_n)::bigint AS _n FROM counted WHERE {name} IS NOT NULL \
                 GROUP BY {groups}{WINDOW}, {value} HAVING sum(_n) <> 0), \
                 values{i} AS (INSERT INTO {table} AS v ({GROUP}, {WINDOW}, value, n, change) \
                 SELECT {digest}, {WINDOW}, _value, _n, _n FROM occurring{i} ORDER BY 1, 2, 3 \
                 ON CONFLICT ({GROUP}, {WINDOW}, value) DO UPDATE SET n = v.n + excluded.n, change = excluded.n \
                 RETURNING v.{GROUP}, v.{WINDOW}, CASE WHEN v.n > 0 AND v.n <= v.change THEN 1 WHEN v.n <= 0 AND v.n > v.change THEN -1 ELSE 0 END AS _d), \
                 touched{i} AS (SELECT {GROUP}, {WINDOW}, sum(_d)::bigint AS _d{i} FROM values{i} GROUP BY {GROUP}, {WINDOW})",
                table = names.values(i),
            )
        };
        let counted = self.counted_values().filter_map(|(i, value)| Some((i, value.function.column()?)));
        counted.map(of).collect()
    }

    /// Whether the window that begins at `start` has not expired. None where windows do not expire.
    pub(super) fn open(&self, start: &str) -> Option<String> {
        let (window, keep) = self.window.as_ref().zip(self.keep)?;
        Some(format!("{} + interval '{keep} seconds' > now()", window.end(start)))
    }
}

pub(super) fn list(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

/// A number that is summed up exactly: a double, whose sum would depend on the order, as the decimal number that it is written as. Null
/// for NaN and infinities, which only others write: they could not be subtracted again.
fn number(column: &Column) -> String {
    let name = quote(&column.name);
    if column.field_type == FieldType::Double {
        format!("CASE WHEN {name} NOT IN ('NaN', 'Infinity', '-Infinity') THEN {name}::text::numeric END")
    } else {
        format!("{name}::numeric")
    }
}
