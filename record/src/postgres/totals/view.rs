//! The view that users read.

use super::{
    columns::{GROUP, ROWS, WINDOW},
    names::Names,
};
use crate::{
    aggregate::{Aggregate, Function},
    postgres::{literal, quote},
};

impl Aggregate {
    /// Creates the view, or replaces one that has the same columns and keeps its grants.
    pub(super) fn view(&self, names: &Names) -> String {
        let view = quote(&self.view);
        let comment = format!(
            "Aggregate {} of {}, exact at any moment. UserPipeline maintains it.",
            self.name, self.sink_table
        );
        format!(
            "CREATE OR REPLACE VIEW {view} AS {}; COMMENT ON VIEW {view} IS {}",
            self.select(names),
            literal(&comment)
        )
    }

    fn select(&self, names: &Names) -> String {
        let groups = self.group_by.iter().map(|column| format!("t.{}", quote(&column.name)));
        let window = format!("t.{WINDOW}");
        let windows = self
            .window
            .iter()
            .flat_map(|w| [format!("{window} AS window_start"), format!("{} AS window_end", w.end(&window))]);
        let values = self.values_of(names).into_iter().zip(&self.values);
        let values = values.map(|(expression, value)| format!("{expression} AS {}", quote(&value.name)));
        let columns: Vec<String> = groups.chain(windows).chain(values).collect();
        let open = self.open(&window).map_or_else(String::new, |open| format!(" AND {open}"));
        format!(
            "SELECT {} FROM {} AS t WHERE t.{ROWS} > 0{open}",
            columns.join(", "),
            names.totals()
        )
    }

    /// The values of a total `t`.
    pub(super) fn values_of(&self, names: &Names) -> Vec<String> {
        let values = self.values.iter().enumerate().map(|(i, value)| {
            let of_value = |order: &str| {
                format!(
                    "(SELECT v.value FROM {} AS v WHERE v.{GROUP} = t.{GROUP} AND v.{WINDOW} = t.{WINDOW} AND v.n > 0 ORDER BY v.value{order} LIMIT 1)",
                    names.values(i)
                )
            };
            match value.function {
                Function::Count => format!("t.{ROWS}"),
                Function::CountDistinct(_) => format!("t._d{i}"),
                Function::Sum(_) => format!("CASE WHEN t._n{i} > 0 THEN t._s{i} END"),
                // With more digits than a double has.
                Function::Avg(_) => double(&format!("t._s{i} * 1.000000000000000000000000000000 / nullif(t._n{i}, 0)")),
                Function::Min(_) => of_value(""),
                Function::Max(_) => of_value(" DESC"),
            }
        });
        values.collect()
    }
}

/// A decimal number as a double: null beyond the greatest one, and 0 below the least, where PostgreSQL would report an error.
pub(super) fn double(number: &str) -> String {
    format!("CASE WHEN abs({number}) < 2.5e-324 THEN 0 WHEN abs({number}) <= 1.7976931348623158e308 THEN ({number})::double precision END")
}
