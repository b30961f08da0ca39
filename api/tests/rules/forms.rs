//! The forms of texts: cron, time zones, templates and placeholders.

use serde_json::json;

use crate::{example, record, refusal, with};

#[test]
fn a_cron_is_checked_at_apply_by_its_form_and_ranges() {
    for cron in [
        "* * * * *",
        "*/5 0-23/2 1,15 JAN,jul ?",
        "59 23 31 12 6",
        "00 00 1 1 mon-fri",
        " 0  0 * * 0 ",
        "@daily",
        "0 0 31 2 *",
    ] {
        assert_eq!(refusal(with("spec.schedule.cron", json!(cron))), None, "{cron}");
    }
    for cron in [
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 7",
        "* * * *",
        "0 * * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "@reboot",
        "every 5m",
    ] {
        let refused = refusal(with("spec.schedule.cron", json!(cron)));
        assert!(
            refused
                .as_ref()
                .is_some_and(|says| says.contains("spec.schedule.cron must have five fields")),
            "{cron}: {refused:?}"
        );
    }
}

#[test]
fn zones_templates_and_placeholders_are_checked_at_apply_by_their_form() {
    let template = |text: &str| {
        let field = json!({"name": "name", "type": "string", "template": text, "optional": true});
        let mut resource = example();
        resource["spec"]["record"] = record("/orderBy", json!("at"));
        resource["spec"]["record"]["fields"][2] = field;
        resource
    };
    let query = |text: &str| with("spec.source.http.query", json!([{"name": "q", "value": text}]));
    let url = |text: &str| with("spec.source.http.url", json!(text));
    for accepted in [
        with("spec.schedule.timeZone", json!("America/Argentina/Buenos_Aires")),
        with("spec.schedule.timeZone", json!("Etc/GMT+5")),
        template("{/a/b}, {/c}!"),
        query("{{interval.start}}-{{ run.id }}"),
        query("{"),
        query("a}}b"),
        url("http://source/{{run.id}}"),
    ] {
        assert_eq!(refusal(accepted.clone()), None, "{accepted}");
    }
    for (refused, says) in [
        (with("spec.schedule.timeZone", json!("../etc")), "spec.schedule.timeZone must be"),
        (with("spec.schedule.timeZone", json!("Europe/")), "spec.schedule.timeZone must be"),
        (template("{/a"), "a template must have JSON pointers in braces"),
        (template("{a}"), "a template must have JSON pointers in braces"),
        (template("/a}"), "a template must have JSON pointers in braces"),
        (template("a"), "a template must have JSON pointers in braces"),
        (query("{{interval.start"), "spec.source.http.query has an unclosed placeholder"),
        (query("{{run.id}} {{"), "spec.source.http.query has an unclosed placeholder"),
        (url("http://source/{{run.id"), "spec.source.http.url has an unclosed placeholder"),
    ] {
        let found = refusal(refused);
        assert!(found.as_ref().is_some_and(|found| found.contains(says)), "{says}: {found:?}");
    }
}
