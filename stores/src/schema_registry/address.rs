//! Which addresses lead to the same registry.

use reqwest::Url;

/// Whether both URLs lead to the same registry: the same host and path prefix, at the same port. A registry that offers both http
/// and https does so at different ports, so the port counts only if the schemes are equal.
pub fn same_registry(one: &str, other: &str) -> bool {
    let (Ok(a), Ok(b)) = (Url::parse(one), Url::parse(other)) else {
        return one == other;
    };
    let port = |url: &Url| url.port_or_known_default();
    let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    a.host() == b.host() && path(&a) == path(&b) && (a.scheme() != b.scheme() || port(&a) == port(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_the_same_over_http_and_https_and_not_at_another_port_host_or_path() {
        for (one, other, expected) in [
            ("http://registry:8081", "http://registry:8081", true),
            ("http://registry:8081", "https://registry:8081", true),
            (
                "http://registry:8080/apis/ccompat/v7",
                "https://registry:8443/apis/ccompat/v7",
                true,
            ),
            ("http://registry", "https://registry", true),
            ("http://registry", "https://registry:8443", true),
            ("https://registry", "https://registry:443", true),
            ("http://registry:80/", "http://Registry", true),
            ("http://registry/v7/", "https://registry/v7", true),
            ("http://registry:8081", "http://registry:8082", false),
            ("https://registry", "https://registry:8443", false),
            ("http://registry:8081", "https://other:8081", false),
            ("http://registry:8080/a", "https://registry:8443/b", false),
            ("http://registry:8080", "https://registry:8443/v7", false),
            // Rows may have been edited by hand.
            ("registry", "registry", true),
            ("registry", "http://registry", false),
        ] {
            assert_eq!(same_registry(one, other), expected, "{one} {other}");
            assert_eq!(same_registry(other, one), expected, "{other} {one}");
        }
    }
}
