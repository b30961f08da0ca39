//! The triggers on the sink table, once for each statement, and their functions.

use std::fmt::Write as _;

use super::{
    changes::{Sources, list},
    columns::{GROUP, ROWS, WINDOW},
    names::{Event, Names},
    tables::revised,
};
use crate::{
    aggregate::Aggregate,
    postgres::{literal, quote},
};

impl Aggregate {
    pub(super) fn triggers(&self, names: &Names) -> Vec<String> {
        Event::ALL
            .into_iter()
            .flat_map(|event| [self.function(names, event), self.trigger(names, event)])
            .collect()
    }

    fn trigger(&self, names: &Names, event: Event) -> String {
        let referencing = match event {
            Event::Insert => "REFERENCING NEW TABLE AS new_rows ",
            Event::Update => "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
            Event::Delete => "REFERENCING OLD TABLE AS old_rows ",
            Event::Truncate => "",
        };
        let name = names.trigger(event);
        format!(
            "CREATE TRIGGER {name} AFTER {} ON {} {referencing}FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
            event.as_str().to_uppercase(),
            quote(&self.sink_table)
        )
    }

    fn function(&self, names: &Names, event: Event) -> String {
        const NEW: (&str, i32) = ("new_rows", 1);
        const OLD: (&str, i32) = ("old_rows", -1);
        let body = match event {
            Event::Insert => self.body(names, &[NEW]),
            Event::Update => self.body(names, &[NEW, OLD]),
            Event::Delete => self.body(names, &[OLD]),
            Event::Truncate => self.truncated(names),
        };
        // Digests of groups depend on these settings. The search path is that of the tables, whoever writes.
        format!(
            "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT SET TimeZone = 'UTC' SET DateStyle = 'ISO' \
             SET extra_float_digits = 1 AS {}",
            names.trigger(event),
            literal(&body)
        )
    }

    /// One transaction at a time from here to its end: a statement fires two triggers, so no order of groups would keep transactions from
    /// waiting for each other.
    fn body(&self, names: &Names, sources: Sources<'_>) -> String {
        let subtracts = sources.iter().any(|(_, n)| *n < 0);
        let adds = sources.iter().any(|(_, n)| *n > 0);
        // A field may have the name of a variable of triggers, such as `found`. Our own variables begin with `_`.
        let mut body = format!(
            "#variable_conflict use_column\nDECLARE _groups bytea[]; _windows timestamptz[]; _late bigint; BEGIN {lock}; {apply};",
            lock = self.lock_totals(),
            apply = self.apply(names, sources, ["_groups", "_windows"]),
        );
        // What Cassandra has too is deleted once it is deleted there.
        if subtracts && self.mirror.is_none() {
            let _ = write!(
                body,
                " IF _groups IS NOT NULL THEN DELETE FROM {} AS t USING unnest(_groups, _windows) AS e ({GROUP}, {WINDOW}) \
                 WHERE t.{GROUP} = e.{GROUP} AND t.{WINDOW} = e.{WINDOW} AND t.{ROWS} = 0; END IF;",
                names.totals()
            );
        }
        if subtracts {
            for (i, _) in self.counted_values() {
                let _ = write!(body, " DELETE FROM {} WHERE n <= 0;", names.values(i));
            }
        }
        if adds {
            body.push_str(&self.count_late(names));
        }
        body.push_str(" RETURN NULL; END");
        body
    }

    fn lock_totals(&self) -> String {
        format!(
            "PERFORM pg_advisory_xact_lock(hashtextextended({}, 0))",
            literal(&format!("userpipeline totals {}", self.sink_table))
        )
    }

    /// Rows that no open window has. Totals that are being replaced, or computed, do not count them a second time.
    fn count_late(&self, names: &Names) -> String {
        let Some(window) = &self.window else { return String::new() };
        let Some(open) = self.open(&format!("({})", window.latest_start())) else {
            return String::new();
        };
        format!(
            " SELECT count(*) INTO _late FROM new_rows AS r WHERE NOT ({open}); \
             IF _late > 0 THEN UPDATE userpipeline.aggregates SET late = late + _late WHERE view_name = {} AND totals = {}; END IF;",
            literal(&self.view),
            literal(names.base())
        )
    }

    fn truncated(&self, names: &Names) -> String {
        let totals = names.totals();
        // What Cassandra has too becomes empty, so that it is deleted there.
        let empty = self.mirror.as_ref().map_or_else(
            || format!("TRUNCATE {totals}"),
            |_| {
                let sums = self.sums().map(|sum| format!("{} = 0, ", sum.column));
                format!("UPDATE {totals} AS t SET {ROWS} = 0, {}{}", list(sums, ""), revised())
            },
        );
        let values = self.counted_values().map(|(i, _)| format!("TRUNCATE {}; ", names.values(i)));
        format!("BEGIN {}; {empty}; {}RETURN NULL; END", self.lock_totals(), list(values, ""))
    }
}
