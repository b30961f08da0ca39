//! The source: an address of the pipeline's own, or a path on the host of a connection.

use super::blocks::{Block, Choice, Offers};
use crate::{Header, HttpConnection, HttpSource, Proxy, Source, UserPipelineSpec, placeholder::Template};

/// The complete source, and the proxy of runs.
pub(super) fn source(spec: &UserPipelineSpec, offers: &Offers<'_>, problems: &mut Vec<String>) -> Option<(Source, Option<Proxy>)> {
    let proxy = spec.pods.ingest.proxy.clone();
    let Some(http) = &spec.source.http else {
        return Some((spec.source.clone(), proxy));
    };
    if http.url.is_some() == http.path.is_some() {
        problems.push("spec.source.http: needs exactly one of url, and path below the baseUrl of a connection".to_owned());
        return None;
    }
    let block = Block {
        name: "http",
        field: if http.url.is_some() {
            "spec.source.http.url"
        } else {
            "spec.source.http.path"
        },
        is_own: http.url.is_some(),
    };
    let (http, proxy) = match (offers.choose(&block, |offer| offer.http.as_ref(), problems)?, &http.path) {
        (Choice::Connection(_, connection), Some(path)) => {
            problems.extend(path_problem(path).map(|problem| format!("spec.source.http.path: {problem}")));
            problems.extend(own_settings(spec, http, connection));
            (below(http, connection, path), connection.proxy.clone())
        }
        _ => (http.clone(), proxy),
    };
    let source = Source {
        http: Some(http),
        ..spec.source.clone()
    };
    Some((source, proxy))
}

/// The source at `path` below the connection's `baseUrl`.
fn below(http: &HttpSource, connection: &HttpConnection, path: &str) -> HttpSource {
    HttpSource {
        url: Some(format!("{}{path}", connection.base_url.trim_end_matches('/'))),
        path: None,
        auth: connection.auth.clone(),
        tls: connection.tls.clone(),
        allowed_hosts: connection.allowed_hosts.clone(),
        headers: connection.headers.iter().chain(&http.headers).cloned().collect(),
        ..http.clone()
    }
}

/// Settings of the pipeline that could send the connection's credentials elsewhere.
fn own_settings(spec: &UserPipelineSpec, http: &HttpSource, connection: &HttpConnection) -> Vec<String> {
    let is_named = |header: &Header, name: &str| header.name.eq_ignore_ascii_case(name);
    let mut problems = Vec::new();
    for (field, is_set) in [
        ("auth", http.auth.is_some()),
        ("tls", http.tls != crate::Certificates::default()),
        ("allowedHosts", !http.allowed_hosts.is_empty()),
    ] {
        if is_set {
            problems.push(format!(
                "spec.source.http.{field}: is not allowed with path, because the connection has it: remove it"
            ));
        }
    }
    for header in &http.headers {
        let name = &header.name;
        if header.value_from.is_some() || is_named(header, "host") {
            problems.push(format!(
                "spec.source.http.headers: {name} is not allowed with path: only the connection may have headers from Secrets and a header Host"
            ));
        } else if connection.auth.is_some() && is_named(header, "authorization") {
            problems.push(format!(
                "spec.source.http.headers: {name} is not allowed, because the connection has auth: remove it"
            ));
        } else if connection.headers.iter().any(|other| is_named(other, name)) {
            problems.push(format!("spec.source.http.headers: the connection has {name}, too: remove it"));
        }
    }
    if spec.pods.ingest.proxy.is_some() {
        problems
            .push("spec.pods.ingest.proxy: is not allowed with spec.source.http.path, because the connection has it: remove it".to_owned());
    }
    problems
}

/// Why a path could leave the connection's `baseUrl`. The CRD has the same rules, but an object that was
/// stored under an older one is not checked against them.
fn path_problem(path: &str) -> Option<&'static str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/._~!$&'()*+,;=:%{} -".contains(c);
    let lower = path.to_ascii_lowercase();
    if !path.starts_with('/') || !path.chars().all(is_allowed) {
        return Some(
            "must begin with '/' and contain only the characters of a URL's path, others percent-encoded: put parameters into query",
        );
    }
    // A URL parser reads an encoded dot as a dot, and a server may read an encoded slash as a slash.
    if ["//", "..", "%2e", "%2f", "%5c"].iter().any(|part| lower.contains(part)) {
        return Some("must not contain '//', '..', or an encoded '.', '/' or '\\', because it stays below the connection's baseUrl");
    }
    if Template::read(path).is_ok_and(|template| template.has_chosen_value()) {
        return Some("must not contain arguments or the cursor, whose values could lead elsewhere: use them in query, headers or body");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_base_url() {
        for path in [
            "/",
            "/users",
            "/v1/users/by:state;x=1,2",
            "/a%20b/{{interval.start.date}}/{{ run.id }}",
            "/~me/$metadata('x')",
        ] {
            assert_eq!(path_problem(path), None, "{path}");
        }
        for path in [
            "users",
            "",
            "//evil.example/users",
            "/a//b",
            "https://evil.example/",
            "/@evil.example",
            "@evil.example/",
            "/../admin",
            "/a/..",
            "/%2e%2e/admin",
            "/.%2E/admin",
            "/%2Fevil.example",
            "/%5cevil.example",
            "/\\evil.example",
            "/users?to=x",
            "/users#x",
            "/a\t./b",
            "/{{arguments.x}}/users",
            "/{{ arguments.x }}",
            "/{{cursor}}",
            "/ü",
        ] {
            assert!(path_problem(path).is_some(), "{path}");
        }
    }
}
