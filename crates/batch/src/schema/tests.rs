use super::*;
use proptest::prelude::*;

fn refused(schema: Value) -> (String, String) {
    let refusal = prepare(&schema).expect_err(&schema.to_string());
    (refusal.path, refusal.reason)
}

#[test]
fn every_keyword_that_is_not_kept_is_refused_with_its_place() {
    for (keyword, value) in [
        ("not", json!({})),
        ("if", json!({})),
        ("then", json!({})),
        ("else", json!({})),
        ("dependencies", json!({})),
        ("dependentRequired", json!({})),
        ("dependentSchemas", json!({})),
        ("propertyNames", json!({})),
        ("contains", json!({})),
        ("minContains", json!(1)),
        ("maxContains", json!(1)),
        ("uniqueItems", json!(true)),
        ("unevaluatedItems", json!(false)),
        ("unevaluatedProperties", json!(false)),
        ("additionalItems", json!(false)),
        ("$anchor", json!("a")),
        ("$dynamicRef", json!("#a")),
        ("$dynamicAnchor", json!("a")),
        ("$recursiveRef", json!("#")),
        ("nullable", json!(true)),
        ("minimumm", json!(3)),
        ("format", json!("regex")),
        ("format", json!("unknown")),
        ("type", json!("text")),
        ("type", json!([])),
        ("type", json!(["string", 1])),
        ("exclusiveMinimum", json!(true)),
        ("maximum", json!("3")),
        ("maximum", json!(1e300)),
        ("multipleOf", json!(0)),
        ("minLength", json!(-1)),
        ("minLength", json!(1.5)),
        ("minItems", json!(200_000)),
        ("minProperties", json!(2)),
        ("required", json!("a")),
        ("required", json!([1])),
        ("properties", json!([])),
        ("pattern", json!(1)),
        ("enum", json!([])),
        ("enum", json!("a")),
        ("const", json!(9_007_199_254_740_993_u64)),
        ("anyOf", json!([])),
        ("oneOf", json!({})),
        ("allOf", json!(true)),
        ("prefixItems", json!([])),
        ("items", json!("string")),
        ("$ref", json!("https://example.com/a.json")),
        ("$ref", json!("other.json#/a")),
        ("$ref", json!("#name")),
        ("$ref", json!("#/$defs/missing")),
        ("$ref", json!(3)),
    ] {
        let inner = Value::Object([(keyword.to_owned(), value)].into_iter().collect());
        let (path, reason) = refused(json!({ "properties": { "a/b": { "items": inner } } }));
        // Of lists and constants, the very item is named.
        assert!(path.starts_with(&format!("#/properties/a~1b/items/{keyword}")), "{path}: {reason}");
        assert!(!reason.is_empty());
    }
    assert_eq!(refused(json!(false)).0, "#");
    assert_eq!(refused(json!([])).0, "#");
    assert_eq!(refused(json!({ "anyOf": [true, 3] })).0, "#/anyOf/1");
    assert_eq!(refused(json!({ "$defs": { "a": { "not": {} } }, "$ref": "#/$defs/a" })).0, "#/$defs/a/not");
}

#[test]
fn what_forbids_nothing_is_left_out_and_all_else_is_kept() {
    let kept = json!({
        "type": "object",
        "properties": { "a": { "type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2 },
                        "b": { "enum": ["x", 1, null, [1], { "y": 0.5 }] } },
        "patternProperties": { "^x": { "type": "string", "minLength": 1, "maxLength": 5, "pattern": "a+" } },
        "additionalProperties": { "anyOf": [{ "format": "date" }, { "const": true }] },
        "required": ["a"],
        "minProperties": 2,
        "maxProperties": 5,
        "allOf": [{ "type": "object" }],
        "oneOf": [{ "prefixItems": [true], "items": false, "minItems": 1, "maxItems": 2 }]
    });
    assert_eq!(prepare(&kept).unwrap().schema, kept);
    let noted = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/a", "title": "t",
        "description": "d", "default": 1, "examples": [1], "deprecated": true, "readOnly": true, "$comment": "c",
        "x-guidance": { "lenient": true }, "uniqueItems": false, "maxLength": 2_147_483_647_u64,
        "$defs": { "unused": { "not": {} } }, "type": "string"
    });
    assert_eq!(prepare(&noted).unwrap().schema, json!({ "type": "string" }));
    assert_eq!(prepare(&json!(true)).unwrap().schema, json!({}));
    // A property may have the name of a keyword.
    let named = json!({ "properties": { "not": { "type": "null" }, "$ref": true, "x-a": true } });
    assert_eq!(prepare(&named).unwrap().schema, named);
}

