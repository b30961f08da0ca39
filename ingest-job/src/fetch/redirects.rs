//! Which redirects and links are followed: requests carry credentials that are meant for the server in the spec.

use reqwest::{
    Url,
    redirect::{Attempt, Policy},
};

const MAX_REDIRECTS: usize = 5;

/// Follows redirects on the same host, and to `allowed_hosts`.
pub fn policy(allowed_hosts: Vec<String>) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        let first = attempt.previous().first();
        let is_allowed = first.is_some_and(|first| may_lead(first, attempt.url(), &allowed_hosts));
        if is_allowed && attempt.previous().len() <= MAX_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Whether a request to `from` may continue at `to`: on the same host and port, from http to https on their default ports, or on
/// one of `allowed_hosts`.
pub fn may_lead(from: &Url, to: &Url, allowed_hosts: &[String]) -> bool {
    if from.scheme() == "https" && to.scheme() != "https" {
        return false;
    }
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    let same_port = from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let host = to.host_str().unwrap_or_default();
    let is_named = |name: &String| match to.port() {
        None => name.eq_ignore_ascii_case(host),
        Some(port) => name.eq_ignore_ascii_case(&format!("{host}:{port}")),
    };
    (from.host_str() == to.host_str() && (upgrade || same_port)) || allowed_hosts.iter().any(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_its_server_or_leads_to_an_allowed_one() {
        let allowed = ["files.a".to_owned(), "B:8080".to_owned()];
        for (from, to, follows) in [
            ("http://a/x", "http://a/y", true),
            ("https://a/x", "https://files.a/y", true),
            ("https://a/x", "http://files.a/y", false),
            ("http://a/x", "http://b:8080/y", true),
            ("http://a/x", "http://b:8081/y", false),
            ("http://a/x", "http://files.a.evil/y", false),
            ("http://a", "http://a:80/", true),
            ("http://a/", "https://a/", true),
            ("https://a/", "http://a/", false),
            ("http://a/", "http://b/", false),
            ("http://a/", "http://a:8080/", false),
            ("http://a:8080/", "https://a/", false),
            ("http://a.b/", "http://b/", false),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(may_lead(&from, &to, &allowed), follows, "{from} {to}");
        }
    }
}
