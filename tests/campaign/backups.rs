//! Backups of a server under full load, each restored elsewhere and compared with the crowd's answers.

use crate::crowd::{Crowd, Sale};
use crate::kills::{CLIENTS, crowded};
use crate::progress::counted;
use crate::server::{Server, Setup, livedrop};
use crate::{Outcome, Row, Scale};
use futures_util::future::join_all;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// More than the crowd orders: every request becomes an order, and every order a record.
const STOCK: u64 = 100_000;
/// Drops of 30 KB in each of the first rounds, so that segments are filled and deleted while backups run.
const BALLAST: usize = 60;
/// The number of those rounds: later ones would only have more to copy.
const FILLED: u64 = 10;
/// How many of the drops are scheduled concurrently.
const FILLING: usize = 4;

const FIRST_SEGMENT: &str = "00000000000000000001.seg";

pub fn rows() -> Vec<Row> {
    vec![Row::new("backups under 64 clients, each restored elsewhere", |scale: Scale| backed_up(scale.of(10, 50)))]
}

async fn backed_up(backups: u64) -> Outcome {
    let (mut server, mut crowd) = crowded(None).await;
    let mut sales: Vec<Sale> = Vec::new();
    let (mut known, mut longest) = (0, Duration::ZERO);
    for n in counted(backups) {
        let place = TempDir::new().expect("a folder");
        let (backup, restored) = (place.path().join("backup"), place.path().join("restored"));
        let mut sale = crowd.open(&server, STOCK).await;
        let stop = AtomicBool::new(false);
        let during = async {
            tokio::time::sleep(Duration::from_millis(100 + (n * 137) % 300)).await;
            let began = Instant::now();
            take(server.data.clone(), backup.clone()).await;
            longest = longest.max(began.elapsed());
            stop.store(true, Ordering::Relaxed);
            began
        };
        let ((), began, ()) =
            tokio::join!(sale.rush(&crowd, &server, &stop), during, fill(&crowd, &server, n < FILLED));
        sales.push(sale);
        run("restore", &[("--from", backup.as_path()), ("--data-dir", restored.as_path())]);
        run("verify", &[("--data-dir", restored.as_path())]);
        let copy = Server::set_up(Setup { data: Some(restored), quiet: true, ..Setup::default() });
        // In the last backup all sales, in the others the newest.
        let first = if n + 1 == backups { 0 } else { sales.len() - 1 };
        for sale in &sales[first..] {
            known += sale.known_to_copy(&crowd, &copy, began).await;
        }
        drop(copy);
        crowd.renew(&server).await;
    }
    assert_eq!(server.terminate(), Some(0));
    assert!(known > backups * CLIENTS as u64, "the crowd got something done: {known}");
    let segments = std::fs::read_dir(server.data.join("journal")).expect("a journal").flatten();
    let mut names = segments.filter_map(|entry| entry.file_name().into_string().ok());
    assert!(!names.any(|name| name == FIRST_SEGMENT), "no segment was deleted while backups ran");
    let said = format!(
        "{known} answers from before a backup given by its restored server to the letter; verify clean after every restore; \
         the longest took {:.1} s",
        longest.as_secs_f64()
    );
    Outcome::of(format!("{backups} backups"), said)
}

async fn fill(crowd: &Crowd, server: &Server, wanted: bool) {
    if !wanted {
        return;
    }
    let lanes = (0..FILLING).map(async |_| {
        for _ in 0..BALLAST / FILLING {
            crowd.ballast(server).await.expect("a drop");
        }
    });
    join_all(lanes).await;
}

/// Runs the backup in a process of its own; the crowd goes on.
async fn take(data: std::path::PathBuf, to: std::path::PathBuf) {
    let taken = tokio::task::spawn_blocking(move || {
        livedrop().args(["backup", "--data-dir"]).arg(data).arg("--to").arg(to).output().expect("livedrop runs")
    });
    succeeded("backup", &taken.await.expect("it ends"));
}

fn run(task: &str, arguments: &[(&str, &Path)]) {
    let mut command = livedrop();
    command.arg(task);
    for (flag, path) in arguments {
        command.arg(flag).arg(path);
    }
    succeeded(task, &command.output().expect("livedrop runs"));
}

fn succeeded(task: &str, output: &Output) {
    let told = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success(), "livedrop {task}: {}", String::from_utf8_lossy(&told));
}
