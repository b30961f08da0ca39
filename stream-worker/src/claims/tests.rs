//! Who has a claim.

use super::*;

const PLAIN: &str = "http://registry:8080/v7";
const ENCRYPTED: &str = "https://registry:8443/v7";

fn subject(place: &str) -> Resource {
    Resource {
        kind: Kind::Subject,
        place: place.to_owned(),
        name: "users-value".to_owned(),
    }
}

fn row(place: &str, cluster: &str, created: bool) -> Row {
    Row {
        place: place.to_owned(),
        cluster: cluster.to_owned(),
        pipeline: "demo/users".to_owned(),
        created,
    }
}

#[test]
fn a_registry_over_https_has_the_claims_from_before_and_their_owner() {
    let holder = Holder {
        cluster: "ours".to_owned(),
        pipeline: "demo/users".to_owned(),
        created: Arc::default(),
    };
    for (case, rows, expected) in [
        ("no claim", vec![], Some(false)),
        ("created over http", vec![row(PLAIN, "ours", true)], Some(true)),
        ("existed before its pipeline", vec![row(PLAIN, "ours", false)], Some(false)),
        (
            "claimed again over https by an earlier version, which took it for an existing one",
            vec![row(PLAIN, "ours", true), row(ENCRYPTED, "ours", false)],
            Some(true),
        ),
        (
            "created in another registry",
            vec![row("https://other:8443/v7", "ours", true)],
            Some(false),
        ),
        (
            "another cluster's in another registry",
            vec![row("http://other:8080/v7", "theirs", true)],
            Some(false),
        ),
        ("another cluster's over http", vec![row(PLAIN, "theirs", true)], None),
        ("another cluster's at this URL", vec![row(ENCRYPTED, "theirs", false)], None),
        (
            "two clusters claimed it with an earlier version: ours at this URL",
            vec![row(PLAIN, "theirs", true), row(ENCRYPTED, "ours", false)],
            Some(false),
        ),
        (
            "two clusters claimed it with an earlier version: theirs at this URL",
            vec![row(PLAIN, "ours", true), row(ENCRYPTED, "theirs", false)],
            None,
        ),
    ] {
        let known = holder.known(&subject(ENCRYPTED), &rows);
        assert_eq!(known.as_ref().ok(), expected.as_ref(), "{case}");
        assert!(known.err().is_none_or(|error| error.reason == CLAIMED), "{case}");
    }
}

#[test]
fn only_the_place_of_a_subject_is_a_url() {
    for kind in Kind::ALL {
        let resource = Resource {
            kind,
            ..subject(ENCRYPTED)
        };
        assert!(resource.is_at(ENCRYPTED));
        assert_eq!(resource.is_at(PLAIN), kind == Kind::Subject, "{kind:?}");
    }
}

#[test]
fn all_claims_of_a_created_resource_record_that_it_was_created() {
    let claim = |place: &str, created: bool| Claim {
        resource: subject(place),
        created,
    };
    let other = "https://other:8443/v7";
    let claims = united(&[claim(PLAIN, true), claim(ENCRYPTED, false), claim(other, false)]);
    assert_eq!(claims, [claim(PLAIN, true), claim(ENCRYPTED, true), claim(other, false)]);
}
