//! Aggregates: their fields, and the names of their views.

use userpipeline_api::{ResolvedSpec, TableManagement};
use userpipeline_record::{Problem, RecordSchema, aggregate::Aggregate};

pub(super) fn aggregate_problems(spec: &ResolvedSpec, schema: &RecordSchema) -> Vec<Problem> {
    if spec.aggregates.is_empty() {
        return Vec::new();
    }
    let problem = |field: String, problem: String| Problem { field, problem };
    let sink = spec
        .sinks
        .postgres
        .as_ref()
        .filter(|sink| sink.management == TableManagement::Direct);
    let Some(table) = sink.and_then(|sink| sink.table.as_deref()) else {
        let why = "need spec.sinks.postgres with management Direct: triggers on its table keep the totals exact";
        return vec![problem("spec.aggregates".to_owned(), why.to_owned())];
    };
    let cassandra = spec
        .sinks
        .cassandra
        .as_ref()
        .filter(|sink| sink.management == TableManagement::Direct);
    let cassandra = cassandra.and_then(|sink| sink.table.as_deref());
    let aggregates = match Aggregate::all(&spec.aggregates, schema, table, cassandra) {
        Ok(aggregates) => aggregates,
        Err(problems) => return problems,
    };
    let landing = spec.landing.table.as_deref();
    let is_landing = aggregates.iter().position(|aggregate| Some(aggregate.view.as_str()) == landing);
    let taken = is_landing.map(|position| {
        problem(
            format!("spec.aggregates[{position}].sinks.postgres.view"),
            "is the landing table; choose another name".to_owned(),
        )
    });
    taken.into_iter().collect()
}