#[test]
fn tuples_of_earlier_dialects_are_understood() {
    let early = json!({ "items": [{ "type": "string" }], "additionalItems": false });
    let now = json!({ "prefixItems": [{ "type": "string" }], "items": false });
    assert_eq!(prepare(&early).unwrap().schema, now);
}

#[test]
fn references_are_found_wherever_they_point_and_named_anew() {
    let schema = json!({
        "definitions": { "a b": { "type": "string" }, "c/d": { "items": { "$ref": "#/definitions/a%20b" } } },
        "properties": { "x": { "$ref": "#/definitions/c~1d" }, "y": { "$ref": "#/properties/x" },
                        "z": { "items": { "$ref": "#" } } }
    });
    let made = prepare(&schema).unwrap().schema;
    let named = |place: &str| made.pointer(place).and_then(Value::as_str).unwrap().trim_start_matches('#').to_owned();
    let of_x = named("/properties/x/$ref");
    assert_eq!(made.pointer(&format!("{}/$ref", named("/properties/y/$ref"))).unwrap(), &json!(format!("#{of_x}")));
    let inner = named(&format!("{of_x}/items/$ref"));
    assert_eq!(made.pointer(&inner).unwrap(), &json!({ "type": "string" }));
    assert_eq!(made.pointer("/properties/z/items/$ref").unwrap(), "#");
}

#[test]
fn circles_with_nothing_in_between_are_refused() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "anyOf": [{ "type": "null" }, { "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" } } }),
    ] {
        assert!(refused(schema).1.contains("itself"));
    }
    let tree = json!({ "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#/properties/left" } } });
    assert!(prepare(&tree).is_ok());
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = (0..80).fold(json!(true), |inner, _| json!({ "items": inner }));
    assert!(refused(deep).1.contains("64 schemas deep"));
    let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
    assert!(refused(json!({ "const": deep })).1.contains("64 values deep"));
    let wide: Vec<Value> = (0..=SCHEMAS_MAX).map(|_| json!(true)).collect();
    assert!(refused(json!({ "anyOf": wide })).1.contains("20000 schemas"));
}

/// Definitions that each refer to the one behind it, in the way that `link` makes.
fn chain(count: usize, last: &Value, link: impl Fn(Value) -> Value) -> Value {
    let next = |n: usize| link(json!({ "$ref": format!("#/$defs/d{}", n + 1) }));
    let mut defs: Map<String, Value> = (0..count).map(|n| (format!("d{n}"), next(n))).collect();
    defs.insert(format!("d{count}"), last.clone());
    json!({ "$ref": "#/$defs/d0", "$defs": defs })
}

#[test]
fn depth_is_bounded_over_references() {
    let last = json!({ "type": "null" });
    for link in [
        |next| json!({ "items": next }),
        |next| json!({ "properties": { "a": next } }),
        |next| json!({ "anyOf": [true, next] }),
        |next| json!({ "prefixItems": [next, { "$ref": "#/$defs/d0" }] }),
    ] {
        let (path, reason) = refused(chain(4000, &last, link));
        assert!(path.starts_with('#') && reason.contains("512 schemas deep"), "{path}: {reason}");
        assert!(prepare(&chain(200, &last, link)).is_ok());
    }
    assert!(refused(chain(4000, &last, |next| next)).1.contains("512 schemas deep"));
    // 64 deep in each of a few: as deep as many that hold little.
    let deep = |next| (0..60).fold(next, |inner, _| json!({ "items": inner }));
    assert!(prepare(&chain(6, &last, deep)).is_ok());
    assert!(refused(chain(10, &last, deep)).1.contains("512 schemas deep"));
}

