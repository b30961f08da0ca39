//! From a declaration (`spec.record`) to a schema, or its problems.

use userpipeline_api::{FieldSpec, FieldType, RecordSpec};

use crate::{Expression, Field, Filter, Mask, Origin, RecordSchema, convert::convert_time, time_form::TimeForm};

/// A problem of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Such as `spec.record.fields[3].expr`.
    pub field: String,
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl RecordSchema {
    /// Like [`RecordSchema::of`], with all problems in one text.
    pub fn read(declared: Option<&RecordSpec>) -> Result<Self, String> {
        Self::of(declared).map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))
    }

    /// The declared schema; without a declaration, the built-in user record.
    pub fn of(declared: Option<&RecordSpec>) -> Result<Self, Vec<Problem>> {
        let Some(spec) = declared else { return Ok(Self::user()) };
        let mut problems = Problems::default();
        let fields = problems.fields(spec);
        problems.check_key(spec);
        problems.check_cluster_by(spec);
        problems.check_order_by(spec);
        let delete_when = spec.delete_when.as_deref().map(Expression::compile).transpose();
        let delete_when = delete_when.unwrap_or_else(|problem| {
            problems.add("spec.record.deleteWhen", problem);
            None
        });
        let filter = problems.filter(spec);
        if !problems.0.is_empty() {
            return Err(problems.0);
        }
        Ok(Self {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            key: spec.key.clone(),
            cluster_by: spec.cluster_by.clone(),
            order_by: spec.order_by.clone(),
            delete_when,
            filter,
            changes: spec.changes.unwrap_or_default(),
            fields,
        })
    }
}

/// The problems of a declaration, collected.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            problem: problem.into(),
        });
    }

    /// The fields without problems.
    fn fields(&mut self, spec: &RecordSpec) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for (i, declared) in spec.fields.iter().enumerate() {
            if fields.iter().any(|field| field.name == declared.name) {
                self.add(
                    format!("spec.record.fields[{i}].name"),
                    format!("`{}` is declared twice", declared.name),
                );
            }
            let is_key = spec.key.contains(&declared.name);
            let is_order = spec.order_by.as_ref() == Some(&declared.name);
            match field(declared, is_key, is_order) {
                Ok(field) => fields.push(field),
                Err((part, problem)) => self.add(format!("spec.record.fields[{i}]{part}"), problem),
            }
        }
        fields
    }

    fn filter(&mut self, spec: &RecordSpec) -> Option<Filter> {
        let fields: Vec<(&str, FieldType)> = spec.fields.iter().map(|field| (field.name.as_str(), field.field_type)).collect();
        let filter = Filter::compile(spec.filter.as_deref()?, &fields);
        filter.map_err(|problem| self.add("spec.record.where", problem)).ok()
    }

    fn check_key(&mut self, spec: &RecordSpec) {
        for name in &spec.key {
            let problem = match find(spec, name) {
                None => "is not among spec.record.fields",
                Some(field) if field.optional || field.default.is_some() => {
                    "must be neither optional nor have a default: each record needs its key"
                }
                Some(field) if matches!(field.field_type, FieldType::Json | FieldType::Double) => {
                    "is of type json or double, in which one value can be written in several ways; declare it as string"
                }
                Some(_) => continue,
            };
            self.add("spec.record.key", format!("`{name}` {problem}"));
        }
        if spec.key.is_empty() {
            self.add("spec.record.key", "must name at least one field");
        }
        self.check_duplicates(&spec.key, "spec.record.key");
    }

    fn check_cluster_by(&mut self, spec: &RecordSpec) {
        const FIELD: &str = "spec.record.clusterBy";
        self.check_duplicates(&spec.cluster_by, FIELD);
        if let Some(name) = spec.cluster_by.iter().find(|name| !spec.key.contains(name)) {
            self.add(FIELD, format!("`{name}` is not part of spec.record.key"));
        }
        if !spec.key.is_empty() && spec.key.iter().all(|name| spec.cluster_by.contains(name)) {
            self.add(FIELD, "names all of spec.record.key: at least one field must choose the partition");
        }
    }

    fn check_duplicates(&mut self, names: &[String], field: &str) {
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            self.add(field, format!("`{name}` is listed twice"));
        }
    }

    fn check_order_by(&mut self, spec: &RecordSpec) {
        let Some(name) = &spec.order_by else { return };
        let is_valid = |field: &FieldSpec| {
            let is_ordered = matches!(field.field_type, FieldType::Timestamp | FieldType::Int | FieldType::Long);
            is_ordered && !field.optional && field.default.is_none()
        };
        if !find(spec, name).is_some_and(is_valid) {
            let problem = format!("`{name}` must be a field of type timestamp, int or long that is neither optional nor has a default");
            self.add("spec.record.orderBy", problem);
        }
    }
}

