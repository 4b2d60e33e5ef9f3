//! Failpoints, where a test ends the process or makes an operation fail, to check the next start.
//!
//! Only the feature `failpoints` compiles them in; without it [`failpoint!`] expands to nothing. The crate's own
//! dev-dependency on itself turns the feature on for `cargo test` and for nothing else.
//!
//! The process looks for a file that `LIVEDROP_FAILPOINT_FILE` names. Once it exists, its single line takes effect:
//! `journal.after_sync=abort@17` aborts at the 17th time that the point is reached from then on,
//! `journal.before_sync=error@3` makes the third sync fail, `scheduler=panic@1` panics at the first. It is a file, and
//! not the variable alone, so that a test chooses the moment in a running server.
//!
//! The crate `fail` has more features but no way to abort, which crash tests need.

/// Marks a failpoint. `failpoint!("a.name")` can abort or panic; `failpoint!("a.name", error)` may also return an
/// [`std::io::Error`].
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($name:expr) => {
        let _ = $crate::failpoint::reached($name);
    };
    ($name:expr, error) => {
        $crate::failpoint::reached($name)?;
    };
}

/// Expands to nothing without the feature.
#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($name:expr) => {
        let _ = $name;
    };
    ($name:expr, error) => {};
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::reached;

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        fs, io,
        path::PathBuf,
        sync::{
            LazyLock, OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("LIVEDROP_FAILPOINT_FILE").map(PathBuf::from));
    static PLAN: OnceLock<Plan> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Action {
        Abort,
        Error,
        Panic,
    }

    #[derive(PartialEq, Eq, Debug)]
    struct Plan {
        name: String,
        action: Action,
        hit: u64,
    }

    impl Plan {
        fn parse(text: &str) -> Option<Self> {
            let (name, what) = text.trim().split_once('=')?;
            let (action, hit) = what.split_once('@')?;
            let action = match action {
                "abort" => Action::Abort,
                "error" => Action::Error,
                "panic" => Action::Panic,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), action, hit: hit.parse().ok()? })
        }
    }

    /// The plan, once its file exists.
    fn plan() -> Option<&'static Plan> {
        let file = FILE.as_ref()?;
        if PLAN.get().is_none() {
            let text = fs::read_to_string(file).ok()?;
            // An invalid line must not pass for a test without findings.
            let plan = Plan::parse(&text).unwrap_or_else(|| panic!("no plan for a failpoint: {text:?}"));
            let _ = PLAN.set(plan);
        }
        PLAN.get()
    }

    /// Executes the plan if it is for this failpoint.
    pub(crate) fn reached(name: &str) -> io::Result<()> {
        let Some(plan) = plan().filter(|plan| plan.name == name) else { return Ok(()) };
        let due = HITS.fetch_add(1, Ordering::Relaxed) + 1 == plan.hit;
        match plan.action {
            Action::Abort if due => std::process::abort(),
            Action::Panic if due => panic!("a test made {name} panic"),
            Action::Error if due => Err(io::Error::other(format!("a test made {name} fail"))),
            _ => Ok(()),
        }
    }

    #[test]
    fn a_plan_is_one_line() {
        let plan = |name: &str, action, hit| Some(Plan { name: name.to_owned(), action, hit });
        assert_eq!(Plan::parse("journal.after_sync=abort@17\n"), plan("journal.after_sync", Action::Abort, 17));
        assert_eq!(Plan::parse("journal.before_sync=error@1"), plan("journal.before_sync", Action::Error, 1));
        assert_eq!(Plan::parse("scheduler=panic@2"), plan("scheduler", Action::Panic, 2));
        for nothing in ["", "journal.after_sync", "a=abort", "a=sleep@1", "a=abort@x"] {
            assert_eq!(Plan::parse(nothing), None, "{nothing}");
        }
    }
}
