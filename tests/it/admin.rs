//! The operator's `livedrop admin create`.

use crate::server::{Account, Server, livedrop, problem};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Output, Stdio};

/// Runs it beside a running server, with `input` on a pipe.
pub fn create_admin(server: &Server, args: &[&str], input: &str) -> Output {
    let mut command = livedrop();
    command.args(["admin", "create"]).args(args).arg("--data-dir").arg(&server.data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("livedrop runs");
    // The process may have ended without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its end")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn login(server: &Server, email: &str, password: &str) -> (reqwest::StatusCode, Value) {
    server.post("/auth/login", None, json!({"email": email, "password": password})).await
}

#[tokio::test]
async fn whoever_registered_an_operators_address_first_is_not_promoted() {
    let server = Server::start().await;
    let mallory = server.account("ops").await;
    let email = mallory.email.to_uppercase();
    let refused = create_admin(&server, &["--email", &email], "the operator's password\n");
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors(&refused).contains("--promote-existing"), "{}", errors(&refused));
    let (_, session) = login(&server, &mallory.email, "correct horse").await;
    assert_eq!(session["user"]["role"], "user");
    problem(login(&server, &mallory.email, "the operator's password").await, 401, "invalid_credentials");

    let made = create_admin(&server, &["--email", &email, "--promote-existing"], "the operator's password\n");
    assert_eq!(made.status.code(), Some(0), "{}", errors(&made));
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(said.contains("password was replaced") && said.contains("every login"), "{said}");
    problem(login(&server, &mallory.email, "correct horse").await, 401, "invalid_credentials");
    for token in [json!(mallory.refresh), session["refresh_token"].clone()] {
        let answer = server.post("/auth/refresh", None, json!({"refresh_token": token})).await;
        problem(answer, 401, "refresh_token_invalid");
    }
    let (_, session) = login(&server, &mallory.email, "the operator's password").await;
    assert_eq!(session["user"]["role"], "admin", "{session}");
    let root = Account { token: session["access_token"].as_str().expect("a token").to_owned(), ..mallory };
    let (_, trail) = server.get("/audit?limit=1", Some(&root)).await;
    assert_eq!(trail["items"][0]["act"], "admin_made");
    assert_eq!(trail["items"][0]["detail"], json!({"fields": ["role", "password"]}));
}

#[tokio::test]
async fn what_is_not_valid_is_one_line_and_exit_code_2() {
    let server = Server::start().await;
    for (args, input, said) in [
        (["--email", "root@example.com", "--display-name", "Root"], "short\n", "the password must have 8 to 256"),
        (["--email", "root@example.com", "--display-name", "Root"], "", "no password"),
        (["--email", "root.example.com", "--display-name", "Root"], "a long password\n", "--email must be an e-mail"),
        (["--email", "a\nb@example.com", "--display-name", "Root"], "a long password\n", "--email must not have"),
        (["--email", "root@example.com", "--display-name", "a\u{7}"], "a long password\n", "--display-name must not"),
    ] {
        let output = create_admin(&server, &args, input);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.starts_with(&format!("livedrop: {said}")) && errors.lines().count() == 1, "{errors}");
    }
    let login = login(&server, "root@example.com", "a long password").await;
    problem(login, 401, "invalid_credentials");
}

/// Types lines at a terminal, each after its prompt. Returns the rest of the terminal's output.
fn typed(server: &Server, email: &str, lines: [&str; 2]) -> (Output, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal of ours");
    unlockpt(&terminal).expect("an open terminal");
    let name = ptsname(&terminal, Vec::new()).expect("its name");
    let other_end = OpenOptions::new().read(true).write(true).open(name.to_str().expect("text")).expect("its end");
    let mut command = livedrop();
    command.args(["admin", "create", "--email", email, "--data-dir"]).arg(&server.data);
    command.stdin(other_end).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("livedrop runs");
    drop(command);
    let (mut keys, mut prompts) = (File::from(terminal), child.stderr.take().expect("a pipe"));
    for line in lines {
        // A prompt ends with a colon and a space.
        let (mut byte, mut before) = ([0], 0);
        while (before, byte[0]) != (b':', b' ') {
            before = byte[0];
            prompts.read_exact(&mut byte).expect("a prompt");
        }
        keys.write_all(format!("{line}\n").as_bytes()).expect("a line is typed");
    }
    let mut output = child.wait_with_output().expect("its end");
    prompts.read_to_end(&mut output.stderr).expect("the rest");
    // The other end is closed: reads return the output, then an error.
    let (mut shown, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = keys.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    (output, String::from_utf8_lossy(&shown).into_owned())
}

#[tokio::test]
async fn a_terminal_is_asked_twice_and_shows_nothing() {
    let server = Server::start().await;
    let (output, shown) = typed(&server, "root@example.com", ["a typed password", "a typed pasword"]);
    assert_eq!((output.status.code(), shown.trim()), (Some(2), ""));
    assert!(errors(&output).contains("differ"), "{}", errors(&output));
    let (output, shown) = typed(&server, "root@example.com", ["a typed password", "a typed password"]);
    assert_eq!((output.status.code(), shown.trim()), (Some(0), ""), "{}", errors(&output));
    let (_, session) = login(&server, "root@example.com", "a typed password").await;
    assert_eq!(session["user"]["role"], "admin", "{session}");
}
