//! `claim` in the data directory: that the database was this journal's when it last answered. With it a start may sell
//! without the database, see ADR 34.

use crate::actors::Clock;
use crate::domain::Timestamp;
use crate::journal::identity::Identity;
use crate::whole_file::{self, on_disk};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

/// The file's name.
pub(super) const FILE: &str = "claim";
/// What its first line begins with; the checksum of the rest follows.
const HEADER: &str = "livedrop claim 1 ";

/// What the file has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct LastClaim {
    /// The journal that has the database.
    pub journal: Uuid,
    /// The journal's last opening.
    pub epoch: u32,
    /// The server and the database.
    pub database: String,
    /// The number of the journal's directory in its file system: a copy made file by file has another one.
    pub inode: u64,
    /// When the database last said so, in milliseconds since 1970, by the steady clock.
    pub confirmed_at: i64,
}

/// Why a claim does not stand in for the database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoClaim {
    #[error(
        "there is no record of a claim (the file {FILE} in the data directory): the last server stopped cleanly, or never had this database"
    )]
    Missing,
    #[error("the record of the last claim cannot be read: {0}")]
    Unreadable(String),
    #[error("the record of the last claim is damaged")]
    Damaged,
    #[error("the record of the last claim is of another journal, {0}")]
    Foreign(Uuid),
    #[error("the record of the last claim is of opening {claimed} of the journal, and the last one was {last}")]
    OtherOpening { claimed: u32, last: u32 },
    #[error("the data directory is a copy, and its original may be running")]
    Copied,
    #[error("the last claim was in another database, {0}")]
    OtherDatabase(String),
    #[error(
        "the database last confirmed the claim {ago} s ago, and access tokens outlast it for {max} s (outage_grace_seconds)"
    )]
    TooOld { ago: i64, max: u64 },
}

impl LastClaim {
    /// The time of the last confirmation.
    pub fn confirmed_at(&self) -> Timestamp {
        Timestamp::from_millis(self.confirmed_at)
    }

    fn encode(&self) -> Vec<u8> {
        let fields = serde_json::to_string(self).expect("plain fields");
        format!("{HEADER}{:08x}\n{fields}\n", crc32c::crc32c(fields.as_bytes())).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (crc, fields) = text.strip_prefix(HEADER)?.split_once('\n')?;
        let fields = fields.strip_suffix('\n')?;
        (crc == format!("{:08x}", crc32c::crc32c(fields.as_bytes()))).then_some(())?;
        serde_json::from_str(fields).ok()
    }

    fn read(data_dir: &Path) -> Result<Self, NoClaim> {
        let bytes = fs::read(data_dir.join(FILE)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => NoClaim::Missing,
            _ => NoClaim::Unreadable(error.to_string()),
        })?;
        Self::decode(&bytes).ok_or(NoClaim::Damaged)
    }

    /// The claim, if it stands in for `database` at `now`, `grace` at most after its confirmation.
    pub fn standing(
        data_dir: &Path,
        journal: &Identity,
        database: &str,
        (now, grace): (Timestamp, Duration),
    ) -> Result<Self, NoClaim> {
        let claim = Self::read(data_dir)?;
        if claim.journal != journal.journal_id {
            return Err(NoClaim::Foreign(claim.journal));
        }
        // Each start without the database writes the file again: an opening by anything else broke the chain.
        if claim.epoch != journal.epoch {
            return Err(NoClaim::OtherOpening { claimed: claim.epoch, last: journal.epoch });
        }
        if claim.inode != inode(data_dir).map_err(|error| NoClaim::Unreadable(error.to_string()))? {
            return Err(NoClaim::Copied);
        }
        if claim.database != database {
            return Err(NoClaim::OtherDatabase(claim.database));
        }
        let ago = now.millis_since(claim.confirmed_at()).max(0);
        if u128::from(ago.unsigned_abs()) > grace.as_millis() {
            return Err(NoClaim::TooOld { ago: ago / 1_000, max: grace.as_secs() });
        }
        Ok(claim)
    }
}

/// The number of the journal's directory.
fn inode(data_dir: &Path) -> io::Result<u64> {
    Ok(fs::metadata(data_dir.join("journal"))?.ino())
}

/// Keeps the file. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClaimFile {
    path: PathBuf,
    claim: LastClaim,
    clock: Clock,
}

impl ClaimFile {
    /// # Errors
    /// If the journal's directory cannot be looked at.
    pub fn new(data_dir: &Path, (journal, epoch): (Uuid, u32), database: String, clock: Clock) -> io::Result<Self> {
        let claim = LastClaim { journal, epoch, database, inode: inode(data_dir)?, confirmed_at: 0 };
        Ok(Self { path: data_dir.join(FILE), claim, clock })
    }

