//! `kill -9` under a crowd, at any moment.

use crate::crowd::{Counts, Crowd, ends_clean, verified};
use crate::server::{Server, Setup};
use crate::{Outcome, Row, Scale};
use std::{path::Path, time::Duration};

/// The number of concurrent clients.
pub const CLIENTS: usize = 64;
/// Fewer units than the crowd orders in the longest of these runs, so that some of them end in a sold-out drop.
const STOCK: u64 = 400;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("kill -9 under 64 clients, SQLite", |scale: Scale| killed(None, scale.of(25, 500))),
        Row::new("kill -9 under 64 clients, Postgres", async |scale: Scale| {
            killed(Some(crate::postgres::fresh_database().await), scale.of(25, 500)).await
        }),
    ]
}

/// A server with small segments, a crowd, and a log of its own.
pub async fn crowded(database_url: Option<String>) -> (Server, Crowd) {
    // Restarts find checkpoints that are a second old.
    let extra = ["--journal-segment-mib", "8", "--checkpoint-seconds", "1"].map(str::to_owned).to_vec();
    let server = Server::set_up(Setup { database_url, extra, quiet: true, ..Setup::default() });
    let crowd = Crowd::gather(&server, CLIENTS).await;
    (server, crowd)
}

async fn killed(database_url: Option<String>, kills: u64) -> Outcome {
    let (mut server, mut crowd) = crowded(database_url).await;
    let (mut counts, mut sold_out) = (Counts::default(), 0);
    for n in 0..kills {
        let mut sale = crowd.open(&server, STOCK).await;
        // From the first requests to well after the last unit.
        let delay = Duration::from_millis(40 + (n * 379) % 460);
        let killer = async {
            tokio::time::sleep(delay).await;
            server.signal("KILL");
        };
        tokio::join!(sale.rush_until_gone(&crowd, &server), killer);
        server.kill();
        verified(&server);
        server.restart();
        counts += sale.audit(&crowd, &server).await;
        sold_out += u64::from(sale.told("sold_out") > 0);
        crowd.renew(&server).await;
    }
    ends_clean(&mut server);
    assert!(counts.acknowledged > kills * CLIENTS as u64, "the crowd got something done: {counts:?}");
    let Counts { acknowledged, keys, .. } = counts;
    let said = format!(
        "{acknowledged} acknowledged answers of {keys} keys all given again to the letter, none twice, stock exact \
         ({sold_out} sold out); verify clean after every kill"
    );
    Outcome::of(format!("{kills} kills"), said)
}

/// Bytes after the last frame of a segment.
pub fn room(segment: &Path) -> usize {
    let bytes = std::fs::read(segment).expect("a segment");
    bytes.iter().rev().take_while(|byte| **byte == 0).count()
}