#[test]
fn wide_and_recursive_schemas_are_not_deep() {
    // Each of a thousand refers to one that refers to itself, and to a common one.
    let leaf = json!({ "items": { "$ref": "#/$defs/tree" } });
    let mut defs: Map<String, Value> = (0..1000).map(|n| (format!("d{n}"), leaf.clone())).collect();
    defs.insert("tree".into(), json!({ "items": { "anyOf": [{ "$ref": "#/$defs/tree" }, { "$ref": "#" }] } }));
    let all: Map<String, Value> =
        defs.keys().map(|name| (name.clone(), json!({ "$ref": format!("#/$defs/{name}") }))).collect();
    // The whole is one of a circle, and as each of the thousand refers to it through the tree, so are they.
    let circle = json!({ "properties": all, "$defs": defs });
    assert!(refused(circle.clone()).1.contains("512 schemas deep"));
    let mut wide = circle;
    wide["$defs"]["tree"] = json!({ "items": { "$ref": "#/$defs/tree" } });
    assert!(prepare(&wide).is_ok());
    // Paths that part and meet again at each of many places: more of them than could be walked.
    let last = json!(true);
    assert!(prepare(&chain(200, &last, |next| json!({ "properties": { "a": next, "b": next } }))).is_ok());
}

#[test]
fn patterns_of_one_object_are_bounded_wherever_they_come_from() {
    let patterns = |from: usize, count: usize| -> Value {
        let all: Map<String, Value> = (from..from + count).map(|n| (format!("^k{n}$"), json!(true))).collect();
        json!({ "type": "object", "patternProperties": all })
    };
    assert!(prepare(&patterns(0, PATTERNS_MAX)).is_ok());
    let (path, reason) = refused(json!({ "items": patterns(0, 3000) }));
    assert_eq!(path, "#/items/patternProperties");
    assert!(reason.contains("3000 patterns; at most 32"), "{reason}");
    let together = |second: usize| json!({ "allOf": [patterns(0, 20), patterns(second, 20)] });
    assert!(prepare(&together(5)).is_ok(), "the same pattern counts once");
    assert_eq!(refused(json!({ "properties": { "a": together(20) } })).0, "#/properties/a");
    let referred = json!({
        "$defs": { "a": patterns(0, 20), "b": { "anyOf": [{ "$ref": "#/$defs/a" }, patterns(20, 20)] } },
        "items": { "$ref": "#/$defs/b" }
    });
    assert_eq!(refused(referred).0, "#/$defs/b");
    // In different objects they never meet.
    let apart: Map<String, Value> = (0..20).map(|n| (format!("p{n}"), patterns(32 * n, 32))).collect();
    assert!(prepare(&json!({ "properties": apart })).is_ok());
}

proptest! {
    /// Whatever is sent: an answer, and no keyword in it that isn't kept.
    #[test]
    fn nothing_passes_that_is_not_kept(schema in any_json()) {
        if let Ok(made) = prepare(&schema) {
            let twice = prepare(&made.schema);
            prop_assert!(twice.is_ok(), "{twice:?}");
            prop_assert!(!has_title(&made.schema), "{}", made.schema);
        }
    }
}

/// As a keyword: properties may have that name, and values that are asked for may hold it.
fn has_title(schema: &Value) -> bool {
    match schema {
        Value::Object(all) => all.iter().any(|(key, value)| match key.as_str() {
            "title" => true,
            "const" | "enum" => false,
            "properties" | "patternProperties" | "$defs" => {
                value.as_object().is_some_and(|named| named.values().any(has_title))
            }
            _ => has_title(value),
        }),
        Value::Array(all) => all.iter().any(has_title),
        _ => false,
    }
}

#[test]
fn a_title_is_found_where_it_is_a_keyword() {
    assert!(has_title(&json!({ "items": { "anyOf": [{ "title": "x" }] } })));
    assert!(has_title(&json!({ "properties": { "title": { "title": "x" } } })));
    assert!(!has_title(&json!({ "properties": { "title": {} }, "const": { "title": 1 }, "enum": [{ "title": 1 }] })));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3_i64..12).prop_map(Value::from),
        prop::sample::select(vec!["string", "date", "#", "#/properties/a", "a+"]).prop_map(Value::from),
    ];
    let keyword = prop::sample::select(vec![
        "type",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "items",
        "properties",
        "a",
        "required",
        "minLength",
        "maxItems",
        "not",
        "title",
        "$ref",
        "format",
        "additionalProperties",
        "minimum",
        "pattern",
        "x-a",
        "uniqueItems",
    ]);
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keyword.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}
