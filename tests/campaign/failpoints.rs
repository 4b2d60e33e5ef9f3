//! Crashes at chosen points: the process aborts at the n-th time that it reaches one (see `src/failpoint.rs`).

use crate::crowd::{Counts, Crowd, ends_clean, verified};
use crate::kills::{CLIENTS, Database, Stage, crowded, room};
use crate::progress::{Progress, each};
use crate::server::{Server, Setup};
use crate::{Outcome, Row, Scale};
use std::{fs, os::unix::process::ExitStatusExt, path::Path};
use tempfile::TempDir;

const SIGABRT: i32 = 6;
/// The least number of keys that were synced without an answer.
const UNANSWERED_KEYS: u64 = 200;

pub fn rows() -> Vec<Row> {
    const COMMITTING: [(&str, u64); 2] = [("sql.before_commit", 4), ("sql.after_commit", 4)];
    vec![
        Row::new("kill before and after the write", |scale: Scale| {
            aborted(&[("journal.before_write", 90), ("journal.after_write", 90)], scale.of(20, 200))
        }),
        Row::new("kill before and after the sync", |scale: Scale| {
            aborted(&[("journal.before_sync", 90), ("journal.after_sync", 90)], scale.of(20, 200))
        }),
        Row::new("kill before and after the reply", |scale: Scale| {
            aborted(&[("journal.before_reply", 90), ("journal.after_reply", 500)], scale.of(20, 200))
        }),
        Row::new("kill between sync and reply, retry with the key", |scale: Scale| {
            unanswered(scale.of(UNANSWERED_KEYS, 10 * UNANSWERED_KEYS))
        }),
        Row::new("kill while journal.meta is replaced: rename, directory's sync", |scale: Scale| {
            opening(scale.of(20, 200))
        }),
        Row::new("kill at each step of writing a checkpoint", |scale: Scale| checkpointing(scale.of(5, 200))),
        Row::new("kill before and after the SQL commit, SQLite", |scale: Scale| {
            aborted_on(Database::Embedded, &COMMITTING, scale.of(10, 100))
        }),
        Row::new("kill before and after the SQL commit, Postgres", |scale: Scale| {
            aborted_on(Database::Postgres, &COMMITTING, scale.of(10, 100))
        }),
    ]
}

/// In a lane of their own: they take the longest.
pub fn rotation_rows() -> Vec<Row> {
    let fault = "kill in a rotation: before, after, at the rename, at the directory's sync, at a deletion";
    vec![Row::new(fault, |scale: Scale| rotating(scale.of(20, 200)))]
}

/// One process: a crowd, a crash at the failpoint, a restart, and the audit.
async fn life(server: &mut Server, crowd: &Crowd, point: &str, hit: u64) -> Counts {
    let mut sale = crowd.open(server, 100_000).await;
    server.arm(&format!("{point}=abort@{hit}"));
    sale.rush_until_gone(crowd, server).await;
    assert_eq!(server.ended().signal(), Some(SIGABRT), "{point}: {}", server.log());
    server.disarm();
    server.restart();
    sale.audit(crowd, server).await
}

async fn aborted(points: &[(&str, u64)], runs: u64) -> Outcome {
    aborted_on(Database::Embedded, points, runs).await
}

async fn aborted_on(database: Database, points: &[(&str, u64)], runs: u64) -> Outcome {
    let mut stage = Stage::open(database).await;
    let mut counts = Counts::default();
    for ((point, hits_max), run) in each(points, runs) {
        // Every other time early, while there is little data.
        let hit = if run % 2 == 0 { 1 + run / 2 % hits_max } else { 1 + (run * 37) % hits_max };
        counts += life(&mut stage.server, &stage.crowd, point, hit).await;
        stage.go_on().await;
    }
    ends_clean(&mut stage.server);
    let Counts { acknowledged, synced_unanswered, .. } = counts;
    let said = format!(
        "{acknowledged} acknowledged answers given again, {synced_unanswered} durable ones found by their key; stock \
         exact; verify clean"
    );
    Outcome::of(format!("{} x {runs} kills", points.len()), said)
}

