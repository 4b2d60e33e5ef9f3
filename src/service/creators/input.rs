//! What creators' profiles and follows are asked with.

use crate::domain::CreatorId;
use crate::domain::limits::{NAME_CHARS_MAX, TEXT_CHARS_MAX};
use crate::service::input::{Checks, Field, Input};

/// A profile to open.
#[derive(Debug, Default)]
pub struct ProfileInput {
    /// `[a-z0-9_]{3,30}`. Required.
    pub handle: Field<String>,
    /// One line, 1 to `NAME_CHARS_MAX` characters. Required.
    pub display_name: Field<String>,
    /// At most `TEXT_CHARS_MAX` characters; empty if absent.
    pub bio: Field<String>,
}

/// A [`ProfileInput`] that is valid.
#[derive(Clone, Debug)]
pub struct NewCreator {
    /// `[a-z0-9_]{3,30}`.
    pub handle: String,
    /// What others see.
    pub display_name: String,
    /// May be empty.
    pub bio: String,
}

impl Input for ProfileInput {
    type Valid = NewCreator;

    fn check(self, checks: &mut Checks) -> Option<NewCreator> {
        let handle = checks.required("/handle", self.handle);
        if handle.as_deref().is_some_and(|handle| !is_handle(handle)) {
            checks.wrong("/handle", "must be 3 to 30 of a-z, 0-9 and _");
        }
        let display_name = checks.required("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        let bio = checks.optional("/bio", self.bio).unwrap_or_default();
        let bio = checks.lines("/bio", Some(bio), 0..=TEXT_CHARS_MAX);
        Some(NewCreator { handle: handle?, display_name: display_name?, bio: bio? })
    }
}

fn is_handle(text: &str) -> bool {
    (3..=30).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// What to change in a profile; what is absent stays.
#[derive(Debug, Default)]
pub struct ProfileChangeInput {
    /// One line, 1 to `NAME_CHARS_MAX` characters.
    pub display_name: Field<String>,
    /// At most `TEXT_CHARS_MAX` characters.
    pub bio: Field<String>,
}

/// A [`ProfileChangeInput`] that is valid.
#[derive(Clone, Debug, Default)]
pub struct CreatorChange {
    /// What others see.
    pub display_name: Option<String>,
    /// May be empty.
    pub bio: Option<String>,
}

impl Input for ProfileChangeInput {
    type Valid = CreatorChange;

    fn check(self, checks: &mut Checks) -> Option<CreatorChange> {
        let display_name = checks.optional("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        let bio = checks.optional("/bio", self.bio);
        let bio = checks.lines("/bio", bio, 0..=TEXT_CHARS_MAX);
        Some(CreatorChange { display_name, bio })
    }
}

/// A creator to follow.
#[derive(Debug, Default)]
pub struct FollowInput {
    /// Required.
    pub creator_id: Field<CreatorId>,
}

impl Input for FollowInput {
    type Valid = CreatorId;

    fn check(self, checks: &mut Checks) -> Option<CreatorId> {
        checks.required("/creator_id", self.creator_id)
    }
}
