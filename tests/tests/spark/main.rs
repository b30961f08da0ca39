//! docs/how-to/from-spark.md: PySpark and a pipeline have the same totals of the same items. `make test-spark` installs PySpark.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, random::SplitMix64, stores, test_source::TestSource};

const PAGE: &str = "docs/how-to/from-spark.md";
const USERS: i64 = 2000;

/// Group and window, and the values as text.
type Totals = BTreeMap<(String, String), Vec<String>>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PySpark: make test-spark"]
async fn pyspark_and_a_pipeline_have_the_same_totals_of_the_same_items() -> Result<()> {
    // Given the pipeline of the page, and a thousand users of some countries and days
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join(PAGE))?;
    let (_, block) = page.split_once("```yaml\n").context("a block of YAML")?;
    let spec: Value = serde_yaml::from_str(block.split_once("```").context("its end")?.0)?;
    let world = World::new("spark").await?;
    let source = TestSource::start(&world.client).await?;
    let mut pipeline = world.pipeline_of(&spec["spec"]["record"], &source.url());
    pipeline["spec"]["aggregates"] = spec["spec"]["aggregates"].clone();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let items = items();

    // When the pipeline stores them, each after two older versions
    for version in 0..3 {
        let page: Vec<Value> = items.iter().map(|item| in_version(item, version)).collect();
        for page in page.chunks(500) {
            source.serve(page);
        }
        world.run(&format!("version-{version}")).await?;
    }
    world.drained(1).await?;

    // Then its totals are those of PySpark
    let view = names::aggregate_view(&names::postgres_table(&world.id()), "by_country_day");
    let db = stores::postgres(&world.client).await?;
    db.batch_execute("SET TimeZone = 'UTC'").await?;
    let rows = db
        .query(
            &format!(
                "SELECT country, window_start::timestamp::text, users::text, emails::text, average_age::text, oldest::timestamp::text, points::float8::text \
                 FROM \"{view}\""
            ),
            &[],
        )
        .await?;
    let ours: Totals = rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), (2..7).map(|column| row.get(column)).collect()))
        .collect();
    let theirs = of_spark(&root, &items)?;
    ensure!(theirs.len() > 20, "{} totals", theirs.len());
    for (group, expected) in &theirs {
        ensure!(
            ours.get(group) == Some(expected),
            "{group:?} is {:?}, and in PySpark {expected:?}",
            ours.get(group)
        );
    }
    ensure!(ours.len() == theirs.len(), "{} totals, and in PySpark {}", ours.len(), theirs.len());
    world.clean_up().await
}

fn items() -> Vec<Value> {
    let mut random = SplitMix64::new(7);
    let countries = ["Norway", "Switzerland", "Germany", "France"];
    let user = |id: i64| {
        let (day, hour, age) = (1 + random.index(9), random.index(24), i64::try_from(random.index(60)).unwrap_or(0));
        json!({
            "login": {"uuid": uuid::Uuid::from_u64_pair(7, id.unsigned_abs()).to_string()},
            "email": format!("user{}@example.com", random.index(900)),
            "location": {"country": countries[random.index(4)]},
            "dob": {"date": format!("{}-0{day}-11T0{}:00:00.000Z", 1950 + age, hour % 10), "age": age},
            "registered": {"date": format!("2024-03-0{day}T{hour:02}:30:00.000Z"), "age": random.index(20)},
        })
    };
    (0..USERS).map(user).collect()
}

/// The item as it was served before: in another country, with another age, on another day.
fn in_version(item: &Value, version: i64) -> Value {
    let mut item = item.clone();
    if version < 2 {
        item["location"]["country"] = json!("Austria");
        item["dob"]["age"] = json!(17 + version);
        item["registered"]["date"] = json!("2024-03-01T10:00:00.000Z");
    }
    item
}

fn of_spark(root: &Path, items: &[Value]) -> Result<Totals> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("items.json");
    let lines: Vec<String> = items.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let python = std::env::var("PYSPARK_PYTHON").context("PYSPARK_PYTHON: use make test-spark")?;
    let program = root.join("tests/tests/spark/totals.py");
    let output = Command::new(python).arg(program).arg(root.join(PAGE)).arg(&file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let totals = text.lines().filter(|line| line.starts_with('{')).map(|line| {
        let total: Value = serde_json::from_str(line)?;
        let text = |name: &str| match &total[name] {
            Value::String(text) => text.clone(),
            // As PostgreSQL writes a double.
            other => other.to_string().trim_end_matches(".0").to_owned(),
        };
        let values = ["users", "emails", "average_age", "oldest", "points"].map(text);
        Ok(((text("country"), text("window_start")), values.to_vec()))
    });
    totals.collect()
}
