//! Which Kafka clusters connections may refer to: the chart value `strimzi.clusters`.

use std::{fmt, str::FromStr};

use userpipeline_api::StrimziListener;

/// A `Kafka` resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId {
    pub namespace: String,
    pub name: String,
}

impl ClusterId {
    pub fn of(listener: &StrimziListener) -> Self {
        Self {
            namespace: listener.namespace.clone(),
            name: listener.cluster.clone(),
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A cluster of the chart value, as the argument `NAMESPACE/NAME`, or `NAMESPACE/NAME:USER-NAMESPACE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCluster {
    pub id: ClusterId,
    /// The namespace whose KafkaUsers the cluster's User Operator reconciles.
    pub user_namespace: String,
}

impl FromStr for ListedCluster {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (cluster, users) = text.split_once(':').map_or((text, None), |(cluster, users)| (cluster, Some(users)));
        let (namespace, name) = cluster.split_once('/').unwrap_or_default();
        if [Some(namespace), Some(name), users]
            .into_iter()
            .flatten()
            .any(|part| !is_name(part))
        {
            return Err(format!("`{text}` must be NAMESPACE/NAME or NAMESPACE/NAME:USER-NAMESPACE"));
        }
        Ok(Self {
            user_namespace: users.unwrap_or(namespace).to_owned(),
            id: ClusterId {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_listed_with_its_namespace_and_that_of_its_users() {
        for (text, expected) in [
            ("kafka/events", Some(("kafka/events", "kafka"))),
            ("kafka/events:apps", Some(("kafka/events", "apps"))),
            ("events", None),
            ("kafka/", None),
            ("/events", None),
            ("kafka/events:", None),
            ("kafka/a/b", None),
            ("Kafka/events", None),
        ] {
            let listed = text.parse::<ListedCluster>().ok();
            let found = listed
                .as_ref()
                .map(|listed| (listed.id.to_string(), listed.user_namespace.as_str()));
            assert_eq!(found, expected.map(|(id, users)| (id.to_owned(), users)), "{text}");
        }
    }
}
