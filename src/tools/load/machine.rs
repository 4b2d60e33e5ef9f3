//! The machine of a run: a figure without its machine says little.

use super::cores;
use serde::Serialize;
use std::fs;

/// The machine that the load driver runs on; often the server's too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Cores that the process may use.
    pub cores: usize,
    /// The processor's name; "unknown" if the system does not report it.
    pub processor: String,
    /// Memory in MiB; 0 if the system does not report it.
    pub memory_mib: u64,
    /// Operating system, its version, and the architecture.
    pub system: String,
}

impl Machine {
    /// Reads the data of this machine.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            cores: cores::count(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").and_then(|text| kib(&text)).unwrap_or_default()
                / 1_024,
            system: [std::env::consts::OS, release.trim(), std::env::consts::ARCH].join(" "),
        }
    }
}

/// The first value of that name in a list of `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let found = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(field("processor : 0\nmodel name\t: A 3.0\n", "model name").as_deref(), Some("A 3.0"));
        assert_eq!(field("MemTotal:       24737756 kB\n", "MemTotal").and_then(|text| kib(&text)), Some(24_737_756));
        assert_eq!(field("", "x"), None);
        assert!(Machine::here().cores > 0);
    }
}