fn find<'a>(spec: &'a RecordSpec, name: &str) -> Option<&'a FieldSpec> {
    spec.fields.iter().find(|field| field.name == name)
}

fn field(spec: &FieldSpec, is_key: bool, is_order: bool) -> Result<Field, (&'static str, String)> {
    let from = match (&spec.from, &spec.template, &spec.expr) {
        (Some(pointer), None, None) => Origin::Pointer(pointer.clone()),
        (None, Some(template), None) => {
            template_problem(template).map_or(Ok(()), |problem| Err((".template", problem)))?;
            Origin::Template(template.clone())
        }
        (None, None, Some(text)) => Origin::Expression(Expression::compile(text).map_err(|problem| (".expr", problem))?),
        _ => return Err(("", "must have exactly one of from, template and expr".to_owned())),
    };
    if matches!(from, Origin::Template(_)) && spec.field_type != FieldType::String {
        return Err((".template", "produces text: the field's type must be string".to_owned()));
    }
    if spec.default.is_some() && spec.field_type == FieldType::Bytes {
        let problem = "a field of type bytes takes no default, because readers of Avro interpret it differently: remove the default";
        return Err((".default", problem.to_owned()));
    }
    if spec.optional && spec.default.is_some() {
        let problem = "a field is either optional or has a default, not both";
        return Err((".default", problem.to_owned()));
    }
    let time_form = TimeForm::of(spec)?;
    let default = spec.default.as_ref();
    let default = default
        .map(|json| convert_time(spec.field_type, json, &time_form, true))
        .transpose();
    Ok(Field {
        name: spec.name.clone(),
        field_type: spec.field_type,
        from,
        optional: spec.optional,
        default: default.map_err(|problem| (".default", problem))?,
        doc: spec.doc.clone(),
        mask: Mask::of(spec, is_key, is_order)?,
        time_form,
    })
}

