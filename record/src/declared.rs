//! From what a pipeline declares (`spec.record`) to a schema, or what is wrong with it.

use userpipeline_api::{FieldSpec, FieldType, RecordSpec};

use crate::{Expression, Field, Origin, RecordSchema, convert::convert};

/// What is wrong with a declaration: the field of the resource, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As `spec.record.fields[3].expr`.
    pub field: String,
    /// A sentence.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl RecordSchema {
    /// The same as [`RecordSchema::of`], with all that is wrong in one text.
    pub fn read(declared: Option<&RecordSpec>) -> Result<Self, String> {
        Self::of(declared).map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))
    }

    /// The schema of what is declared; the built-in user record where nothing is.
    pub fn of(declared: Option<&RecordSpec>) -> Result<Self, Vec<Problem>> {
        let Some(spec) = declared else { return Ok(Self::user()) };
        let mut problems = Vec::new();
        let mut note = |field: String, problem: String| problems.push(Problem { field, problem });
        let mut fields: Vec<Field> = Vec::new();
        for (i, declared) in spec.fields.iter().enumerate() {
            if fields.iter().any(|field| field.name == declared.name) {
                note(
                    format!("spec.record.fields[{i}].name"),
                    format!("`{}` is there twice", declared.name),
                );
            }
            match field(declared) {
                Ok(field) => fields.push(field),
                Err((part, problem)) => note(format!("spec.record.fields[{i}]{part}"), problem),
            }
        }
        let find = |name: &String| spec.fields.iter().find(|field| field.name == *name);
        for name in &spec.key {
            let bad = |problem: &str| Some(format!("`{name}` {problem}"));
            let problem = match find(name) {
                None => bad("is not among spec.record.fields"),
                Some(field) if field.optional || field.default.is_some() => {
                    bad("must be neither optional nor have a default: each record needs its key")
                }
                Some(field) if matches!(field.field_type, FieldType::Json | FieldType::Double) => {
                    bad("is of type json or double, in which one value can be written in several ways; declare it as string")
                }
                Some(_) => None,
            };
            if let Some(problem) = problem {
                note("spec.record.key".to_owned(), problem);
            }
        }
        if spec.key.is_empty() {
            note("spec.record.key".to_owned(), "must name at least one field".to_owned());
        }
        for (list, part) in [(&spec.key, "key"), (&spec.cluster_by, "clusterBy")] {
            if let Some((_, name)) = list.iter().enumerate().find(|(i, name)| list[..*i].contains(name)) {
                note(format!("spec.record.{part}"), format!("`{name}` is there twice"));
            }
        }
        if let Some(name) = spec.cluster_by.iter().find(|name| !spec.key.contains(name)) {
            note(
                "spec.record.clusterBy".to_owned(),
                format!("`{name}` is not part of spec.record.key"),
            );
        }
        if !spec.key.is_empty() && spec.key.iter().all(|name| spec.cluster_by.contains(name)) {
            let problem = "names all of spec.record.key: at least one field must choose the partition".to_owned();
            note("spec.record.clusterBy".to_owned(), problem);
        }
        if let Some(name) = &spec.order_by {
            let fits = |field: &FieldSpec| {
                let numeric = matches!(field.field_type, FieldType::Timestamp | FieldType::Int | FieldType::Long);
                numeric && !field.optional && field.default.is_none()
            };
            if !find(name).is_some_and(fits) {
                let problem = format!("`{name}` must be a field of type timestamp, int or long that is neither optional nor has a default");
                note("spec.record.orderBy".to_owned(), problem);
            }
        }
        let delete_when = spec.delete_when.as_deref().map(Expression::compile).transpose();
        let delete_when = delete_when.unwrap_or_else(|problem| {
            note("spec.record.deleteWhen".to_owned(), problem);
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            key: spec.key.clone(),
            cluster_by: spec.cluster_by.clone(),
            order_by: spec.order_by.clone(),
            delete_when,
            fields,
        })
    }
}

