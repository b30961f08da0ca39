use super::*;
use crate::query::pairs;

fn spec(json: &str) -> FaultSpec {
    serde_json::from_str(json).unwrap()
}

fn hits(faults: &mut Faults, seeds: &[Option<&str>]) -> Vec<Option<FaultKind>> {
    let taken = seeds.iter().map(|seed| faults.take(*seed));
    taken.map(|fault| fault.map(|fault| fault.kind)).collect()
}

#[test]
fn a_query_names_a_fault() {
    let fault = |kind, status, seconds| Ok(Some(Fault { kind, status, seconds }));
    let table = [
        ("results=5", Ok(None)),
        ("fault.status=503", fault(FaultKind::Status, Some(503), None)),
        ("fault.outage", fault(FaultKind::Outage, None, None)),
        ("fault.outage=500", fault(FaultKind::Outage, Some(500), None)),
        ("fault.hang=30", fault(FaultKind::Hang, None, Some(30))),
        ("fault.hang=true", fault(FaultKind::Hang, None, None)),
        ("fault.empty", fault(FaultKind::Empty, None, None)),
        ("fault.truncate", fault(FaultKind::Truncate, None, None)),
        ("fault.not-json", fault(FaultKind::NotJson, None, None)),
        ("fault.repeat&x=y", fault(FaultKind::Repeat, None, None)),
    ];
    for (raw, expected) in table {
        assert_eq!(from_query(&pairs(raw)), expected, "{raw}");
    }
}

#[test]
fn a_mistake_in_a_fault_is_reported() {
    let table = [
        ("fault.satus=503", "`fault.satus` is not a fault"),
        ("fault.status", "a fault `status` needs a status"),
        ("fault.status=99", "status 99 is not from 300 to 599"),
        ("fault.status=99999", "99999 is not a status"),
        ("fault.hang=long", "`long` is not a number"),
        ("fault.repeat=3", "a fault `repeat` has no status"),
        ("fault.hang&fault.empty", "one fault at a time"),
    ];
    for (raw, message) in table {
        assert_eq!(from_query(&pairs(raw)), Err(message.to_owned()), "{raw}");
    }
    for json in [
        r#"{"kind":"status","status":503,"time":5}"#,
        r#"{"kind":"flood"}"#,
        r#"{"status":503}"#,
    ] {
        assert!(serde_json::from_str::<FaultSpec>(json).is_err(), "{json}");
    }
    let mut faults = Faults::default();
    assert!(faults.put(spec(r#"{"kind":"status"}"#)).is_err());
    assert!(faults.put(spec(r#"{"kind":"empty","seconds":3}"#)).is_err());
    assert_eq!(faults.list(), []);
}

#[test]
fn a_fault_skips_the_first_requests_and_ends_after_its_times() {
    // Given a fault for the second and the third request
    let mut faults = Faults::default();
    let json = r#"{"kind":"empty","after":1,"times":2}"#;
    faults.put(spec(json)).unwrap();

    // When five requests arrive, then these two receive it
    let empty = Some(FaultKind::Empty);
    assert_eq!(hits(&mut faults, &[None; 5]), [None, empty, empty, None, None]);
    assert_eq!(faults.list()[0].hits, 2);

    // And a fault that is put again starts again.
    faults.put(spec(json)).unwrap();
    assert_eq!(hits(&mut faults, &[None; 2]), [None, empty]);
}

#[test]
fn a_fault_of_a_seed_affects_no_other_seed_and_takes_precedence_over_the_general_one() {
    let mut faults = Faults::default();
    let of_seed = r#"{"kind":"hang","seed":"abc","times":1}"#;
    faults.put(spec(of_seed)).unwrap();
    let (hang, empty) = (Some(FaultKind::Hang), Some(FaultKind::Empty));
    assert_eq!(hits(&mut faults, &[None, Some("xyz")]), [None, None]);

    faults.put(spec(r#"{"kind":"empty"}"#)).unwrap();
    let kinds = hits(&mut faults, &[None, Some("abc"), Some("abc"), Some("xyz")]);
    assert_eq!(kinds, [empty, hang, empty, empty]);

    // Deleting the general one leaves the other.
    faults.put(spec(of_seed)).unwrap();
    faults.remove(None);
    assert_eq!(hits(&mut faults, &[None, Some("abc")]), [None, hang]);
    faults.remove(Some("abc"));
    assert_eq!(faults.list(), []);
}

#[test]
fn the_number_of_faults_is_bounded() {
    let mut faults = Faults::default();
    for number in 0..MAX_ACTIVE_FAULTS {
        let json = format!(r#"{{"kind":"empty","seed":"{number}"}}"#);
        faults.put(spec(&json)).unwrap();
    }
    assert!(faults.put(spec(r#"{"kind":"empty"}"#)).is_err());
    faults.put(spec(r#"{"kind":"hang","seed":"7"}"#)).unwrap();
}
