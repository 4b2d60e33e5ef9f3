//! A consumer of the journal that hangs forever.

use crate::crowd::{Crowd, verified};
use crate::kills::CLIENTS;
use crate::progress::counted;
use crate::server::{Server, Setup};
use crate::target::{SILENT, Target};
use crate::{Outcome, Row, Scale};
use futures_util::future::join_all;
use std::{fs, path::Path};

const SEGMENT_MIB: usize = 8;
const LAG_MIB: usize = 16;
/// The segments within the bound, one being deleted, the active one, and the prepared one.
const SEGMENTS_MAX: usize = LAG_MIB / SEGMENT_MIB + 3;

pub fn rows() -> Vec<Row> {
    vec![Row::new("a consumer hangs for good", |scale: Scale| hangs(scale.of(64, 1_024)))]
}

fn segments(data: &Path) -> usize {
    fs::read_dir(data.join("journal")).expect("a journal").count().saturating_sub(2)
}

/// Writes this many MiB of journal while the target accepts connections and never answers.
async fn hangs(mib: u64) -> Outcome {
    let target = Target::open(SILENT).await;
    let (segment, lag) = (SEGMENT_MIB.to_string(), LAG_MIB.to_string());
    let extra = ["--journal-segment-mib", &segment, "--consumer-lag-mib", &lag].map(str::to_owned);
    let extra = [&extra[..], &["--events-url".to_owned(), target.url.clone()]].concat();
    let mut server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
    let crowd = Crowd::gather(&server, CLIENTS).await;
    let mut sale = crowd.open(&server, 1_000_000).await;
    let mut most = 0;
    // The record of a ballast drop has at least 30,000 bytes.
    let rounds = mib * (1 << 20) / 30_000 / 64;
    for _ in counted(rounds) {
        join_all((0..64).map(|_| crowd.ballast(&server))).await.into_iter().for_each(|made| _ = made.expect("a drop"));
        sale.rush_for(&crowd, &server, 20).await;
        most = most.max(segments(&server.data));
    }
    assert!(most <= SEGMENTS_MAX, "{most} segments\n{}", server.log());
    let (status, ready) = server.readiness().await;
    assert_eq!((status, &ready["checks"]["projector"]["status"]), (200, &"ready".into()), "{ready}");
    let each = ready["checks"]["consumers"]["each"].as_array().expect("consumers");
    let events = each.iter().find(|consumer| consumer["name"] == "events").expect("it is listed");
    assert_eq!((&ready["status"], &events["status"]), (&"degraded".into(), &"degraded".into()), "{ready}");
    assert!(events["lost_records"].as_u64() > Some(0), "what it will miss is known before it comes back: {ready}");
    let answered = sale.audit(&crowd, &server).await;
    assert!(target.asked() > 0, "it was asked, and did not answer");
    // The target answers again, and gets the missed events.
    target.answers(204);
    server.until("the gap is said", async || target.count("com.livedrop.events.gap.v1") >= 1).await;
    assert!(server.log().contains("gap: "), "{}", server.log());
    assert_eq!(server.terminate(), Some(0));
    verified(&server);
    let said = format!(
        "sales go on ({} keys answered), {most} segments of {SEGMENT_MIB} MiB at most; then a gap, said by name; verify clean",
        answered.keys
    );
    Outcome::of(format!("{mib} MiB of journal"), said)
}
