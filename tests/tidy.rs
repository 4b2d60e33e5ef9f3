//! Rules of style as checks, so that no reviewer has to repeat them.

#[path = "support/imports.rs"]
mod imports;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, from the inside out. Each may import those before it (docs/ARCHITECTURE.md); a file outside of all
/// layers (`failpoint`, `suggest`, `console`, `whole_file`) imports none of them.
const LAYERS: &[&str] = &[
    "domain", "engine", "journal", "storage", "payments", "actors", "service", "http", "config", "backup", "app",
    "tools",
];

/// Earlier layers that a layer must not import all the same.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("journal", &["engine"]),
    ("storage", &["engine", "journal"]),
    ("payments", &["engine", "journal", "storage"]),
    ("http", &["engine", "journal", "config"]),
];

/// Crates that may be named in one folder only.
const CONFINED: &[(&str, &[&str])] = &[
    ("actix_web_actors", &["src/http/realtime/"]),
    ("actix_web", &["src/http/", "src/app"]),
    ("sqlx::", &["src/storage/"]),
    ("rustls::", &["src/http/transport/"]),
    ("h2::", &["src/http/transport/http2"]),
];

/// Clocks and randomness that the pure layers must not touch.
const IMPURE: &[&str] = &["SystemTime", "Instant::now", "rand::", "std::fs", "std::net", "tokio::", "async fn"];

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a readable source folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source file");
            files.push((path, text));
        }
    }
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Lines of code with their numbers, without comments, which may name anything.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn no_layer_imports_a_higher_one() {
    let mut found = Vec::new();
    for (level, layer) in LAYERS.iter().enumerate() {
        let named = FORBIDDEN.iter().find(|(name, _)| name == layer).map_or(&[][..], |(_, forbidden)| forbidden);
        let forbidden: Vec<&str> = LAYERS[level + 1..].iter().chain(named).copied().collect();
        let mut files = sources(&root().join("src").join(layer));
        files.extend(
            fs::read_to_string(root().join("src").join(layer).with_extension("rs"))
                .map(|text| (PathBuf::from(layer), text))
                .ok(),
        );
        assert!(!files.is_empty(), "src/{layer} is empty: was it moved?");
        for (path, text) in files {
            for (number, line) in code(&text) {
                for name in &forbidden {
                    let direct =
                        line.contains(&format!("crate::{name}::")) || line.contains(&format!("crate::{name};"));
                    if direct || (line.contains("use crate::{") && line.contains(&format!("{name}::"))) {
                        found.push(format!("{}:{number}: {layer} names {name}: {}", path.display(), line.trim()));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_file_is_in_a_layer_or_beside_all() {
    const BESIDE: [&str; 6] = ["lib", "main", "failpoint", "suggest", "console", "whole_file"];
    for entry in fs::read_dir(root().join("src")).expect("a readable source folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(LAYERS.contains(&&*name) || BESIDE.contains(&&*name), "{}: which layer is it in?", path.display());
    }
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let cycles = imports::cycles(&root().join("src"));
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn confined_crates_stay_in_their_place() {
    let mut found = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        let place = path.strip_prefix(root()).expect("below the root").display().to_string();
        for (name, allowed) in CONFINED {
            if allowed.iter().any(|prefix| place.starts_with(prefix)) {
                continue;
            }
            for (number, line) in code(&text).filter(|(_, line)| line.contains(name)) {
                found.push(format!("{place}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_engine_and_the_domain_are_pure() {
    let mut found = Vec::new();
    for layer in ["engine", "domain"] {
        for (path, text) in sources(&root().join("src").join(layer)) {
            for (number, line) in code(&text) {
                for name in IMPURE.iter().filter(|name| line.contains(**name)) {
                    found.push(format!("{}:{number}: {name} in {layer}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_hold_one_idea() {
    let long: Vec<String> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|dir| sources(&root().join(dir)))
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > 600).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn each_migration_has_a_number_of_its_own() {
    for database in ["sqlite", "postgres"] {
        let folder = root().join("migrations").join(database);
        let mut numbers: Vec<String> = fs::read_dir(folder)
            .expect("a readable folder")
            .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy()[..4].to_owned())
            .collect();
        numbers.sort();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "{database}: {numbers:?}");
    }
}