fn field(spec: &FieldSpec) -> Result<Field, (&'static str, String)> {
    let from = match (&spec.from, &spec.template, &spec.expr) {
        (Some(pointer), None, None) => Origin::Pointer(pointer.clone()),
        (None, Some(template), None) => {
            template_problem(template).map_or(Ok(()), |problem| Err((".template", problem)))?;
            Origin::Template(template.clone())
        }
        (None, None, Some(text)) => Origin::Expression(Expression::compile(text).map_err(|problem| (".expr", problem))?),
        _ => return Err(("", "takes exactly one of from, template and expr".to_owned())),
    };
    if matches!(from, Origin::Template(_)) && spec.field_type != FieldType::String {
        return Err((".template", "makes text: the field's type must be string".to_owned()));
    }
    if spec.default.is_some() && spec.field_type == FieldType::Bytes {
        let problem = "a field of type bytes takes no default, which readers of Avro do not understand alike; make it optional";
        return Err((".default", problem.to_owned()));
    }
    if spec.optional && spec.default.is_some() {
        let problem = "a field is optional or has a default, not both: where nothing is given the default is taken";
        return Err((".default", problem.to_owned()));
    }
    let default = spec.default.as_ref().map(|json| convert(spec.field_type, json)).transpose();
    Ok(Field {
        name: spec.name.clone(),
        field_type: spec.field_type,
        from,
        optional: spec.optional,
        default: default.map_err(|problem| (".default", problem))?,
        doc: spec.doc.clone(),
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
            return Some(format!("`{{{pointer}}}` is no JSON pointer such as {{/name/first}}"));
        }
        pointers += 1;
        rest = after;
    }
    if rest.contains('}') {
        return Some("has a `}` without a `{`".to_owned());
    }
    (pointers == 0).then(|| "has no JSON pointer in braces, so that all records would have the same text".to_owned())
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
        json!({"key": ["device", "at"], "clusterBy": ["at"], "orderBy": "at", "deleteWhen": "has(item.gone)", "fields": [
            {"name": "device", "type": "string", "from": "/device"},
            {"name": "at", "type": "timestamp", "from": "/at"},
            {"name": "celsius", "type": "double", "expr": "(item.f - 32.0) / 1.8", "optional": true},
            {"name": "place", "type": "string", "template": "{/room}, {/house}", "default": "nowhere", "doc": "Where it is"},
            {"name": "signature", "type": "bytes", "from": "/signature", "optional": true},
        ]})
    }

    #[test]
    fn what_is_declared_becomes_a_schema() {
        let schema = read(good()).unwrap();
        assert_eq!((schema.name.as_str(), schema.namespace.as_str()), ("Record", "dev.userpipeline"));
        assert_eq!(schema.cluster_by, ["at"]);
        assert_eq!(schema.fields[3].default, Some(Value::String("nowhere".into())));
        assert_eq!(RecordSchema::of(None), Ok(RecordSchema::user()));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        for (pointer, bad, says) in [
            (
                "/key",
                json!(["device", "celsius"]),
                "spec.record.key: `celsius` must be neither optional",
            ),
            ("/key", json!(["device", "x"]), "spec.record.key: `x` is not among"),
            ("/key", json!(["at"]), "spec.record.clusterBy: names all"),
            ("/key", json!(["at", "device", "at"]), "spec.record.key: `at` is there twice"),
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
            ("/fields/2/from", json!("/x"), "spec.record.fields[2]: takes exactly one"),
            (
                "/fields/2/default",
                json!(1.5),
                "spec.record.fields[2].default: a field is optional or has a default",
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
                "spec.record.fields[3].template: `{room}` is no JSON pointer",
            ),
            ("/fields/3/template", json!("{/room"), "`{` without a `}`"),
            ("/fields/3/template", json!("/room}"), "`}` without a `{`"),
            ("/fields/3/template", json!("room"), "no JSON pointer"),
            ("/fields/3/type", json!("long"), "spec.record.fields[3].template: makes text"),
            (
                "/fields/3/name",
                json!("device"),
                "spec.record.fields[3].name: `device` is there twice",
            ),
        ] {
            let mut record = good();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            record.pointer_mut(parent).unwrap()[last] = bad;
            let problems = read(record).unwrap_err();
            assert!(problems.iter().any(|p| p.to_string().contains(says)), "{pointer}: {problems:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut record = good();
        record["orderBy"] = json!("x");
        record["fields"][2]["expr"] = json!("(");
        assert_eq!(read(record).unwrap_err().len(), 2);
    }
}