    /// The time for [`ClaimFile::confirm`], taken before the database is asked.
    pub fn now(&self) -> Timestamp {
        self.clock.steady()
    }

    /// The database said so, to a question of that time.
    pub async fn confirm(&self, asked_at: Timestamp) {
        let bytes = LastClaim { confirmed_at: asked_at.as_millis(), ..self.claim.clone() }.encode();
        let path = self.path.clone();
        if let Err(error) = on_disk(move || whole_file::replace(&path, &bytes)).await {
            // The older record expires sooner; that is all.
            warn!(file = %self.path.display(), %error, "the claim of the database cannot be recorded");
        }
    }

    /// The database is not this journal's any more, or another server may take it.
    pub async fn forget(&self) {
        let path = self.path.clone();
        if let Err(error) = on_disk(move || whole_file::delete(&path)).await {
            warn!(file = %self.path.display(), %error, "the record of the claim cannot be deleted");
        }
    }
}

/// Writes the claim again for another opening of its journal, which has not asked the database.
///
/// # Errors
/// Those of the disk.
pub(super) fn pass_on(data_dir: &Path, claim: &LastClaim, epoch: u32) -> io::Result<()> {
    whole_file::replace(&data_dir.join(FILE), &LastClaim { epoch, ..claim.clone() }.encode())
}

/// Deletes the file of a data directory, if there is one.
///
/// # Errors
/// Those of the disk.
pub(super) fn forget_in(data_dir: &Path) -> io::Result<()> {
    whole_file::delete(&data_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "db.example:5432/shop";
    const HOUR: Duration = Duration::from_secs(3_600);

    fn identity(epoch: u32) -> Identity {
        Identity { journal_id: Uuid::from_u128(9), epoch, started: true, durable: 5 }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// A data directory with a claim of opening 7, confirmed at 1,000 ms.
    async fn claimed() -> (tempfile::TempDir, ClaimFile) {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("journal")).unwrap();
        let owner = (Uuid::from_u128(9), 7);
        let file = ClaimFile::new(data.path(), owner, DATABASE.to_owned(), Clock::default()).unwrap();
        file.confirm(at(1_000)).await;
        (data, file)
    }

    #[tokio::test]
    async fn a_claim_stands_for_its_journal_opening_and_database_until_it_is_too_old() {
        let (data, file) = claimed().await;
        let standing = |epoch: u32, database: &str, now: i64| {
            LastClaim::standing(data.path(), &identity(epoch), database, (at(now), HOUR))
        };
        let claim = standing(7, DATABASE, 2_000).unwrap();
        assert_eq!(claim.confirmed_at(), at(1_000));
        // A clock that was set back makes it no older.
        assert!(standing(7, DATABASE, -90_000_000).is_ok() && standing(7, DATABASE, 3_601_000).is_ok());
        assert_eq!(standing(7, DATABASE, 3_602_000), Err(NoClaim::TooOld { ago: 3_601, max: 3_600 }));
        assert_eq!(standing(8, DATABASE, 2_000), Err(NoClaim::OtherOpening { claimed: 7, last: 8 }));
        assert_eq!(standing(7, "db.example:5432/other", 2_000), Err(NoClaim::OtherDatabase(DATABASE.to_owned())));
        let other = Identity { journal_id: Uuid::from_u128(8), ..identity(7) };
        let foreign = LastClaim::standing(data.path(), &other, DATABASE, (at(2_000), HOUR));
        assert_eq!(foreign, Err(NoClaim::Foreign(Uuid::from_u128(9))));
        pass_on(data.path(), &claim, 8).unwrap();
        assert_eq!(standing(8, DATABASE, 2_000).unwrap().confirmed_at(), at(1_000), "as old as before");
        file.forget().await;
        file.forget().await;
        assert_eq!(standing(8, DATABASE, 2_000), Err(NoClaim::Missing));
    }

    #[tokio::test]
    async fn a_copied_data_directory_has_no_claim() {
        let (data, _) = claimed().await;
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("journal")).unwrap();
        fs::copy(data.path().join(FILE), copy.path().join(FILE)).unwrap();
        let standing = LastClaim::standing(copy.path(), &identity(7), DATABASE, (at(2_000), HOUR));
        assert_eq!(standing, Err(NoClaim::Copied));
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_is_noticed() {
        let (data, _) = claimed().await;
        let bytes = fs::read(data.path().join(FILE)).unwrap();
        assert!(LastClaim::decode(&bytes).is_some());
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(LastClaim::decode(&bytes), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(LastClaim::decode(&bytes[..length]), None, "cut at {length}");
        }
    }
}