fn template_problem(template: &str) -> Option<String> {
    let mut rest = template;
    let mut pointers = 0;
    while let Some((before, after)) = rest.split_once('{') {
        if before.contains('}') {
            return Some("has a `}` without a `{`".to_owned());
        }
        let Some((pointer, after)) = after.split_once('}') else {
            return Some("has a `{` without a `}`".to_owned());
        };
        if !pointer.starts_with('/') {
            return Some(format!("`{{{pointer}}}` is not a JSON pointer such as {{/name/first}}"));
        }
        pointers += 1;
        rest = after;
    }
    if rest.contains('}') {
        return Some("has a `}` without a `{`".to_owned());
    }
    (pointers == 0).then(|| "has no JSON pointer in braces, so all records would have the same text".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::Value;

    fn read(record: Json) -> Result<RecordSchema, Vec<Problem>> {
        RecordSchema::of(Some(&serde_json::from_value(record).unwrap()))
    }

    fn good() -> Json {
        json!({"key": ["device", "at"], "clusterBy": ["at"], "orderBy": "at", "deleteWhen": "has(item.gone)", "where": "celsius > 0.0", "fields": [
            {"name": "device", "type": "string", "from": "/device"},
            {"name": "at", "type": "timestamp", "from": "/at"},
            {"name": "celsius", "type": "double", "expr": "(item.f - 32.0) / 1.8", "optional": true},
            {"name": "place", "type": "string", "template": "{/room}, {/house}", "default": "nowhere", "doc": "Where it is"},
            {"name": "signature", "type": "bytes", "from": "/signature", "optional": true},
        ]})
    }

    #[test]
    fn a_declaration_becomes_a_schema() {
        let schema = read(good()).unwrap();
        assert_eq!((schema.name.as_str(), schema.namespace.as_str()), ("Record", "dev.userpipeline"));
        assert_eq!(schema.cluster_by, ["at"]);
        assert_eq!(schema.fields[3].default, Some(Value::String("nowhere".into())));
        assert_eq!(RecordSchema::of(None), Ok(RecordSchema::user()));
    }

    #[test]
    fn each_problem_names_its_field() {
        for (pointer, bad, expected) in [
            (
                "/key",
                json!(["device", "celsius"]),
                "spec.record.key: `celsius` must be neither optional",
            ),
            ("/key", json!(["device", "x"]), "spec.record.key: `x` is not among"),
            ("/key", json!(["at"]), "spec.record.clusterBy: names all"),
            ("/key", json!(["at", "device", "at"]), "spec.record.key: `at` is listed twice"),
            ("/clusterBy", json!(["place"]), "spec.record.clusterBy: `place` is not part"),
            ("/orderBy", json!("device"), "spec.record.orderBy: `device` must be"),
            ("/orderBy", json!("nothing"), "spec.record.orderBy: `nothing` must be"),
            (
                "/deleteWhen",
                json!("item."),
                "spec.record.deleteWhen: `item.` is not a CEL expression: 1:6: expected identifier",
            ),
            ("/fields/0/type", json!("double"), "is of type json or double"),
            (
                "/fields/2/expr",
                json!("user.x"),
                "spec.record.fields[2].expr: `user.x` reads `user`",
            ),
            ("/fields/2/from", json!("/x"), "spec.record.fields[2]: must have exactly one"),
            (
                "/fields/2/default",
                json!(1.5),
                "spec.record.fields[2].default: a field is either optional or has a default",
            ),
            (
                "/fields/4/default",
                json!("AP8="),
                "spec.record.fields[4].default: a field of type bytes takes no default",
            ),
            ("/fields/3/default", json!(true), "spec.record.fields[3].default: expected text"),
            (
                "/fields/3/template",
                json!("{room}"),
                "spec.record.fields[3].template: `{room}` is not a JSON pointer",
            ),
            ("/fields/3/template", json!("{/room"), "`{` without a `}`"),
            ("/fields/3/template", json!("/room}"), "`}` without a `{`"),
            ("/fields/3/template", json!("room"), "no JSON pointer"),
            ("/fields/3/type", json!("long"), "spec.record.fields[3].template: produces text"),
            (
                "/fields/3/name",
                json!("device"),
                "spec.record.fields[3].name: `device` is declared twice",
            ),
        ] {
            let mut record = good();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            record.pointer_mut(parent).unwrap()[last] = bad;
            let problems = read(record).unwrap_err();
            assert!(problems.iter().any(|p| p.to_string().contains(expected)), "{pointer}: {problems:?}");
        }
    }

    #[test]
    fn a_problem_of_the_filter_has_its_position() {
        for (bad, expected) in [
            (
                "place != 'x' && celsus > 0.0",
                "spec.record.where: `place != 'x' && celsus > 0.0` reads `celsus` at 1:17, which is not among spec.record.fields",
            ),
            ("celsius >", "spec.record.where: `celsius >` is not a CEL expression: 1:10: "),
        ] {
            let mut record = good();
            record["where"] = json!(bad);
            let problems = read(record).unwrap_err();
            assert!(problems.len() == 1 && problems[0].to_string().contains(expected), "{problems:?}");
        }
    }

    #[test]
    fn a_mask_that_does_not_fit_names_its_field() {
        for (pointer, mask, expected) in [
            (
                "/fields/1",
                json!({"with": "Bucket", "period": "Day"}),
                "spec.record.fields[1].mask: the field of spec.record.orderBy cannot have a mask",
            ),
            (
                "/fields/0",
                json!({"with": "Redact"}),
                "spec.record.fields[0].mask.with: a field of spec.record.key can be masked only with HMAC",
            ),
        ] {
            let mut record = good();
            record.pointer_mut(pointer).unwrap()["mask"] = mask;
            let problems = read(record).unwrap_err();
            assert!(problems.iter().any(|p| p.to_string().contains(expected)), "{problems:?}");
        }
    }

    #[test]
    fn all_problems_are_reported_together() {
        let mut record = good();
        record["orderBy"] = json!("x");
        record["fields"][2]["expr"] = json!("(");
        assert_eq!(read(record).unwrap_err().len(), 2);
    }
}
