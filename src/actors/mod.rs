//! Mailboxes, clocks and cursors around the engine.
