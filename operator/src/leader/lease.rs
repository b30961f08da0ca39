//! Reads and writes the Lease. Each write is refused if another candidate wrote since it was read.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::election::{Next, Observation, next, observe};
use crate::identity::MANAGER;

#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Of this candidate.
    pub identity: String,
}

/// What became of one attempt to acquire or renew.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    Held,
    HeldBy(String),
    /// No Lease exists, and it is not sure yet that none has a holder.
    Absent,
    /// Another candidate wrote first.
    Conflict,
}

pub struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    duration: Duration,
    observed: Option<Observation>,
    /// When the last successful renewal was begun.
    renewed_at: Option<Instant>,
}

impl Candidate {
    pub fn new(client: Client, settings: LeaseSettings, duration: Duration) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            duration,
            observed: None,
            renewed_at: None,
        }
    }

    pub const fn renewed_at(&self) -> Option<Instant> {
        self.renewed_at
    }

    /// Acquires or renews the Lease, if it is this candidate's turn.
    pub async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let began = Instant::now();
        let found = self.api.get_opt(&self.settings.name).await?;
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let now = Instant::now();
        let observed = observe(self.observed.take(), spec.as_ref(), now);
        let next = next(&self.settings.identity, spec.as_ref(), &observed, self.duration, now);
        self.observed = Some(observed);
        let written = match (&next, &found) {
            (Next::Wait { holder }, _) => return Ok(Attempt::HeldBy(holder.clone())),
            (Next::WaitForHolder, _) => return Ok(Attempt::Absent),
            (_, None) => self.create().await,
            (_, Some(lease)) => self.write(lease, &self.hold(&next, lease)).await,
        };
        match written {
            Ok(lease) => {
                self.observed = Some(observe(self.observed.take(), lease.spec.as_ref(), Instant::now()));
                self.renewed_at = Some(began);
                Ok(Attempt::Held)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Attempt::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Lets another candidate take the Lease at once.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let free = json!({"holderIdentity": null, "acquireTime": null, "renewTime": null, "leaseDurationSeconds": null});
        loop {
            let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
                return Ok(());
            };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
            if holder != Some(&self.settings.identity) {
                return Ok(());
            }
            match self.write(&lease, &free).await {
                Ok(_) => return Ok(()),
                // A renewal that was given up was applied in between.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn hold(&self, next: &Next, lease: &Lease) -> Value {
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": self.settings.identity,
            "leaseDurationSeconds": self.seconds(),
            "renewTime": now,
        });
        if *next == Next::Take {
            let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(transitions.saturating_add(1));
        }
        spec
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }

    async fn create(&self) -> Result<Lease, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.settings.identity.clone()),
                lease_duration_seconds: Some(self.seconds()),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.api.create(&params, &lease).await
    }

    /// Changes the Lease as it was read, and no other version of it.
    async fn write(&self, lease: &Lease, spec: &Value) -> Result<Lease, kube::Error> {
        let body = json!({"metadata": {"uid": lease.uid(), "resourceVersion": lease.resource_version()}, "spec": spec});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.api.patch(&self.settings.name, &params, &Patch::Merge(&body)).await
    }
}
