//! Node, the packages that tests need for it, and our programs that run in it.

use crate::packages;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: [&str; 7] = [
    "ws@8.18.3",
    "eventsource@3.0.7",
    "@asyncapi/parser@3.6.3",
    "ajv@8.20.0",
    "ajv-formats@3.0.1",
    "playwright-core@1.65.1",
    "stripe@23.1.0",
];
/// Further files that our programs read.
const READ: [&str; 2] = ["docs/asyncapi.yaml", "src/http/api/operations/browser/livedrop.js"];

/// Runs a command.
///
/// # Panics
/// If it fails, with its output.
pub fn run(what: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}:\n{}", said());
}

/// A folder with Node's packages, and our programs beside them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
        let known = folder.join(PACKAGES.join("+").replace('/', "-"));
        if !known.exists() {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("package.json"), r#"{"type":"module"}"#).expect("a package");
            packages::need("node", "nodejs");
            packages::need("npm", "npm");
            let what = "this test needs node and npm, and a package registry (apt-get install nodejs npm)";
            let install = ["install", "--silent", "--no-audit", "--no-fund", "--save-exact"];
            run(what, Command::new("npm").args(install).args(PACKAGES).current_dir(&folder));
            std::fs::write(known, "").expect("a mark");
        }
        folder
    })
}

/// The path of one of our programs, copied beside its packages.
pub fn script(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = |path: &str| {
        let to = folder().join(path);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder below target");
        std::fs::copy(root.join(path), &to).expect("a file of the repository");
        to
    };
    READ.iter().for_each(|path| drop(copy(path)));
    copy(&format!("tests/clients/{name}"))
}
