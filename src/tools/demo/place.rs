//! The data directory of the demo's server, and its removal.

use super::{DemoError, options::DemoOptions, server::Launch};
use std::path::PathBuf;

/// A temporary directory of this run, with the server's data unless the user named another directory.
pub struct Place {
    work_dir: PathBuf,
    data_dir: PathBuf,
    /// Whether the user named the data directory: then it is never removed.
    given: bool,
}

impl Place {
    /// Creates the directory.
    ///
    /// # Errors
    /// [`DemoError::Io`].
    pub fn prepare(options: &DemoOptions) -> Result<Self, DemoError> {
        let io = |what: &'static str| move |source| DemoError::Io { what, source };
        let name = format!("livedrop-demo-{}", uuid::Uuid::now_v7().simple());
        let work_dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&work_dir).map_err(io("make a temporary directory"))?;
        let data_dir = match &options.data_dir {
            // The server runs in another working directory.
            Some(dir) => std::path::absolute(dir).map_err(io("find the data directory"))?,
            None => work_dir.join("data"),
        };
        Ok(Self { work_dir, data_dir, given: options.data_dir.is_some() })
    }

    /// The command that starts this program as a server.
    ///
    /// # Errors
    /// [`DemoError::Io`] if the program's own path is not known.
    pub fn launch(&self, options: &DemoOptions) -> Result<Launch, DemoError> {
        let program = std::env::current_exe().map_err(|source| DemoError::Io { what: "find this program", source })?;
        Ok(Launch {
            program,
            data_dir: self.data_dir.clone(),
            database_url: options.database_url.clone(),
            log: self.work_dir.join("server.log"),
            working_dir: self.work_dir.clone(),
        })
    }

    /// The server's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// The directory of its log, and of its data unless the user named another.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.work_dir.clone()
    }

    /// Removes temporary files, unless `keep`. Returns the data directory if it still exists.
    pub fn leave(self, keep: bool) -> Option<PathBuf> {
        if !keep {
            // The system cleans up its temporary directory if this fails.
            let _ = std::fs::remove_dir_all(&self.work_dir);
        }
        (keep || self.given).then_some(self.data_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_data_is_removed_unless_kept() {
        let options = DemoOptions::default();
        let place = Place::prepare(&options).unwrap();
        let (work, data) = (place.work_dir.clone(), place.data_dir());
        assert!(work.is_dir() && data.starts_with(&work));
        assert_eq!(place.leave(false), None);
        assert!(!work.exists());

        let place = Place::prepare(&options).unwrap();
        let (work, data) = (place.work_dir.clone(), place.data_dir());
        assert_eq!(place.leave(true), Some(data));
        assert!(work.is_dir());
        std::fs::remove_dir_all(work).unwrap();
    }

    #[test]
    fn a_given_data_directory_is_never_removed() {
        let own = tempfile::tempdir().unwrap();
        let options = DemoOptions { data_dir: Some(own.path().to_owned()), ..Default::default() };
        let place = Place::prepare(&options).unwrap();
        assert_eq!(place.leave(false), Some(own.path().to_owned()));
        assert!(own.path().is_dir());
    }
}
