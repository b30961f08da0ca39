//! What is wrong with the schedule of a source, and with how it reads responses, beyond the CRD's rules.

use jiff::Timestamp;
use userpipeline_api::{Cron, HttpSource, Ticks};
use userpipeline_record::Expression;

/// A schedule that Kubernetes accepts may have no day: `0 0 31 2 *`.
pub(super) fn cron_problem(cron: &str) -> Result<(), String> {
    Cron::read(cron)?;
    // Whether it is due at all does not depend on the zone, or on the time.
    match Ticks::read(cron, "Etc/UTC")?.after(Timestamp::UNIX_EPOCH) {
        Some(_) => Ok(()),
        None => Err(format!("`{cron}` is never due: no month that it names has such a day")),
    }
}

/// What a run could not use.
pub(super) fn response_problems(http: &HttpSource) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (i, rule) in http.errors.iter().enumerate() {
        let when = Expression::compile_for_response(&rule.when);
        problems.extend(when.err().map(|problem| (format!("spec.source.http.errors[{i}].when"), problem)));
    }
    let pagination = http.paging();
    let end_when = pagination.end_when.as_deref().map(Expression::compile_for_page);
    problems.extend(
        end_when
            .and_then(Result::err)
            .map(|problem| ("spec.source.http.pagination.endWhen".to_owned(), problem)),
    );
    let body = http
        .body
        .as_deref()
        .filter(|body| pagination.body_pointer.is_some() && !body.contains("{{"));
    let parsed = body.map(serde_json::from_str::<serde_json::Value>);
    problems.extend(parsed.and_then(Result::err).map(|e| {
        let problem = format!("must be JSON, because pagination.bodyPointer sets a value in it: {e}");
        ("spec.source.http.body".to_owned(), problem)
    }));
    problems
}

#[cfg(test)]
mod tests {
    use userpipeline_api::{Schedule, UserPipelineSpec};

    use super::*;
    use crate::pipeline::example;

    fn problem(change: impl FnOnce(&mut UserPipelineSpec)) -> String {
        let mut pipeline = example::pipeline();
        change(&mut pipeline.spec);
        example::validate(&pipeline).expect_err("invalid").to_string()
    }

    fn schedule(spec: &mut UserPipelineSpec) -> &mut Schedule {
        spec.schedule.as_mut().unwrap()
    }

    fn http(spec: &mut UserPipelineSpec) -> &mut HttpSource {
        spec.source.http.as_mut().unwrap()
    }

    #[test]
    fn a_schedule_that_is_never_due_is_invalid() {
        for cron in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            let error = problem(|spec| schedule(spec).cron = cron.into());
            assert!(error.contains("spec.schedule.cron") && error.contains("never due"), "{error}");
        }
        for cron in ["0 0 29 2 *", "0 0 31 2 1", "0 0 31 * *"] {
            let mut pipeline = example::pipeline();
            schedule(&mut pipeline.spec).cron = cron.into();
            example::validate(&pipeline).expect(cron);
        }
    }

    #[test]
    fn an_end_that_is_no_expression_is_invalid() {
        let paged = |pagination: serde_json::Value| {
            problem(|spec| {
                let http = http(spec);
                http.body = Some("{".to_owned());
                http.pagination = Some(serde_json::from_value(pagination).unwrap());
            })
        };
        let error = paged(serde_json::json!({"type": "Page", "parameter": "p", "endWhen": "answr.done"}));
        assert!(
            error.contains("spec.source.http.pagination.endWhen: ") && error.contains("the only variables are `answer`"),
            "{error}"
        );
        let error = problem(|spec| {
            let rule = serde_json::json!([{"when": "page > 1", "then": "End"}]);
            http(spec).errors = serde_json::from_value(rule).unwrap();
        });
        assert!(
            error.contains("spec.source.http.errors[0].when: ") && error.contains("the only variables are `status`"),
            "{error}"
        );
        let error = paged(serde_json::json!({"type": "Page", "bodyPointer": "/p"}));
        assert!(error.contains("spec.source.http.body: must be JSON"), "{error}");
    }

    #[test]
    fn the_examples_of_public_apis_are_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/apis");
        let mut examples = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            let manifest: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            // With the stores of the tests' pipeline, instead of a connection.
            let mut pipeline = example::pipeline();
            pipeline.spec.source = serde_json::from_value(manifest["spec"]["source"].clone()).unwrap();
            pipeline.spec.record = Some(serde_json::from_value(manifest["spec"]["record"].clone()).unwrap());
            pipeline
                .validate_cel()
                .unwrap_or_else(|errors| panic!("{}: {errors}", file.display()));
            example::validate(&pipeline).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            examples += 1;
        }
        assert!(examples >= 11, "{examples}");
    }
}
