//! Which images a pipeline runs.

use userpipeline_api::Image;

/// The images of the operator's own version, and where else a pipeline may have its own from.
#[derive(Clone, Debug)]
pub struct Images {
    /// The registry, with its path.
    pub registry: String,
    /// Registries that a pipeline may choose instead.
    pub allowed: Vec<String>,
    /// The tag.
    pub tag: String,
    /// When they are pulled.
    pub pull_policy: String,
}

impl Images {
    /// Those that a pipeline asks for.
    pub fn chosen(&self, image: Option<&Image>) -> Result<Self, String> {
        let mut chosen = self.clone();
        let Some(image) = image else { return Ok(chosen) };
        if let Some(registry) = &image.registry {
            if *registry != self.registry && !self.allowed.contains(registry) {
                let allowed: Vec<&str> = std::iter::once(&self.registry).chain(&self.allowed).map(String::as_str).collect();
                return Err(format!(
                    "`{registry}` is not a registry that the operator allows: choose one of {}, or have it added to image.allowedRegistries of the operator's chart",
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

    /// The image of a program.
    pub fn of(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.registry, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_chooses_among_what_the_operator_allows() {
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
