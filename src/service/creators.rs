//! Creators and their followers.

mod input;

pub use input::{CreatorChange, FollowInput, NewCreator, ProfileChangeInput, ProfileInput};

use super::caller::changed_fields;
use super::keys::Attempt;
use super::{Caller, Code, Failure, Hub, Object, OnlyIf, Page, clock::Clock, must_still_hold, spawn_detached};
use crate::domain::limits::{CREATOR_CHANGE_ATTEMPTS_MAX, PAGE_BYTES_MAX, PAGE_LIMIT_MAX};
use crate::domain::{CreatorId, UserId};
use crate::storage::{Creator, Found, Store};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The creator use cases.
#[derive(Clone)]
pub struct Creators {
    store: Arc<dyn Store>,
    hub: Hub,
    clock: Clock,
    /// Serialises the follows of one user, so that sessions learn of them in the order of the writes.
    turns: Arc<[Mutex<()>]>,
}

/// Lock stripes: two users on one stripe only contend.
const TURNS: usize = 64;

impl Creators {
    /// `hub` is informed of every follow.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hub: Hub, clock: Clock) -> Self {
        Self { store, hub, clock, turns: (0..TURNS).map(|_| Mutex::default()).collect() }
    }

    /// Makes the caller a creator.
    ///
    /// # Errors
    /// `handle_taken`, `already_a_creator`, `user_not_found`, `database_unavailable`.
    pub async fn open_profile(&self, caller: UserId, new: NewCreator, attempt: &Attempt) -> Result<Creator, Failure> {
        // An account has one profile, so the attempt's id is not needed.
        if attempt.is_resumed()
            && let Some(made) = self.store.creator(caller.into()).await?
        {
            attempt.found();
            return Ok(made);
        }
        let creator = Creator {
            id: caller.into(),
            handle: new.handle,
            display_name: new.display_name,
            bio: new.bio,
            follower_count: 0,
            created_at: self.clock.now(),
        };
        self.store.insert_creator(&creator).await?;
        Ok(creator)
    }

    /// One profile.
    ///
    /// # Errors
    /// `creator_not_found`, `database_unavailable`.
    pub async fn get(&self, id: CreatorId) -> Result<Creator, Failure> {
        self.store.creator(id).await?.ok_or_else(|| Failure::new(Code::CreatorNotFound))
    }

    /// Changes a profile: its creator may, and any admin. The handle cannot change, because others link to it.
    ///
    /// # Errors
    /// `creator_not_found`, `forbidden`, `user_not_found` if the creator's account was deleted, `precondition_failed`,
    /// `overloaded` after too many concurrent changes, `database_unavailable`.
    pub async fn change(
        &self,
        caller: &Caller,
        id: CreatorId,
        change: CreatorChange,
        only_if: OnlyIf<'_, Creator>,
    ) -> Result<Creator, Failure> {
        let detail = changed_fields(&[("display_name", change.display_name.is_some()), ("bio", change.bio.is_some())]);
        for _ in 0..CREATOR_CHANGE_ATTEMPTS_MAX {
            let old = self.get(id).await?;
            caller.may_manage(id)?;
            must_still_hold(only_if, &old)?;
            let mut new = old.clone();
            new.display_name = change.display_name.clone().unwrap_or(new.display_name);
            new.bio = change.bio.clone().unwrap_or(new.bio);
            if new == old {
                return Ok(new);
            }
            let audit =
                caller.audit(self.clock.now(), "creator_changed", Object { kind: "creator", id: id.0 }, &detail);
            if self.store.update_creator(&new, &old, &audit).await? {
                return Ok(new);
            }
        }
        Err(Failure { detail: "Others are changing this profile".into(), ..Failure::retry(Code::Overloaded, 1) })
    }

    /// Newest first, those before `after`.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn list(&self, after: Option<CreatorId>, limit: u32) -> Result<Page<Creator>, Failure> {
        let weigh =
            |creator: &Creator| ROW_BYTES + creator.handle.len() + creator.display_name.len() + creator.bio.len();
        Ok(page_of(self.store.creators(after, limit + 1).await?, limit, weigh))
    }

    /// Follows a creator. Repeated: unchanged.
    ///
    /// # Errors
    /// `creator_not_found`, `user_not_found`, `database_unavailable`.
    pub async fn follow(&self, caller: UserId, creator: CreatorId) -> Result<(), Failure> {
        self.get(creator).await?;
        self.set_follow(caller, creator, true).await
    }

    /// Writes the follow and informs the sessions; in a task of its own, because a disconnecting client must not
    /// separate the two.
    async fn set_follow(&self, user: UserId, creator: CreatorId, follows: bool) -> Result<(), Failure> {
        let Self { store, hub, clock, turns } = self.clone();
        let change = async move {
            let _turn = turns[user.0.as_u64_pair().1 as usize % TURNS].lock().await;
            let changed = match follows {
                true => store.follow(user, creator, clock.now()).await?,
                false => store.unfollow(user, creator).await?,
            };
            if changed {
                hub.follow_changed(user, creator, follows).await;
            }
            Ok(())
        };
        spawn_detached(|| Failure::new(Code::Internal), change).await
    }

    /// Unfollows a creator. Repeated: unchanged.
    ///
    /// # Errors
    /// `creator_not_found`, `database_unavailable`.
    pub async fn unfollow(&self, caller: UserId, creator: CreatorId) -> Result<(), Failure> {
        self.get(creator).await?;
        self.set_follow(caller, creator, false).await
    }

    /// Whether `user` follows `creator`, for callers who may see that.
    ///
    /// # Errors
    /// As [`Creators::following`].
    pub async fn follows(&self, caller: &Caller, user: UserId, creator: CreatorId) -> Result<bool, Failure> {
        self.may_see_follows(caller, user).await?;
        Ok(self.store.follows(user, creator).await?)
    }

    /// A creator's followers, in id order.
    ///
    /// # Errors
    /// `creator_not_found`, `database_unavailable`.
    pub async fn followers(
        &self,
        creator: CreatorId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<UserId>, Failure> {
        self.get(creator).await?;
        Ok(page(self.store.followers(creator, after, limit + 1).await?, limit))
    }

    /// The creators that a user follows, in id order. Visible to the user and to admins, and to everyone unless the
    /// user has made them private.
    ///
    /// # Errors
    /// `forbidden`, `user_not_found`, `database_unavailable`.
    pub async fn following(
        &self,
        caller: &Caller,
        user: UserId,
        after: Option<CreatorId>,
        limit: u32,
    ) -> Result<Page<CreatorId>, Failure> {
        self.may_see_follows(caller, user).await?;
        Ok(page(self.store.following(user, after, limit + 1).await?, limit))
    }

    async fn may_see_follows(&self, caller: &Caller, user: UserId) -> Result<(), Failure> {
        if caller.user == user || caller.must_be_admin().is_ok() {
            return Ok(());
        }
        let owner = self.store.user(user).await?.ok_or_else(|| Failure::new(Code::UserNotFound))?;
        if owner.private_follows {
            return Err(Failure::with(Code::Forbidden, "This user keeps their follows private"));
        }
        Ok(())
    }

    /// The first `max` creators that a user follows, read page by page.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn all_followed(&self, user: UserId, max: usize) -> Result<Page<CreatorId>, Failure> {
        let mut all = Vec::new();
        loop {
            // Pages ten times as large as a client's: nothing is encoded here, and there are fewer round trips.
            let found = self.store.following(user, all.last().copied(), PAGE_LIMIT_MAX * 10).await?;
            let last = found.len() < (PAGE_LIMIT_MAX * 10) as usize;
            all.extend(found);
            if last || all.len() > max {
                let more = all.len() > max;
                all.truncate(max);
                return Ok(Page { items: all, more, stopped_at: None });
            }
        }
    }
}

