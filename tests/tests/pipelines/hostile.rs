//! What one author writes never brings down what others use: texts that were made to break a parser, applied to the running operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use userpipeline_api::UserPipeline;
use userpipeline_tests::{World, eventually, operator_pods::OperatorPods, world::SOON};

/// How long the operator may take for another pipeline while it is under attack.
const OTHERS: Duration = Duration::from_secs(20);

/// A text, and the field that has it.
struct Attack {
    field: &'static str,
    /// Within `spec`.
    pointer: &'static str,
    value: Value,
}

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
}

/// Expressions of at most 1,024 characters, which is what the apiserver takes.
fn expressions() -> Vec<String> {
    let mut texts = vec![
        nested("--(", "item.x", ")", 25),
        ".matches(item.x, item.x)".to_owned(),
        nested("[1].map(x, [2].map(y, ", "x", "))", 30),
        format!("'{}' + item.", "x".repeat(1000)),
        format!("item.x == {}", "9".repeat(1000)),
        format!("1e{}", "9".repeat(1000)),
        format!("item.text.matches('{}')", "(a{1000}){1000}".repeat(20)),
        format!("item.x{}", ".a".repeat(500)),
        format!("item.x{}", " + 1".repeat(200)),
        format!("item.x{}", "[0]".repeat(300)),
        format!("'{}", "\\".repeat(900)),
        format!("item.{}", "`".repeat(900)),
        "\u{1F388}".repeat(1000),
    ];
    for (open, inner, close) in [
        ("(", "item.x", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("-(", "item.x", ")"),
        ("!(", "true", ")"),
        ("!-", "item.x", ""),
        ("-", "item.x", ""),
        ("size([", "1", "])"),
        ("has(", "item.x", ")"),
        ("true ? ", "1", " : 2"),
        ("true ? 1 : ", "1", ""),
        ("item.l.all(x, ", "true", ")"),
        ("item.l.exists_one(x, ", "true", ")"),
        ("item[", "'x'", "]"),
        ("item{a: ", "1", "}"),
        ("(", "", ""),
        ("[[", "", ""),
        ("{", "", ""),
    ] {
        let level = open.len() + close.len();
        texts.push(nested(open, inner, close, (1000 - inner.len()) / level));
    }
    texts
}

fn attacks() -> Vec<Attack> {
    let attack = |field, pointer, value| Attack { field, pointer, value };
    let mut attacks: Vec<Attack> = expressions()
        .into_iter()
        .map(|text| attack("spec.record.fields[1].expr", "/record/fields/1/expr", json!(text)))
        .collect();
    attacks.extend(other_texts());
    attacks.extend(resources());
    attacks
}

fn other_texts() -> Vec<Attack> {
    let attack = |field, pointer, value| Attack { field, pointer, value };
    vec![
        attack(
            "spec.record.deleteWhen",
            "/record/deleteWhen",
            json!(nested("!(", "true", ")", 300)),
        ),
        attack("spec.record.where", "/record/where", json!(nested("!(", "true", ")", 300))),
        attack(
            "spec.record.fields[2].template",
            "/record/fields/2/template",
            json!("{/a}".repeat(250) + "{"),
        ),
        attack(
            "spec.source.http.url",
            "/source/http/url",
            json!(format!("http://x/{}", "{{".repeat(1000))),
        ),
        attack("spec.source.http.body", "/source/http/body", json!("{{".repeat(32_000))),
        attack(
            "spec.source.http.query[0].value",
            "/source/http/query/0/value",
            json!("{{interval.".repeat(370)),
        ),
        attack(
            "spec.schedule.cron",
            "/schedule/cron",
            json!(format!("{}1 * * * *", "0-59/1,".repeat(27)) + " *"),
        ),
        attack(
            "spec.schedule.cron",
            "/schedule/cron",
            json!(format!("{} * * * *", "99999999999999999999")),
        ),
        attack("spec.schedule.timeZone", "/schedule/timeZone", json!("../".repeat(21))),
    ]
}

/// What makes the resource as a whole hard to read.
fn resources() -> Vec<Attack> {
    let attack = |field, pointer, value| Attack { field, pointer, value };
    vec![
        // The parser of the whole resource has a limit of its own, and refuses every pipeline with this one.
        attack(
            "spec.record.fields[3].default",
            "/record/fields/3/default",
            deep(500, |inner| json!([inner])),
        ),
        attack(
            "spec.record.fields[3].default",
            "/record/fields/3/default",
            deep(500, |inner| json!({"a": inner})),
        ),
        attack(
            "spec.record.fields[3].default",
            "/record/fields/3/default",
            deep(60, |inner| json!([inner])),
        ),
        attack("the resource", "/record/fields/3/default", json!(vec![json!([0]); 300_000])),
        attack("spec", "/record/fields/3/default", json!(vec!["x".repeat(4000); 200])),
        attack(
            "spec.record.fields[3].default",
            "/record/fields/3/default",
            json!("x".repeat(500_000)),
        ),
    ]
}

fn deep(levels: usize, around: fn(Value) -> Value) -> Value {
    (0..levels).fold(json!(1), |inner, _| around(inner))
}

/// Changes the other pipeline, and waits until the operator has seen it.
async fn touch(other: &World, n: usize) -> Result<()> {
    let description =
        json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipeline", "spec": {"description": format!("touched {n}")}});
    let pipelines = other.api::<UserPipeline>();
    let touched = pipelines
        .patch("users", &PatchParams::default(), &Patch::Merge(description))
        .await?;
    eventually("the other pipeline to be reconciled", OTHERS, async || {
        let observed = pipelines.get("users").await?.status.and_then(|status| status.observed_generation);
        Ok(if observed == touched.metadata.generation {
            Ok(())
        } else {
            Err(format!("{observed:?} of {:?}", touched.metadata.generation))
        })
    })
    .await
}

/// The pipeline that carries the attacks: suspended, so that it costs nothing but its reconciliations.
fn carrier(world: &World) -> Value {
    let record = json!({"key": ["id"], "where": "id != ''", "deleteWhen": "false", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "x", "type": "string", "expr": "item.x", "optional": true},
        {"name": "t", "type": "string", "template": "{/t}", "optional": true},
        {"name": "j", "type": "json", "from": "/j", "default": 1},
    ]});
    let mut pipeline = world.pipeline();
    pipeline["spec"]["record"] = record;
    pipeline["spec"]["suspend"] = json!(true);
    pipeline["spec"]["schedule"]["timeZone"] = json!("Etc/UTC");
    pipeline["spec"]["source"]["http"]["method"] = json!("POST");
    pipeline["spec"]["source"]["http"]["body"] = json!("{}");
    pipeline
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_fail_their_own_pipeline_and_no_other() -> Result<()> {
    // Given two suspended pipelines of two teams
    let (hostile, other) = (World::new("hostile").await?, World::new("bystander").await?);
    let good = carrier(&hostile);
    other.apply(&carrier(&other)).await?;
    other.condition_where("Suspended", "True", SOON, |_, _| true).await?;
    let before = OperatorPods::observe(&hostile.client).await?;

    let (mut refused, mut reported) = (0, 0);
    for (n, attack) in attacks().into_iter().enumerate() {
        // When a text that was made to break a parser is applied
        let mut pipeline = good.clone();
        *pipeline
            .pointer_mut(&format!("/spec{}", attack.pointer))
            .with_context(|| attack.pointer)? = attack.value;
        let start = pipeline.to_string().chars().take(200).collect::<String>();
        match hostile.apply_raw(&pipeline).await {
            // Then the apiserver refuses it by the field
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 413 => refused += 1,
            Err(error) => return Err(error).with_context(|| attack.field),
            Ok(generation) => {
                // Or the operator names the field, or takes it for what it is
                let message = hostile
                    .settled(generation)
                    .await
                    .with_context(|| format!("{}: {start}", attack.field))?;
                ensure!(
                    message.as_ref().is_none_or(|message| message.contains(attack.field)),
                    "{}: {message:?}",
                    attack.field
                );
                reported += usize::from(message.is_some());
            }
        }
        // And another pipeline is reconciled meanwhile
        touch(&other, n).await?;
    }

    // And the operator did not restart
    OperatorPods::observe(&hostile.client).await?.ensure_kept_running(&before)?;
    assert!(reported >= 35, "refused {refused}, reported {reported}");

    // When the text is corrected, then its own pipeline is well again
    hostile.apply(&good).await?;
    hostile.condition_where("Suspended", "True", SOON, |_, _| true).await?;
    other.clean_up().await?;
    hostile.clean_up().await
}
