//! Executes the guides: applies every manifest and runs every command and statement in their order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use userpipeline_tests::{
    World, eventually,
    guide::{self, Shell, Step, operator_program, steps},
    stores,
};

/// Pages below `docs/` that are followed: their manifests are applied, their commands and statements executed.
const PAGES: [&str; 13] = [
    "start/first-pipeline",
    "how-to/aggregate",
    "how-to/record",
    "how-to/schedule",
    "how-to/backfill",
    "how-to/suspend",
    "how-to/scale",
    "how-to/delete",
    "how-to/upgrade",
    "how-to/plan",
    "how-to/retention",
    "how-to/dead-letters",
    "how-to/topic",
];
/// Pages that are not: they install the product or another one, run its programs outside of a cluster, need an API of others, or are
/// for look-up.
const NOT_OPERATIONS: [&str; 14] = [
    "start/quick-start",
    "start/install",
    "how-to/by-hand",
    "how-to/coming-from",
    "how-to/connections",
    "how-to/encrypt",
    "how-to/gitops",
    "how-to/pagination",
    "how-to/sizing",
    "reference/fields",
    "reference/metrics",
    "reference/record",
    "reference/source",
    "reference/status-and-events",
];
/// Pages that a story of its own follows: `tests/tests/spark` and `tests/tests/strimzi`.
const IN_STORIES: [&str; 2] = ["how-to/from-spark", "how-to/strimzi"];
/// Rooms whose pages have commands, so that each page must be in one of the lists above.
const ROOMS: [&str; 3] = ["start", "how-to", "reference"];
/// Rooms whose pages explain, and have no commands to follow.
const ROOMS_WITHOUT_COMMANDS: [&str; 2] = ["explanation", "decisions"];
const WITHIN: Duration = Duration::from_secs(240);
/// Pages in parallel.
const AT_ONCE: usize = 6;

/// Executes a page, with the namespace of the test in the place of `demo`.
async fn follow(page: &str) -> Result<()> {
    let text = guide::text(page)?;
    let (_, name) = page.split_once('/').context("a room and a page")?;
    let world = World::new(&format!("guide-{name}")).await?;
    world.create_connections().await?;
    let (text, namespace) = (text.replace("demo", &world.namespace), world.namespace.clone());
    let steps = steps(&text)?;
    ensure!(steps.iter().any(|step| matches!(step, Step::Run(_))), "{page} has no command");

    let pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("pipeline.yaml"), serde_yaml::to_string(&pipeline)?)?;
    std::os::unix::fs::symlink(guide::repository().join("charts"), folder.path().join("charts"))?;
    let shell = Shell::new(folder.path(), &namespace)?;
    for step in steps {
        match &step {
            Step::Apply(manifest) => shell
                .run(&format!("kubectl apply --server-side -f - <<'EOF'\n{manifest}\nEOF"))
                .await
                .map(drop),
            Step::Change(change) => {
                let change = change.to_string();
                shell
                    .run(&format!("kubectl patch userpipeline users --type merge -p '{change}'"))
                    .await
                    .map(drop)
            }
            // The objects of a step may take a moment to exist.
            Step::Run(command) => eventually(command, WITHIN, async || Ok(shell.run(command).await.map_err(|e| format!("{e:#}"))))
                .await
                .map(drop),
            Step::Query(statement) => {
                let db = stores::postgres(&world.client).await?;
                db.batch_execute(statement).await.map_err(Into::into)
            }
        }
        .with_context(|| format!("{page}: {step:?}"))?;
    }
    world.clean_up().await
}

/// Room and name of each page of these rooms; a room's `README.md` is its list of pages.
fn pages_of(rooms: &[&str]) -> Result<Vec<String>> {
    let docs = guide::repository().join("docs");
    let mut pages = Vec::new();
    for room in rooms {
        for file in std::fs::read_dir(docs.join(room))? {
            let file = file?.file_name().to_string_lossy().into_owned();
            // A room has folders with pictures, too.
            if let Some(name) = file.strip_suffix(".md").filter(|name| *name != "README") {
                pages.push(format!("{room}/{name}"));
            }
        }
    }
    Ok(pages)
}

#[test]
fn every_page_is_followed_or_known_not_to_be_an_operation() -> Result<()> {
    for page in pages_of(&ROOMS)? {
        let lists: [&[&str]; 3] = [&PAGES, &NOT_OPERATIONS, &IN_STORIES];
        let known = lists.iter().any(|pages| pages.contains(&page.as_str()));
        ensure!(known, "docs/{page}.md is not among the pages of this test");
    }
    Ok(())
}

#[test]
fn a_page_that_explains_has_no_commands_to_follow() -> Result<()> {
    for page in pages_of(&ROOMS_WITHOUT_COMMANDS)? {
        let steps = steps(&guide::text(&page)?)?;
        ensure!(steps.is_empty(), "docs/{page}.md has commands that no test executes: {steps:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_guides_work_as_written() -> Result<()> {
    // Before any timeout starts: a first build takes minutes.
    tokio::task::spawn_blocking(operator_program).await??;
    // All pages at once would need more pods than fit on a small node.
    let pages = futures::stream::iter(PAGES).map(follow).buffer_unordered(AT_ONCE);
    pages.try_collect::<Vec<()>>().await.map(drop)
}
