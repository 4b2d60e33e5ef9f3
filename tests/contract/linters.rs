//! The findings of linters in the document, with their recommended rules.

use crate::document;
use crate::tools::{node_tool, said, written};
use serde_json::{Value, json};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract");

/// Redocly's findings: rules and locations.
fn redocly(name: &str, document: &Value) -> Vec<String> {
    let mut lint = node_tool("redocly");
    lint.args(["lint", "--format", "json", "--max-problems", "1000", "--config", &format!("{RULES}/redocly.yaml")]);
    let output = lint.arg(written(name, document)).output().expect("redocly to run");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let problems = report["problems"].as_array().expect("a list of problems").iter();
    problems
        .map(|problem| format!("{} {} {}", problem["ruleId"], problem["location"][0]["pointer"], problem["message"]))
        .collect()
}

/// Spectral's findings, in the form of [`redocly`]'s.
fn spectral(name: &str, document: &Value) -> Vec<String> {
    let mut lint = node_tool("spectral");
    lint.args([
        "lint",
        "--quiet",
        "--format",
        "json",
        "--fail-severity",
        "hint",
        "--ruleset",
        &format!("{RULES}/spectral.yaml"),
    ]);
    let output = lint.arg(written(name, document)).output().expect("spectral to run");
    // Without a finding it prints something else than JSON.
    if output.status.success() {
        return Vec::new();
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let problems = report.as_array().expect("a list of problems").iter();
    problems.map(|problem| format!("{} {} {}", problem["code"], problem["path"], problem["message"])).collect()
}

#[test]
fn linters_find_nothing() {
    let none: [String; 0] = [];
    assert_eq!(redocly("redocly.json", &document()), none);
    assert_eq!(spectral("spectral.json", &document()), none);
}

#[test]
fn linters_find_what_is_wrong() {
    let mut wrong = document();
    let operation = &mut wrong["paths"]["/api/v1/auth/login"]["post"];
    operation.as_object_mut().expect("an operation").retain(|field, _| field != "security" && field != "description");
    let order = &mut wrong["components"]["schemas"]["NewOrder"];
    order["examples"] = json!([{"drop_id": "01890a5d-ac96-774b-bcce-b302099a8058", "quantity": "many"}]);
    let (one, other) = (redocly("redocly-wrong.json", &wrong), spectral("spectral-wrong.json", &wrong));
    assert!(one.iter().any(|found| found.contains("security-defined") && found.contains("login")), "{one:?}");
    assert!(one.iter().any(|found| found.contains("schema-examples") && found.contains("NewOrder")), "{one:?}");
    assert!(other.iter().any(|found| found.contains("operation-description") && found.contains("login")), "{other:?}");
}
