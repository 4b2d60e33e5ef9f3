//! Scenarios of a drop as stories. [`stage`] explains how to read and write one.

pub(super) mod reopen;
pub(super) mod stage;

/// One test for each story.
macro_rules! stories {
    ($($name:ident: $story:literal)+) => {
        $(#[test]
        fn $name() {
            crate::engine::scenario_tests::stage::play($story);
        })+
    };
}

mod crowds;
mod hoarding;
mod keys;
mod payments;
mod sales;
