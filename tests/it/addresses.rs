//! Addresses over HTTP, and their keys beside a running server.

use crate::server::{Account, Server, Setup, livedrop, problem};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const KEYS: &str = "encryption.keys";

fn home(street: &str) -> Value {
    json!({"name": "Ada Lovelace", "line1": street, "city": "Köln", "postal_code": "50667", "country": "DE"})
}

/// Without what is another one at each reading.
fn lasting(mut address: Value) -> Value {
    for name in ["reference", "reference_expires_at"] {
        assert!(address.as_object_mut().expect("an address").remove(name).is_some(), "{name}");
    }
    address
}

async fn add(server: &Server, who: &Account, body: Value) -> Value {
    let (status, address) = server.post("/users/me/addresses", Some(who), body).await;
    assert_eq!(status, 201, "{address}");
    lasting(address)
}

async fn listed(server: &Server, who: &Account) -> Vec<Value> {
    let (status, all) = server.get("/users/me/addresses", Some(who)).await;
    assert_eq!(status, 200, "{all}");
    all["items"].as_array().expect("a list").iter().cloned().map(lasting).collect()
}

fn keys(server: &Server, command: &str) -> (Option<i32>, String) {
    let output = livedrop().args(["keys", command, "--data-dir"]).arg(&server.data).output().expect("livedrop runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), told)
}

fn contain(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).expect("a directory").flatten().any(|entry| match entry.path() {
        path if path.is_dir() => contain(&path, text),
        path => fs::read(&path).expect("a file").windows(text.len()).any(|part| part == text.as_bytes()),
    })
}

#[tokio::test]
async fn addresses_come_and_go() {
    let server = Server::set_up(Setup { quiet: true, ..Setup::default() });
    let ann = server.account("ann").await;
    assert!(listed(&server, &ann).await.is_empty());
    let first = add(&server, &ann, home("Hauptstraße 1")).await;
    let (status, again) = server.post("/users/me/addresses", Some(&ann), home(" Hauptstraße 1 ")).await;
    assert_eq!((status.as_u16(), lasting(again)), (200, first.clone()), "the very same one");
    let second = add(&server, &ann, home("Ring 2")).await;
    assert_eq!(listed(&server, &ann).await, [first.clone(), second.clone()]);

    let path = format!("/users/me/addresses/{}", first["id"].as_str().expect("an id"));
    assert_eq!(lasting(server.get(&path, Some(&ann)).await.1), first);
    let change = async |body: Value| server.call(Method::PATCH, &path, Some(&ann), Some(body)).await;
    let (status, changed) = change(json!({"line2": "3. Stock", "phone": "+49 221 5550100"})).await;
    assert_eq!((status.as_u16(), &changed["line2"], &changed["id"]), (200, &json!("3. Stock"), &first["id"]));
    assert_ne!(changed["version"], first["version"]);
    let refused = problem(change(json!({"country": "US"})).await, 409, "conflicting_fields");
    assert_eq!(refused["errors"], json!([{"pointer": "/region", "detail": "is required for US"}]));
    problem(change(json!({"country": "ZZ"})).await, 400, "validation_failed");
    assert_eq!(lasting(server.get(&path, Some(&ann)).await.1), lasting(changed));

    let (status, _) = server.call(Method::DELETE, &path, Some(&ann), None).await;
    assert_eq!(status, 204);
    problem(server.get(&path, Some(&ann)).await, 404, "address_not_found");
    assert_eq!(listed(&server, &ann).await, [second]);
    for text in ["Lovelace", "Hauptstra", "Köln", "5550100"] {
        assert!(!contain(&server.data, text) && !server.log().contains(text), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_beside_a_running_server_and_pruned_beside_a_stopped_one() {
    let mut server = Server::start().await;
    let ann = server.account("ann").await;
    add(&server, &ann, home("Hauptstraße 1")).await;
    let before = fs::read_to_string(server.data.join(KEYS)).expect("keys");
    let (code, told) = keys(&server, "rotate");
    assert_eq!((code, told.contains(": 1 rows")), (Some(0), true), "{told}");
    add(&server, &ann, home("Ring 2")).await;
    let (code, told) = keys(&server, "list");
    let lines: Vec<&str> = told.lines().collect();
    assert!(code == Some(0) && lines.len() == 2, "{told}");
    assert!(lines[0].ends_with("earlier  0 rows") && lines[1].ends_with("in use  2 rows"), "{told}");
    let mode = fs::metadata(server.data.join(KEYS)).expect("keys").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, told) = keys(&server, "prune");
    assert!(code == Some(1) && told.contains("a server runs"), "{told}");

    // The backup has both keys.
    let backup = server.data.with_file_name("backup");
    let taken = livedrop().args(["backup", "--data-dir"]).arg(&server.data).arg("--to").arg(&backup).output();
    let taken = taken.expect("livedrop runs");
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(fs::read(backup.join(KEYS)).expect("a copy"), fs::read(server.data.join(KEYS)).expect("keys"));

    assert_eq!(server.terminate(), Some(0));
    let (code, told) = keys(&server, "prune");
    assert!(code == Some(0) && told.starts_with("removed 1 keys"), "{told}");
    server.restart();
    assert_eq!(listed(&server, &ann).await.len(), 2);

    let restored = server.data.with_file_name("restored");
    let made = livedrop().args(["restore", "--from"]).arg(&backup).arg("--data-dir").arg(&restored).output();
    assert!(made.expect("livedrop runs").status.success());
    let elsewhere = Server::set_up(Setup { data: Some(restored), ..Setup::default() });
    assert_eq!(listed(&elsewhere, &ann).await.len(), 2);
    assert!(!before.is_empty());
}

#[tokio::test]
async fn a_lost_key_file_is_told_in_one_line_and_can_be_put_back() {
    let extra = ["--log", "info"].map(str::to_owned).to_vec();
    let mut server = Server::set_up(Setup { quiet: true, extra, ..Setup::default() });
    let ann = server.account("ann").await;
    let address = add(&server, &ann, home("Hauptstraße 1")).await;
    let file = server.data.join(KEYS);
    let before = fs::read_to_string(&file).expect("keys");
    assert_eq!(server.terminate(), Some(0));
    fs::remove_file(&file).expect("keys");
    server.restart();
    let log = server.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("keys of encrypted data")).collect();
    assert!(told.len() == 1 && told[0].contains("cannot be read") && told[0].contains(KEYS), "{log}");
    let unreadable = problem(server.get("/users/me/addresses", Some(&ann)).await, 500, "address_unreadable");
    let id = address["id"].as_str().expect("an id");
    assert!(unreadable["detail"].as_str().is_some_and(|detail| detail.contains(id)), "{unreadable}");
    let (code, told) = keys(&server, "rotate");
    assert!(code == Some(1) && told.contains("is not in the key file"), "{told}");
    let after = fs::read_to_string(&file).expect("keys");
    fs::write(&file, before + &after).expect("keys");
    assert_eq!(listed(&server, &ann).await, [address]);
}