/// Bytes of a row besides its texts, roughly: ids, times, field names.
pub(super) const ROW_BYTES: usize = 400;

/// Turns `limit + 1` rows into a page that knows whether rows follow.
pub(super) fn page<T>(mut rows: Vec<T>, limit: u32) -> Page<T> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    Page { items: rows, more, stopped_at: None }
}

/// Like [`page`], but ends earlier if its rows weigh more than `PAGE_BYTES_MAX`: the next page continues there.
pub(super) fn page_of<T>(rows: Vec<T>, limit: u32, weigh: fn(&T) -> usize) -> Page<T> {
    let mut page = page(rows, limit);
    let mut bytes = 0;
    let fitting = page.items.iter().take_while(|row| {
        bytes += weigh(row);
        bytes <= PAGE_BYTES_MAX
    });
    // At least one row, or the listing would never advance.
    let fitting = fitting.count().max(1);
    if fitting < page.items.len() {
        page.items.truncate(fitting);
        page.more = true;
    }
    page
}

/// Like [`page_of`], for a search that may have ended early: the next page then continues where it ended.
pub(super) fn page_found<T>(Found { rows, stopped_at }: Found<T>, limit: u32, weigh: fn(&T) -> usize) -> Page<T> {
    let page = page_of(rows, limit, weigh);
    if page.more { page } else { Page { more: stopped_at.is_some(), stopped_at, ..page } }
}

#[cfg(test)]
mod tests {
    use super::{Found, PAGE_BYTES_MAX, page, page_found, page_of};
    use uuid::Uuid;

    #[test]
    fn a_page_goes_on_where_its_search_ended() {
        let found = |rows: &[usize], stopped_at| {
            let page = page_found(Found { rows: rows.to_vec(), stopped_at }, 2, |size| *size);
            (page.items, page.more, page.stopped_at)
        };
        let end = Some(Uuid::max());
        assert_eq!(found(&[], None), (vec![], false, None));
        assert_eq!(found(&[], end), (vec![], true, end));
        assert_eq!(found(&[1, 2], end), (vec![1, 2], true, end));
        // The byte limit comes before the end of the search.
        assert_eq!(found(&[1, 2, 3], None), (vec![1, 2], true, None));
        assert_eq!(found(&[1, PAGE_BYTES_MAX], end), (vec![1], true, None));
    }

    #[test]
    fn a_page_ends_where_its_bytes_do() {
        let rows = |sizes: &[usize]| page_of(sizes.to_vec(), 3, |size| *size);
        assert!(!rows(&[1, 2, PAGE_BYTES_MAX - 3]).more);
        let shorter = rows(&[1, 2, PAGE_BYTES_MAX - 2]);
        assert_eq!((shorter.items, shorter.more), (vec![1, 2], true));
        let alone = rows(&[PAGE_BYTES_MAX + 1, 1]);
        assert_eq!((alone.items, alone.more), (vec![PAGE_BYTES_MAX + 1], true));
        assert!(!rows(&[PAGE_BYTES_MAX + 1]).more && rows(&[]).items.is_empty());
    }

    #[test]
    fn one_row_too_many_says_that_there_is_more() {
        assert!(!page(vec![1, 2], 2).more);
        let full = page(vec![1, 2, 3], 2);
        assert_eq!((full.items, full.more), (vec![1, 2], true));
        assert!(!page(Vec::<u8>::new(), 1).more);
    }
}
