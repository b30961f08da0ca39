use super::*;

fn query(raw: &str) -> Query {
    Query::parse(&pairs(raw))
}

fn codes(raw: &str) -> Vec<&'static str> {
    let nations = query(raw).nations;
    nations.iter().map(|nation| nation.code.as_str()).collect()
}

#[test]
fn results_and_page_out_of_range_or_not_whole_are_1() {
    let table = [
        ("", 1, 1),
        ("results=10&page=3", 10, 3),
        ("results=5000&page=10000", 5000, 10_000),
        ("results=5001&page=10001", 1, 1),
        ("results=0&page=0", 1, 1),
        ("results=-5&page=-1", 1, 1),
        ("results=ten&page=two", 1, 1),
        ("results=&page=", 1, 1),
        ("results=1.5&page=2.5", 1, 1),
        ("results=1e3&page=10.0", 1_000, 10),
        ("results=NaN&page=Infinity", 1, 1),
        ("results=10&results=20", 20, 1),
        ("RESULTS=10", 1, 1),
        ("%ff=%zz&&=&results=7", 7, 1),
    ];
    for (raw, results, page) in table {
        let query = query(raw);
        assert_eq!((query.results, query.page), (results, page), "{raw}");
    }
}

#[test]
fn gender_counts_only_without_a_seed() {
    let table = [
        ("gender=female", Some(Gender::Female)),
        ("gender=male", Some(Gender::Male)),
        ("gender=Male", None),
        ("gender=other", None),
        ("gender=male&seed=abc", None),
        ("gender=male&seed=", Some(Gender::Male)),
    ];
    for (raw, gender) in table {
        assert_eq!(query(raw).gender, gender, "{raw}");
    }
    let replayed = Query::replay(&pairs("gender=male&seed=abc"));
    assert_eq!(replayed.gender, Some(Gender::Male));
}

#[test]
fn one_bad_nationality_voids_the_list() {
    let none: [&str; 0] = [];
    assert_eq!(codes("nat=us,GB,,ir"), ["US", "GB", "IR"]);
    assert_eq!(codes("nationality=nl"), ["NL"]);
    for raw in ["nat=us,xx", "nat=us, gb", "nat=", "nat=,", ""] {
        assert_eq!(codes(raw), none, "{raw}");
    }
}

#[test]
fn fields_are_those_included_without_those_excluded() {
    use Field::{Email, Gender, Login, Name};
    let fields = |raw| query(raw).fields.0;
    assert_eq!(fields("").len(), 12);
    assert_eq!(fields("inc=").len(), 12);
    assert_eq!(fields("inc=email, NAME,nonsense"), [Name, Email]);
    assert_eq!(fields("inc=name,gender&exc=name"), [Gender]);
    assert_eq!(fields("inc=nonsense"), []);
    assert!(!fields("exc=login").contains(&Login));
}

#[test]
fn an_unknown_format_is_json() {
    let table = [
        ("", Format::Json),
        ("format=pretty", Format::Pretty),
        ("format=PrettyJSON", Format::Pretty),
        ("format=csv", Format::Csv),
        ("fmt=yaml", Format::Yaml),
        ("format=XML", Format::Xml),
        ("format=protobuf", Format::Json),
    ];
    for (raw, format) in table {
        assert_eq!(query(raw).format, format, "{raw}");
    }
}

#[test]
fn noinfo_hides_the_info_whatever_its_value() {
    assert!(query("").info);
    for raw in ["noinfo", "noinfo=1", "noinfo=false"] {
        assert!(!query(raw).info, "{raw}");
    }
}

#[test]
fn a_canonical_query_yields_the_same_users() {
    let original = query("page=3&results=20&gender=female&nat=ir,us&inc=name,login&format=csv&noinfo");
    let canonical = original.canonical("a b&c");
    assert_eq!(
        canonical,
        "seed=a+b%26c&page=3&results=20&gender=female&nat=IR%2CUS&exc=gender%2Clocation%2Cemail%2Cdob%2Cregistered%2Cphone%2Ccell%2Cid%2Cpicture%2Cnat"
    );
    let again = Query::replay(&pairs(&canonical));
    assert_eq!(again.seed.as_deref(), Some("a b&c"));
    assert_eq!((again.page, again.results), (3, 20));
    assert_eq!(again.gender, Some(Gender::Female));
    assert_eq!(again.fields, original.fields);
    assert_eq!(again.canonical("a b&c"), canonical);
}
