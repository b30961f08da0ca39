//! The actions of a user, each until the operator is idle.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use userpipeline_tests::crash::{Sandbox, Setup};

type Play = for<'a> fn(&'a Sandbox) -> LocalBoxFuture<'a, Result<()>>;

#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub setup: Setup,
    pub play: Play,
}

impl Scenario {
    pub const fn plain(name: &'static str, play: Play) -> Self {
        Self::with(Setup::Plain, name, play)
    }

    pub const fn with(setup: Setup, name: &'static str, play: Play) -> Self {
        Self { name, setup, play }
    }
}
