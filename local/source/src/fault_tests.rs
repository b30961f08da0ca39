use super::*;
use crate::query::pairs;

fn order(json: &str) -> Order {
    serde_json::from_str(json).unwrap()
}

fn hits(faults: &mut Faults, seeds: &[Option<&str>]) -> Vec<Option<Kind>> {
    let taken = seeds.iter().map(|seed| faults.take(*seed));
    taken.map(|fault| fault.map(|fault| fault.kind)).collect()
}

#[test]
fn a_query_names_a_fault() {
    let fault = |kind, status, seconds| Ok(Some(Fault { kind, status, seconds }));
    let table = [
        ("results=5", Ok(None)),
        ("fault.status=503", fault(Kind::Status, Some(503), None)),
        ("fault.outage", fault(Kind::Outage, None, None)),
        ("fault.outage=500", fault(Kind::Outage, Some(500), None)),
        ("fault.hang=30", fault(Kind::Hang, None, Some(30))),
        ("fault.hang=true", fault(Kind::Hang, None, None)),
        ("fault.empty", fault(Kind::Empty, None, None)),
        ("fault.truncate", fault(Kind::Truncate, None, None)),
        ("fault.not-json", fault(Kind::NotJson, None, None)),
        ("fault.repeat&x=y", fault(Kind::Repeat, None, None)),
    ];
    for (raw, expected) in table {
        assert_eq!(from_query(&pairs(raw)), expected, "{raw}");
    }
}

#[test]
fn a_mistake_in_a_fault_is_said() {
    let table = [
        ("fault.satus=503", "`fault.satus` is not a fault"),
        ("fault.status", "a fault `status` needs a status"),
        ("fault.status=99", "status 99 is not from 300 to 599"),
        ("fault.status=99999", "99999 is not a status"),
        ("fault.hang=long", "`long` is not a number"),
        ("fault.repeat=3", "a fault `repeat` has no status"),
        ("fault.hang&fault.empty", "one fault at a time"),
    ];
    for (raw, mistake) in table {
        assert_eq!(from_query(&pairs(raw)), Err(mistake.to_owned()), "{raw}");
    }
    for json in [
        r#"{"kind":"status","status":503,"time":5}"#,
        r#"{"kind":"flood"}"#,
        r#"{"status":503}"#,
    ] {
        assert!(serde_json::from_str::<Order>(json).is_err(), "{json}");
    }
    let mut faults = Faults::default();
    assert!(faults.put(order(r#"{"kind":"status"}"#)).is_err());
    assert!(faults.put(order(r#"{"kind":"empty","seconds":3}"#)).is_err());
    assert_eq!(faults.list(), []);
}

#[test]
fn a_fault_hits_so_many_requests_after_so_many() {
    // Given a fault for the second and the third request
    let mut faults = Faults::default();
    let json = r#"{"kind":"empty","after":1,"times":2}"#;
    faults.put(order(json)).unwrap();

    // When five requests come, then it hits these and no other
    let empty = Some(Kind::Empty);
    assert_eq!(hits(&mut faults, &[None; 5]), [None, empty, empty, None, None]);
    assert_eq!(faults.list()[0].hits, 2);

    // And put again, it begins again.
    faults.put(order(json)).unwrap();
    assert_eq!(hits(&mut faults, &[None; 2]), [None, empty]);
}

#[test]
fn a_fault_of_a_seed_hits_no_other_and_goes_before_the_one_of_all() {
    let mut faults = Faults::default();
    let own = r#"{"kind":"hang","seed":"abc","times":1}"#;
    faults.put(order(own)).unwrap();
    let (hang, empty) = (Some(Kind::Hang), Some(Kind::Empty));
    assert_eq!(hits(&mut faults, &[None, Some("xyz")]), [None, None]);

    faults.put(order(r#"{"kind":"empty"}"#)).unwrap();
    let told = hits(&mut faults, &[None, Some("abc"), Some("abc"), Some("xyz")]);
    assert_eq!(told, [empty, hang, empty, empty]);

    // Deleting the one of all leaves the other.
    faults.put(order(own)).unwrap();
    faults.remove(None);
    assert_eq!(hits(&mut faults, &[None, Some("abc")]), [None, hang]);
    faults.remove(Some("abc"));
    assert_eq!(faults.list(), []);
}

#[test]
fn standing_faults_are_bounded() {
    let mut faults = Faults::default();
    for number in 0..MAX_STANDING {
        let json = format!(r#"{{"kind":"empty","seed":"{number}"}}"#);
        faults.put(order(&json)).unwrap();
    }
    assert!(faults.put(order(r#"{"kind":"empty"}"#)).is_err());
    faults.put(order(r#"{"kind":"hang","seed":"7"}"#)).unwrap();
}
