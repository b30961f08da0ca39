use jiff::Timestamp;

use super::*;
use crate::{
    generate::users,
    query::{Query, pairs},
};

fn answer(raw: &str) -> Answer {
    let query = Query::parse(&pairs(raw));
    Answer {
        results: users(&query, "abc", Timestamp::UNIX_EPOCH),
        info: query.info.then(|| Info {
            seed: "abc".into(),
            results: query.results,
            page: query.page,
            version: "1.4",
        }),
    }
}

fn rendered(raw: &str, format: Format) -> String {
    render(&answer(raw), format).unwrap()
}

#[test]
fn json_has_the_fields_in_the_order_of_the_api() {
    let json = rendered("seed=abc", Format::Json);
    let value: Value = serde_json::from_str(&json).unwrap();
    let fields: Vec<_> = value["results"][0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "gender",
            "name",
            "location",
            "email",
            "login",
            "dob",
            "registered",
            "phone",
            "cell",
            "id",
            "picture",
            "nat"
        ]
    );
    assert!(json.ends_with(r#""info":{"seed":"abc","results":1,"page":1,"version":"1.4"}}"#));
    assert!(value["results"][0]["location"]["street"]["number"].is_u64());
    assert!(value["results"][0]["location"]["coordinates"]["latitude"].is_string());
}

#[test]
fn an_identity_number_that_is_missing_is_null() {
    assert_eq!(
        rendered("seed=abc&nat=ir&inc=id&noinfo", Format::Json),
        r#"{"results":[{"id":{"name":"","value":null}}]}"#
    );
}

#[test]
fn pretty_and_yaml_have_the_same_content_as_json() {
    let raw = "seed=abc&results=200";
    let json: Value = serde_json::from_str(&rendered(raw, Format::Json)).unwrap();
    let pretty: Value = serde_json::from_str(&rendered(raw, Format::Pretty)).unwrap();
    // YAML 1.1 would read `NO` as false.
    let yaml: Value = serde_yaml::from_str(&rendered(raw, Format::Yaml)).unwrap();
    assert_eq!(pretty, json);
    assert_eq!(yaml, json);
}

#[test]
fn csv_names_nested_fields_by_their_path_and_leaves_the_info_out() {
    let csv = rendered("seed=abc&nat=ir&inc=name,id,nat&results=2", Format::Csv);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[0], "name.title,name.first,name.last,id.name,id.value,nat");
    assert_eq!(lines.len(), 3);
    assert!(lines[1].ends_with(",,,IR"), "{csv}");
}

#[test]
fn a_csv_cell_with_a_separator_a_quote_or_a_line_break_is_quoted() {
    let mut text = String::new();
    line(["plain", "a,b", "say \"hi\"", "two\nlines"].into_iter(), &mut text);
    assert_eq!(text, "plain,\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\n");
}

#[test]
fn xml_has_an_element_per_user_and_escapes() {
    let answer = serde_json::json!({
        "results": [{ "a": "x < y & z" }, { "a": null }],
        "info": { "page": 1 },
    });
    assert_eq!(
        xml(&answer),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<user>
    <results>
        <a>x &lt; y &amp; z</a>
    </results>
    <results>
        <a/>
    </results>
    <info>
        <page>1</page>
    </info>
</user>
"#
    );
}
