//! Clients generated from the document by third-party tools: every operation is there, without a warning, and the
//! generated code compiles.

use crate::document;
use crate::server::Server;
use crate::tools::{node_tool, said, scratch, tool, written};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn names(document: &Value) -> BTreeSet<String> {
    let items = document["paths"].as_object().expect("paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("an item").values());
    operations.map(|operation| operation["operationId"].as_str().expect("a name").to_owned()).collect()
}

/// The modules of `api/<tag>/` in a client for Python, one per operation.
fn modules(client: &Path) -> BTreeSet<String> {
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.collect::<Vec<_>>()
    };
    let tags = list(&client.join("api")).into_iter().filter(|path| path.is_dir());
    let files = tags.flat_map(|tag| list(&tag)).filter(|file| file.extension().is_some_and(|kind| kind == "py"));
    let names = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    names.filter(|name| name != "__init__").collect()
}

/// Imports every module of the client, and buys something with it.
const BUY: &str = r#"
import importlib, pkgutil, sys
import client
from client.api.accounts import get_me
from client.api.orders import place_order
from client.models import NewOrder, Order, Problem

count = 0
for module in pkgutil.walk_packages(client.__path__, "client."):
    importlib.import_module(module.name)
    count += 1
base, token, drop = sys.argv[1:]
with client.AuthenticatedClient(base_url=base, token=token) as session:
    me = get_me.sync(client=session)
    order = NewOrder(drop_id=drop, quantity=1, payment_method="pm_sandbox_ok")
    assert set(order.to_dict()) == {"drop_id", "quantity", "payment_method"}, order.to_dict()
    bought = place_order.sync(client=session, body=order, idempotency_key="python")
    assert isinstance(bought, Order) and bought.status == "confirmed", bought
    refused = place_order.sync(client=session, body=NewOrder(drop_id=str(me.id), quantity=1), idempotency_key="unknown")
    assert isinstance(refused, Problem) and refused.code == "drop_not_found", refused
print(count)
"#;

#[tokio::test]
async fn a_client_for_python_is_whole_and_works() {
    let document = document();
    let client = scratch().join("python-client/client");
    let file = written("python-client.json", &document);
    let mut generate = tool("openapi-python-client");
    generate.args(["generate", "--meta", "none", "--overwrite", "--fail-on-warning", "--path"]).arg(&file);
    let output = generate.arg("--output-path").arg(&client).output().expect("openapi-python-client to run");
    let report = said(&output);
    assert!(output.status.success() && !report.to_lowercase().contains("warning"), "{report}");
    assert_eq!(modules(&client), names(&document));
    let output = tool("python").args(["-m", "compileall", "-q"]).arg(&client).output().expect("python to run");
    assert!(output.status.success(), "{}", said(&output));

    let server = Server::start().await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let buyer = server.account("buyer").await;
    let mut buy = tool("python");
    buy.current_dir(client.parent().expect("a folder")).args(["-c", BUY, &server.base, &buyer.token, &drop]);
    let output = buy.output().expect("python to run");
    assert!(output.status.success(), "{}", said(&output));
    let imported: usize = said(&output).trim().parse().unwrap_or_else(|_| panic!("{}", said(&output)));
    assert!(imported > names(&document).len(), "only {imported} modules");
}

/// Compiles only where the types are right: optional fields are optional, and the sandbox's values are accepted.
const USE: &str = r#"
import type { components, operations } from "./types";
type Schemas = components["schemas"];

const drop: Schemas["NewDrop"] = { product_id: "01890a5d-ac96-774b-bcce-b302099a8057", stock: 1 };
const unlimited: Schemas["NewDrop"] = { ...drop, per_buyer_limit: null, hold_seconds: 60 };
const methods: NonNullable<Schemas["NewOrder"]["payment_method"]>[] =
  ["pm_sandbox_ok", "pm_sandbox_slow", "pm_sandbox_declined", "pm_sandbox_timeout"];
type Refused = operations["place_order"]["responses"][409]["content"]["application/problem+json"];
const code = (problem: Refused): string => problem.code;
// @ts-expect-error There is no such operation.
type Unknown = operations["no_such_operation"];
// @ts-expect-error A product must be named.
const incomplete: Schemas["NewDrop"] = { stock: 1 };
export { unlimited, methods, code, incomplete };
"#;

#[test]
fn types_for_typescript_are_whole_and_compile() {
    let document = document();
    let folder = scratch().join("typescript");
    fs::create_dir_all(&folder).expect("a folder");
    let types = folder.join("types.ts");
    let file = written("typescript.json", &document);
    let output = node_tool("openapi-typescript").arg(&file).arg("--output").arg(&types).output().expect("it to run");
    let report = said(&output);
    assert!(output.status.success() && !report.to_lowercase().contains("warn"), "{report}");

    let mut all = USE.to_owned();
    names(&document).iter().for_each(|name| all += &format!("export type Use_{name} = operations[\"{name}\"];\n"));
    fs::write(folder.join("use.ts"), all).expect("a file");
    let mut compile = node_tool("tsc");
    compile.args(["--noEmit", "--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"]);
    let output = compile.arg(folder.join("use.ts")).arg(&types).output().expect("tsc to run");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_client_for_browsers_has_its_types() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/api/operations/browser");
    let made = scratch().join("browser");
    let mut compile = node_tool("tsc");
    compile.args([
        "--allowJs",
        "--checkJs",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "es2022",
        "--moduleResolution",
        "bundler",
    ]);
    compile.args(["--lib", "es2023,dom,dom.iterable", "--declaration", "--emitDeclarationOnly", "--outDir"]).arg(&made);
    let output = compile.arg(source.join("livedrop.js")).output().expect("tsc to run");
    assert!(output.status.success(), "{}", said(&output));
    let read = |file: std::path::PathBuf| fs::read_to_string(file).expect("a file");
    let (made, shipped) = (made.join("livedrop.d.ts"), source.join("livedrop.d.ts"));
    assert_eq!(read(made.clone()), read(shipped), "copy {} to src/http/api/operations/browser", made.display());
}
