//! Whether a schema Job may change a topic. Pure.

use userpipeline_stores::{StoreError, error::TOPIC_NOT_CREATED};

use crate::created_objects::Creator;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It is the pipeline's own, or adopted.
    Change,
    /// It is used as it is: only claims, which an author can forge, say that the pipeline created it.
    Use,
}

/// What may be done with a topic that exists, or that this Job may create. `field`: where the spec names it. `creator`: none where
/// nothing is claimed, because a user runs the program.
pub fn permission(topic: &str, field: &str, creator: Option<Creator>, adopt: bool) -> Result<Permission, StoreError> {
    match creator {
        None | Some(Creator::Pipeline) => Ok(Permission::Change),
        Some(_) if adopt => Ok(Permission::Change),
        Some(Creator::Claimed) => Ok(Permission::Use),
        Some(Creator::Other) => Err(not_created(
            topic,
            field,
            "choose another name, set spec.kafka.topic.management to None to use it as it is",
        )),
    }
}

impl Permission {
    /// An error where the topic may not be changed. `change`: what would change.
    pub fn require(self, topic: &str, field: &str, change: impl FnOnce() -> String) -> Result<(), StoreError> {
        match self {
            Self::Change => Ok(()),
            Self::Use => Err(not_created(
                topic,
                field,
                &format!("its {} would change: undo the change", change()),
            )),
        }
    }
}

fn not_created(topic: &str, field: &str, instead: &str) -> StoreError {
    StoreError::configuration(
        TOPIC_NOT_CREATED,
        format!(
            "topic `{topic}` ({field}) exists, and status.createdObjects does not say that this pipeline created it: {instead}, or take the topic over \
             with spec.kafka.topic.adopt: true"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_others_is_refused_unless_it_is_adopted() {
        use Creator::{Claimed, Other, Pipeline};
        for (creator, adopt, expected) in [
            (Some(Pipeline), false, Some(Permission::Change)),
            (Some(Claimed), false, Some(Permission::Use)),
            (Some(Claimed), true, Some(Permission::Change)),
            (Some(Other), false, None),
            (Some(Other), true, Some(Permission::Change)),
            (None, false, Some(Permission::Change)),
        ] {
            let permission = permission("payments", "spec.deadLetter.topic", creator, adopt);
            assert_eq!(permission.as_ref().ok(), expected.as_ref(), "{creator:?} {adopt}");
            if let Err(error) = permission {
                assert_eq!(error.reason, TOPIC_NOT_CREATED);
                let message = error.message;
                assert!(
                    message.contains("`payments` (spec.deadLetter.topic)") && message.contains("adopt: true"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn a_topic_that_only_claims_call_the_pipelines_own_is_not_changed() {
        let change = || "settings retention.ms".to_owned();
        assert_eq!(Permission::Change.require("t", "f", change), Ok(()));
        let refused = Permission::Use.require("t", "f", change).unwrap_err();
        assert_eq!(refused.reason, TOPIC_NOT_CREATED);
        assert!(
            refused.message.contains("its settings retention.ms would change"),
            "{}",
            refused.message
        );
    }
}
