//! The images that pipelines run.

use userpipeline_api::{Image, PodSettings};

/// What all pipelines of this installation share.
#[derive(Clone, Debug)]
pub struct Installation {
    pub images: Images,
    /// The uid of the cluster's namespace `kube-system`.
    pub cluster: String,
    /// Pipelines must take addresses and Secrets from connections (`connections.required` of the chart).
    pub requires_connections: bool,
    /// Jobs check connections (`checks.enabled` of the chart).
    pub checks_connections: bool,
    /// Settings of the pods of these Jobs (`checks.pods` of the chart).
    pub check_pods: PodSettings,
    pub pod_metadata: PodMetadata,
}

/// The labels and annotations that pipelines may add to pods, by name or domain. None: all that are not reserved.
#[derive(Clone, Debug, Default)]
pub struct PodMetadata {
    pub labels: Option<Vec<String>>,
    pub annotations: Option<Vec<String>>,
}

/// The images of the operator's version, and the registries that a pipeline may choose from.
#[derive(Clone, Debug)]
pub struct Images {
    /// With its path, without the image's name.
    pub registry: String,
    /// Registries that a pipeline may choose instead.
    pub allowed: Vec<String>,
    pub tag: String,
    pub pull_policy: String,
}

impl Images {
    /// The images that `spec.image` selects, or why it may not.
    pub fn chosen(&self, image: Option<&Image>) -> Result<Self, String> {
        let mut chosen = self.clone();
        let Some(image) = image else { return Ok(chosen) };
        if let Some(registry) = &image.registry {
            if *registry != self.registry && !self.allowed.contains(registry) {
                let allowed: Vec<&str> = std::iter::once(&self.registry).chain(&self.allowed).map(String::as_str).collect();
                return Err(format!(
                    "the operator does not allow the registry `{registry}`: choose one of {}, or ask an administrator to add it to image.allowedRegistries in the operator's chart",
                    allowed.join(", ")
                ));
            }
            chosen.registry.clone_from(registry);
        }
        if let Some(version) = &image.version {
            chosen.tag.clone_from(version);
        }
        Ok(chosen)
    }

    pub fn of(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.registry, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_registry_then_only_an_allowed_one_is_accepted() {
        let own = Images {
            registry: "ghcr.example/up".into(),
            allowed: vec!["mirror.example/up".into()],
            tag: "0.2.0".into(),
            pull_policy: "IfNotPresent".into(),
        };
        let choose = |registry: Option<&str>, version: Option<&str>| {
            let image = Image {
                registry: registry.map(str::to_owned),
                version: version.map(str::to_owned),
            };
            own.chosen(Some(&image)).map(|images| images.of("stream-worker"))
        };
        assert_eq!(own.chosen(None).unwrap().of("stream-worker"), "ghcr.example/up/stream-worker:0.2.0");
        assert_eq!(choose(None, Some("0.1.0")).unwrap(), "ghcr.example/up/stream-worker:0.1.0");
        assert_eq!(
            choose(Some("mirror.example/up"), None).unwrap(),
            "mirror.example/up/stream-worker:0.2.0"
        );
        assert!(choose(Some("evil.example/up"), None).unwrap_err().contains("mirror.example/up"));
    }
}
