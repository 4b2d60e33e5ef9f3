//! `livedrop demo`: the whole promise, played and audited on this machine.
