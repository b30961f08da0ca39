//! Pagination: which fields belong to which type.

use serde_json::{Value, json};

use crate::{refusal, with};

fn of(pagination: Value) -> Option<String> {
    refusal(with("spec.source.http.pagination", pagination))
}

#[test]
fn every_style_of_an_api_can_be_declared() {
    for pagination in [
        Value::Null,
        json!({}),
        json!({"type": "Single"}),
        json!({"type": "Repeat"}),
        json!({"type": "Page", "parameter": "page", "start": 0}),
        json!({"type": "Page", "header": "X-Page", "pageSize": 100}),
        json!({"type": "Page", "parameter": "page", "endWhen": "page >= answer.total_pages", "endOnStatus": [400, 404]}),
        json!({"type": "Offset", "parameter": "offset", "step": 100, "totalFrom": "/meta/total"}),
        json!({"type": "Offset", "parameter": "offset", "totalFromHeader": "X-Total-Count", "emptyPage": "Continue"}),
        json!({"type": "Cursor", "parameter": "after", "cursorFrom": "/next", "emptyPage": "End"}),
        json!({"type": "Cursor", "parameter": "after", "cursorFromHeader": "X-Next"}),
        json!({"type": "Cursor", "parameter": "starting_after", "cursorFromLastItem": "/id", "endWhen": "!answer.has_more"}),
        json!({"type": "Link", "endOnStatus": [204]}),
        json!({"type": "NextUrl", "nextUrlFrom": "/@odata.nextLink"}),
    ] {
        assert_eq!(of(pagination.clone()), None, "{pagination}");
    }
    let mut http = with("spec.source.http.method", json!("POST"));
    http["spec"]["source"]["http"]["body"] = json!("{}");
    for place in ["bodyPointer", "formField"] {
        let mut resource = http.clone();
        resource["spec"]["source"]["http"]["pagination"] = json!({"type": "Page", place: "/page"});
        assert_eq!(refusal(resource), None, "{place}");
    }
}

#[test]
fn a_field_that_has_no_effect_is_refused() {
    for (pagination, says) in [
        (json!({"type": "Page"}), "pagination.parameter is required"),
        (
            json!({"type": "Page", "parameter": "p", "header": "X-P"}),
            "pagination.parameter is required",
        ),
        (json!({"type": "Link", "parameter": "p"}), "not allowed with others"),
        (json!({"type": "Cursor", "parameter": "p"}), "pagination.cursorFrom is required"),
        (
            json!({"type": "Cursor", "parameter": "p", "cursorFrom": "/a", "cursorFromHeader": "A"}),
            "pagination.cursorFrom is required",
        ),
        (
            json!({"type": "Page", "parameter": "p", "cursorFrom": "/a"}),
            "pagination.cursorFrom is required",
        ),
        (json!({"type": "NextUrl"}), "pagination.nextUrlFrom is required"),
        (
            json!({"type": "Link", "nextUrlFrom": "/next"}),
            "pagination.nextUrlFrom is required",
        ),
        (json!({"type": "Link", "start": 1}), "pagination.start is allowed only"),
        (
            json!({"type": "Page", "parameter": "p", "step": 1}),
            "pagination.step is allowed only",
        ),
    ] {
        assert_refused(&pagination, says);
    }
}

#[test]
fn an_end_that_cannot_be_reached_is_refused() {
    for (pagination, says) in [
        (json!({"type": "Single", "endWhen": "true"}), "need a type with pages"),
        (json!({"type": "Repeat", "pageSize": 5}), "need a type with pages"),
        (json!({"pageSize": 5}), "need a type with pages"),
        (
            json!({"type": "Link", "totalFrom": "/a", "totalFromHeader": "A"}),
            "must not have both",
        ),
        (
            json!({"type": "Link", "pageSize": 5, "endWhen": "true"}),
            "pageSize excludes endWhen",
        ),
        (
            json!({"type": "Page", "parameter": "p", "emptyPage": "Continue"}),
            "needs a declared end",
        ),
        (
            json!({"type": "Page", "parameter": "p", "pageSize": 5, "emptyPage": "Continue"}),
            "needs a declared end",
        ),
        (
            json!({"type": "Page", "parameter": "p", "endOnStatus": [429]}),
            "which do not mean an end",
        ),
        (
            json!({"type": "Page", "parameter": "p", "endOnStatus": [301]}),
            "which do not mean an end",
        ),
        (
            json!({"type": "Page", "bodyPointer": "/p"}),
            "bodyPointer and formField need a body",
        ),
        (json!({"type": "NextUrl", "nextUrlFrom": "next"}), "must be a JSON pointer"),
    ] {
        assert_refused(&pagination, says);
    }
}

fn assert_refused(pagination: &Value, says: &str) {
    let errors = of(pagination.clone()).unwrap_or_else(|| panic!("{pagination} is accepted"));
    assert!(errors.contains(says), "expected `{says}`, got: {errors}");
}
