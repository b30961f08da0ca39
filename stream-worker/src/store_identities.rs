//! The stores that a schema Job has identified, for its report.

use std::sync::{Mutex, PoisonError};

use userpipeline_api::StoreIdentity;

#[derive(Debug, Default)]
pub struct StoreIdentities(Mutex<Vec<StoreIdentity>>);

impl StoreIdentities {
    /// A store without an id is none: addresses decide then.
    pub fn add(&self, store: StoreIdentity) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !store.ids.is_empty() && !known.contains(&store) {
            known.push(store);
        }
    }

    pub fn known(&self) -> Vec<StoreIdentity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
