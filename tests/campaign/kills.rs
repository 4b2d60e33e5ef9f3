//! `kill -9` under a crowd, at any moment.

use crate::crowd::{Counts, Crowd, ends_clean, verified};
use crate::progress::counted;
use crate::server::{Server, Setup};
use crate::{Outcome, Row, Scale};
use std::{path::Path, time::Duration};

/// The number of concurrent clients.
pub const CLIENTS: usize = 64;
/// The number of kills after which a row goes on with a new server.
const KILLS_PER_SERVER: u64 = 50;
/// Fewer units than the crowd orders in the longest of these runs, so that some of them end in a sold-out drop.
const STOCK: u64 = 400;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("kill -9 under 64 clients, SQLite", |scale: Scale| killed(Database::Embedded, scale.of(25, 500))),
        Row::new("kill -9 under 64 clients, Postgres", |scale: Scale| killed(Database::Postgres, scale.of(25, 500))),
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

/// Where the rows of a row's servers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// SQLite in the data directory.
    Embedded,
    Postgres,
}

/// A server and its crowd, for one kill after another.
pub struct Stage {
    pub server: Server,
    pub crowd: Crowd,
    database: Database,
    kills: u64,
}

impl Stage {
    pub async fn open(database: Database) -> Self {
        let url = match database {
            Database::Embedded => None,
            Database::Postgres => Some(crate::postgres::fresh_database().await),
        };
        let (server, crowd) = crowded(url).await;
        Self { server, crowd, database, kills: 0 }
    }

    /// After each kill and its audit. Begins anew from time to time: an audit takes longer with everything that was ever sold.
    pub async fn go_on(&mut self) {
        self.kills += 1;
        if self.kills < KILLS_PER_SERVER {
            return self.crowd.renew(&self.server).await;
        }
        ends_clean(&mut self.server);
        *self = Self::open(self.database).await;
    }
}

async fn killed(database: Database, kills: u64) -> Outcome {
    let mut stage = Stage::open(database).await;
    let (mut counts, mut sold_out) = (Counts::default(), 0);
    for n in counted(kills) {
        let Stage { server, crowd, .. } = &mut stage;
        let mut sale = crowd.open(server, STOCK).await;
        // From the first requests to well after the last unit.
        let delay = Duration::from_millis(40 + (n * 379) % 460);
        let killer = async {
            tokio::time::sleep(delay).await;
            server.signal("KILL");
        };
        tokio::join!(sale.rush_until_gone(crowd, server), killer);
        server.kill();
        verified(server);
        server.restart();
        counts += sale.audit(crowd, server).await;
        sold_out += u64::from(sale.told("sold_out") > 0);
        stage.go_on().await;
    }
    ends_clean(&mut stage.server);
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
