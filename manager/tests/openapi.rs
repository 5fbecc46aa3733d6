//! The committed description of the API is the one that the code gives. After a change that is meant:
//! `UPDATE_OPENAPI=1 cargo test -p kennel-manager --test openapi`, and look at the difference.

use std::path::Path;

#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let now = manager::api::openapi_json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(now.lines()).position(|(a, b)| a != b);
    assert!(
        committed == now,
        "manager/openapi.json is not what the code gives, from line {} on; UPDATE_OPENAPI=1 rewrites it",
        differs.unwrap_or(committed.lines().count().min(now.lines().count())) + 1
    );
}

#[test]
fn the_description_is_openapi_3_1_and_whole() {
    let api: serde_json::Value = serde_json::from_str(&manager::api::openapi_json()).unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut references = Vec::new();
    collect(&api, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            let codes = operation["responses"].as_object().unwrap();
            // 101: the connection is a WebSocket's from then on.
            let succeeds = |code: &String| code.starts_with('2') || code == "101";
            assert!(codes.keys().any(succeeds), "{what} never succeeds");
            assert!(codes.contains_key("400") && codes.contains_key("403"), "{what} documents no errors");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(
                    parameter["description"].is_string(),
                    "{what}: {} has no description",
                    parameter["name"]
                );
            }
            // Only what reads a body can find it too large.
            let reads = codes
                .get("413")
                .is_some_and(|entry| entry["description"].to_string().contains("body_too_large"));
            assert_eq!(reads, operation["requestBody"].is_object(), "{what}: is its body documented?");
            let in_path = path.matches('{').count();
            let declared = operation["parameters"].as_array().into_iter().flatten();
            assert_eq!(declared.filter(|p| p["in"] == "path").count(), in_path, "{what}");
        }
    }
}

fn collect(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(text) if name == "$ref" => out.push(text.to_owned()),
                    _ => collect(field, out),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        _ => {}
    }
}