async fn unanswered(keys_min: u64) -> Outcome {
    let mut stage = Stage::open(Database::Embedded).await;
    let (mut counts, mut kills) = (Counts::default(), 0);
    let mut progress = Progress::of(keys_min);
    while counts.synced_unanswered < keys_min {
        progress.at(counts.synced_unanswered);
        counts += life(&mut stage.server, &stage.crowd, "journal.before_reply", 1 + (kills * 29) % 90).await;
        stage.go_on().await;
        kills += 1;
        assert!(kills < keys_min, "a kill leaves at least one key without its answer");
    }
    ends_clean(&mut stage.server);
    let said = format!("{kills} kills; each first retry is a replay, each further one identical; verify clean");
    Outcome::of(format!("{} keys", counts.synced_unanswered), said)
}

/// Ends while drops are written to their files, and starts with what is left of these.
async fn checkpointing(runs: u64) -> Outcome {
    const POINTS: [&str; 9] = [
        "checkpoint.before_file",
        "checkpoint.before_write",
        "checkpoint.after_write",
        "checkpoint.before_commit",
        "draft.before_rename",
        "draft.before_directory_sync",
        "checkpoint.after_commit",
        "checkpoint.before_manifest",
        "checkpoint.after_manifest",
    ];
    aborted(&POINTS.map(|point| (point, 3)), runs).await
}

/// Starts repeatedly from files with an almost full segment.
async fn rotating(runs: u64) -> Outcome {
    const POINTS: [&str; 6] = [
        "journal.before_rotate",
        "segment.before_rename",
        "segment.before_directory_sync",
        "segment.after_directory_sync",
        "journal.after_rotate",
        "segment.after_delete",
    ];
    let (full, mut crowd) = almost_full().await;
    let mut counts = Counts::default();
    for (point, _) in each(&POINTS, runs) {
        let place = TempDir::new().expect("a temporary folder");
        copy(full.path(), place.path());
        let mut server = Server::set_up(small_segments(place.path()));
        counts += life(&mut server, &crowd, point, 1).await;
        crowd.renew(&server).await;
        ends_clean(&mut server);
    }
    let said = format!("{} acknowledged answers given again; stock exact; verify clean each time", counts.acknowledged);
    Outcome::of(format!("{} x {runs} kills", POINTS.len()), said)
}

/// A checkpoint keeps the segments after it: with one each second the first segment is deleted soon.
fn small_segments(data: &Path) -> Setup {
    let extra = ["--journal-segment-mib", "8", "--checkpoint-seconds", "1"].map(str::to_owned).to_vec();
    Setup { extra, data: Some(data.to_owned()), quiet: true, ..Setup::default() }
}

/// The files of a stopped server whose first segment has room for a few hundred orders.
async fn almost_full() -> (TempDir, Crowd) {
    const ROOM_MAX: usize = 100_000;
    let place = TempDir::new().expect("a temporary folder");
    let mut server = Server::set_up(small_segments(place.path()));
    let crowd = Crowd::gather(&server, CLIENTS).await;
    while room(&place.path().join("journal").join("00000000000000000001.seg")) > ROOM_MAX {
        let drop = crowd.ballast(&server).await.expect("a drop");
        let (status, answer) =
            server.post(&format!("/drops/{drop}/cancel"), Some(&crowd.maker), serde_json::json!({})).await;
        assert_eq!(status, 200, "{answer}");
    }
    ends_clean(&mut server);
    (place, crowd)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, target).expect("a copy");
        }
    }
}

/// `journal.meta` is replaced when the journal opens and when it closes: a process's first and last write.
async fn opening(runs: u64) -> Outcome {
    const POINTS: [&str; 3] = ["meta.before_rename", "meta.before_directory_sync", "meta.after_directory_sync"];
    let (mut server, crowd) = crowded(None).await;
    let mut sale = crowd.open(&server, 100_000).await;
    sale.rush_for(&crowd, &server, 300).await;
    server.kill();
    let (mut at_open, mut at_close) = (0, 0);
    for (point, run) in each(&POINTS, runs) {
        server.arm(&format!("{point}=abort@{}", 1 + run % 2));
        if server.try_restart() {
            at_close += 1;
            server.signal("TERM");
            assert_eq!(server.ended().signal(), Some(SIGABRT), "{point}: {}", server.log());
        } else {
            at_open += 1;
        }
        server.disarm();
        verified(&server);
    }
    server.restart();
    let counts = sale.audit(&crowd, &server).await;
    ends_clean(&mut server);
    let said = format!(
        "{at_open} in an opening, {at_close} in a clean end; verify clean each time, then all {} answers are there",
        counts.acknowledged
    );
    Outcome::of(format!("{} x {runs} kills", POINTS.len()), said)
}
