//! Drops: schedule, change, read.

mod input;
mod list;

pub use input::{
    DropInput, DropListInput, DropVariantInput, NewDrop, NewVariant, RestockInput, ScheduleInput, ShippingInput,
    VARIANT_NAME_DEFAULT,
};

use super::activity::AccountLocks;
use super::failure::{ask_failure, ensure_projected};
use super::keys::Attempt;
use super::revocations::Revocations;
use super::{Caller, Code, DropView, Failure, OnlyIf, StockView, must_still_hold};
use crate::actors::inventory::recovery::RecoveryFailure;
use crate::actors::inventory::snapshot::DropSnapshot;
use crate::actors::{AskError, Clock, DropHandle, Projection, Registry, Sleepers};
use crate::domain::limits::{DROP_CHANGE_ATTEMPTS_MAX, QUANTITY_PER_ORDER_MAX};
use crate::domain::{
    Country, CountryPrice, CreatorId, Currency, DropId, DropSpec, DropStatus, Money, ProductStatus, ShippingTable,
    StockCounts, Timestamp, UserId, VariantId, VariantSpec,
};
pub use crate::engine::NewEnd;
use crate::engine::{Command, Outcome, Rejection};
use crate::storage::{DropRow, Product, Store};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// How long a creator's change waits to appear in listings before it is answered.
const OWN_CHANGE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a command is retried on a drop that is being evicted, and the pause between.
const GONE_TRIES: u32 = 5;
const GONE_PAUSE: Duration = Duration::from_millis(20);

/// A change of a drop by its creator or an admin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropChange {
    /// Opens the drop before its start time.
    Start,
    /// Closes the drop before its end time.
    End,
    /// Cancels the drop: holds are released, sold orders refunded.
    Cancel,
    /// Adds units to a variant.
    Restock {
        /// The only variant if absent.
        variant: Option<VariantId>,
        /// From 1 to `STOCK_PER_VARIANT_MAX`.
        quantity: u32,
    },
    /// Moves start and end: both before the start, only the end after it.
    Reschedule {
        starts_at: Option<Timestamp>,
        /// The new end: after the start, and in the future.
        ends_at: NewEnd,
    },
}

impl DropChange {
    /// Whether repeating the change has no further effect.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Start | Self::End | Self::Cancel)
    }
}

impl From<DropChange> for Command {
    fn from(change: DropChange) -> Self {
        match change {
            DropChange::Start => Self::Start,
            DropChange::End => Self::End,
            DropChange::Cancel => Self::Cancel,
            DropChange::Restock { variant, quantity } => Self::Restock { variant, quantity },
            DropChange::Reschedule { starts_at, ends_at } => Self::Reschedule { starts_at, ends_at },
        }
    }
}

/// The drop use cases.
#[derive(Clone)]
pub struct Drops {
    store: Arc<dyn Store>,
    registry: Registry,
    projection: Projection,
    sleepers: Sleepers,
    clock: Clock,
    /// Drops that one creator may have scheduled or live; without a bound if absent.
    quota: Option<NonZeroU32>,
    revocations: Revocations,
    locks: AccountLocks,
}

impl Drops {
    /// `quota`: drops that one creator may have scheduled or live; any number if absent. `locks` are shared with the
    /// deletion of accounts.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        projection: Projection,
        sleepers: Sleepers,
        clock: Clock,
        quota: Option<NonZeroU32>,
        (revocations, locks): (Revocations, AccountLocks),
    ) -> Self {
        Self { store, registry, projection, sleepers, clock, quota, revocations, locks }
    }

    /// Schedules a drop of one of the caller's products.
    ///
    /// # Errors
    /// `product_not_found`, `forbidden`, `token_revoked`, `creator_not_found`, `product_archived`, `conflicting_fields`
    /// (variants that the product does not have, currencies), `too_many_drops`, `database_unavailable`, `overloaded`.
    pub async fn create(&self, caller: &Caller, new: NewDrop, attempt: &Attempt) -> Result<DropView, Failure> {
        let id = DropId(attempt.id());
        if attempt.is_resumed()
            && let Some(made) = self.find(id).await?
        {
            caller.may_manage(made.spec.creator_id)?;
            attempt.found();
            return Ok(made);
        }
        let product = self.store.product(new.product_id).await?.ok_or_else(|| Failure::new(Code::ProductNotFound))?;
        caller.may_manage(product.creator_id)?;
        if product.status == ProductStatus::Archived {
            return Err(Failure::with(Code::ProductArchived, "An archived product gets no new drops"));
        }
        let spec = spec_of(id, new, &product, self.clock.now())?;
        let projected = match self.quota {
            Some(quota) => self.store.open_drops_of(spec.creator_id, quota.get().saturating_add(1)).await?,
            None => Vec::new(),
        };
        let scheduled = {
            let _kept = self.locks.keep(UserId(product.creator_id.0)).await;
            self.owner_lives(caller, product.creator_id).await?;
            self.registry.schedule_within(spec, self.quota, &projected).await
        };
        let (handle, sequence) = scheduled.map_err(ask_failure)?;
        // A drop whose start has come is live in this answer; one that starts far ahead may be evicted already.
        let sequence = match handle.ask(Command::Tick).await {
            Ok(answer) => answer.sequence,
            Err(AskError::Gone) => sequence,
            Err(error) => return Err(ask_failure(error)),
        };
        self.projection.reached(sequence, OWN_CHANGE_PATIENCE).await;
        Ok(view_of(&handle))
    }

    /// Checks that the creator's account was not deleted. The caller holds the account's lock, so it cannot be deleted
    /// until the drop exists.
    async fn owner_lives(&self, caller: &Caller, creator: CreatorId) -> Result<(), Failure> {
        if caller.user != UserId(creator.0) {
            let owner = self.store.user(UserId(creator.0)).await?;
            return owner.map(drop).ok_or_else(|| Failure::new(Code::CreatorNotFound));
        }
        // A deletion revokes tokens before it releases the lock. This check needs no database, which may be away.
        if self.revocations.covers(caller.user, caller.login) {
            return Err(Failure::new(Code::TokenRevoked));
        }
        Ok(())
    }

    /// Changes a drop. A change that was made already has no effect.
    ///
    /// # Errors
    /// `drop_not_found`, `forbidden`, `precondition_failed`, `drop_state_conflict`, `overloaded`. For a restock:
    /// `unknown_variant`, and `conflicting_fields` past the bound on a variant's stock. For other times:
    /// `conflicting_fields` if the end is not after the start or has passed.
    pub async fn change(
        &self,
        caller: &Caller,
        id: DropId,
        change: DropChange,
        only_if: OnlyIf<'_, DropView>,
        attempt: &Attempt,
    ) -> Result<DropView, Failure> {
        if attempt.is_resumed() && self.was_made(attempt).await? {
            let drop = self.get(id).await?;
            caller.may_manage(drop.spec.creator_id)?;
            attempt.found();
            return Ok(drop);
        }
        let mut gone = 0;
        for _ in 0..DROP_CHANGE_ATTEMPTS_MAX {
            let Some(handle) = self.awake(id).await? else {
                return self.change_settled(caller, id, change, only_if).await;
            };
            caller.may_manage(handle.spec.creator_id)?;
            let by_hand = Command::AuditedCommand {
                actor: caller.actor(),
                request: attempt.request().map(Box::new),
                command: Box::new(change.into()),
            };
            // The precondition is checked on the state read here; the drop itself then decides, if its revision is
            // still the same.
            let asked = match only_if {
                None => by_hand,
                Some(_) => {
                    let seen = view_of(&handle);
                    must_still_hold(only_if, &seen)?;
                    Command::If { revision: Box::new(seen.revision()), command: Box::new(by_hand) }
                }
            };
            match handle.ask(asked).await {
                Ok(answer) if answer.outcome == Outcome::Rejected(Rejection::Changed) => {}
                Ok(answer) => {
                    check(answer.outcome)?;
                    self.projection.reached(answer.sequence, OWN_CHANGE_PATIENCE).await;
                    return Ok(view_of(&handle));
                }
                // The drop is being evicted; SQL has its final state.
                Err(AskError::Gone) if gone < GONE_TRIES => {
                    gone += 1;
                    tokio::time::sleep(GONE_PAUSE).await;
                }
                Err(AskError::Gone) => return self.change_settled(caller, id, change, only_if).await,
                Err(error) => return Err(ask_failure(error)),
            }
        }
        Err(Failure { detail: "Others are changing this drop".into(), ..Failure::retry(Code::Overloaded, 1) })
    }

    /// Whether the journal has the command of an attempt without a known answer.
    async fn was_made(&self, attempt: &Attempt) -> Result<bool, Failure> {
        ensure_projected(&self.projection).await?;
        Ok(self.store.keyed_is_done(attempt.id()).await?)
    }

    /// The drop in memory; a sleeping drop is loaded.
    async fn awake(&self, id: DropId) -> Result<Option<Arc<DropHandle>>, Failure> {
        if let Some(handle) = self.registry.get(id) {
            return Ok(Some(handle));
        }
        if self.row(id).await?.status != DropStatus::Scheduled {
            return Ok(None);
        }
        self.sleepers.wake(id).await.map_err(not_revived)
    }

    /// A settled drop accepts no command; a repeated change that it already made is fine.
    async fn change_settled(
        &self,
        caller: &Caller,
        id: DropId,
        change: DropChange,
        only_if: OnlyIf<'_, DropView>,
    ) -> Result<DropView, Failure> {
        let row = self.row(id).await?;
        caller.may_manage(row.spec.creator_id)?;
        let (status, view) = (row.status, view_of_row(row));
        must_still_hold(only_if, &view)?;
        match (change, status) {
            (DropChange::End, DropStatus::Ended) | (DropChange::Cancel, DropStatus::Cancelled) => Ok(view),
            (_, status) => Err(state_conflict(status)),
        }
    }

    /// One drop with its current stock.
    ///
    /// # Errors
    /// `drop_not_found`, `database_unavailable`.
    pub async fn get(&self, id: DropId) -> Result<DropView, Failure> {
        match self.registry.get(id) {
            Some(handle) => Ok(view_of(&handle)),
            None => Ok(view_of_row(self.row(id).await?)),
        }
    }

    async fn find(&self, id: DropId) -> Result<Option<DropView>, Failure> {
        match self.get(id).await {
            Ok(drop) => Ok(Some(drop)),
            Err(failure) if failure.code == Code::DropNotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A drop's current stock.
    ///
    /// # Errors
    /// As [`Drops::get`].
    pub async fn stock(&self, id: DropId) -> Result<StockView, Failure> {
        match self.registry.get(id) {
            Some(handle) => Ok(stock_of(handle.cell.read())),
            None => Ok(view_of_row(self.row(id).await?).stock),
        }
    }

    async fn row(&self, id: DropId) -> Result<DropRow, Failure> {
        ensure_projected(&self.projection).await?;
        self.store.drop_row(id).await?.ok_or_else(|| Failure::new(Code::DropNotFound))
    }
}

pub(super) fn not_revived(failure: RecoveryFailure) -> Failure {
    match failure {
        RecoveryFailure::Store(error) => Failure::from(error),
        other => {
            tracing::error!(error = %other, "a drop could not be brought back into memory");
            Failure::new(Code::Internal)
        }
    }
}

fn check(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Rejected(Rejection::DropIs(status)) => Err(state_conflict(status)),
        Outcome::Rejected(Rejection::UnknownVariant) => Err(Failure::new(Code::UnknownVariant)),
        Outcome::Rejected(Rejection::InvalidTimes) => Err(ends_too_early()),
        Outcome::Rejected(Rejection::InvalidQuantity) => Err(Failure::conflicting(vec![super::FieldError {
            pointer: "/quantity".to_owned(),
            detail: "the variant's stock would exceed its bound".to_owned(),
        }])),
        _ => Ok(()),
    }
}

fn ends_too_early() -> Failure {
    let detail = "must be after starts_at and in the future".to_owned();
    Failure::conflicting(vec![super::FieldError { pointer: "/ends_at".to_owned(), detail }])
}

fn state_conflict(status: DropStatus) -> Failure {
    Failure::with(Code::DropStateConflict, format!("the drop is {}", status.as_str()))
}

fn spec_of(id: DropId, new: NewDrop, product: &Product, now: Timestamp) -> Result<DropSpec, Failure> {
    let starts_at = new.starts_at.unwrap_or(now);
    if new.ends_at.is_some_and(|end| end <= starts_at.max(now)) {
        return Err(ends_too_early());
    }
    let variants = variants_of(new.variants, new.stock_alone, product)?;
    let shipping = shipping_of(new.shipping, variants.first().map(|first| first.price.currency), product)?;
    Ok(DropSpec {
        id,
        creator_id: product.creator_id,
        product_id: product.id,
        title: new.title.unwrap_or_else(|| product.name.clone()),
        variants,
        per_buyer_limit: new.per_buyer_limit,
        low_stock_threshold: new.low_stock_threshold,
        hold_ms: new.hold_ms,
        starts_at,
        ends_at: new.ends_at,
        created_at: now,
        shipping,
    })
}

/// Where a drop is shipped to, if its product is.
fn shipping_of(
    new: Option<Vec<(Country, Money)>>,
    currency: Option<Currency>,
    product: &Product,
) -> Result<Option<Box<ShippingTable>>, Failure> {
    let conflict = |pointer: String, detail: String| super::FieldError { pointer, detail };
    match (product.shipped, new) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let detail = "must be left out: the product is not shipped".to_owned();
            Err(Failure::conflicting(vec![conflict("/shipping".to_owned(), detail)]))
        }
        (true, None) => Ok(Some(Box::default())),
        (true, Some(rows)) => {
            let other = |(_, (_, price)): &(usize, &(Country, Money))| Some(price.currency) != currency;
            let wrong = |(index, _)| {
                conflict(format!("/shipping/{index}/price/currency"), "must be the currency of the variants".to_owned())
            };
            let wrong: Vec<_> = rows.iter().enumerate().filter(other).map(wrong).collect();
            if !wrong.is_empty() {
                return Err(Failure::conflicting(wrong));
            }
            let row = |(country, Money { amount: price, .. })| CountryPrice { country, price };
            Ok(Some(Box::new(ShippingTable { countries: rows.into_iter().map(row).collect() })))
        }
    }
}

/// The variants, with names and prices of the product for absent ones.
fn variants_of(new: Vec<NewVariant>, stock_alone: bool, product: &Product) -> Result<Vec<VariantSpec>, Failure> {
    let mut fields = Vec::new();
    let mut wrong = |pointer: String, detail: String| fields.push(super::FieldError { pointer, detail });
    if stock_alone && !product.variants.is_empty() {
        wrong("/variants".to_owned(), "is required: the product comes in variants".to_owned());
    }
    let mut variants: Vec<VariantSpec> = Vec::with_capacity(new.len());
    for (index, NewVariant { id, name, stock, price }) in new.into_iter().enumerate() {
        let usual = id.and_then(|id| product.variants.iter().find(|variant| variant.id == id));
        if id.is_some() && usual.is_none() {
            wrong(format!("/variants/{index}/variant_id"), "must be the id of a variant of the product".to_owned());
        }
        let price = price.or(usual.and_then(|usual| usual.price)).unwrap_or(product.price);
        let named = name.as_deref().or(usual.map(|usual| usual.name.as_str()));
        let name = named.unwrap_or(VARIANT_NAME_DEFAULT).to_owned();
        if variants.iter().any(|other| other.name == name) {
            wrong(format!("/variants/{index}/name"), "must not be the name of another variant".to_owned());
        }
        let currency: Currency = variants.first().map_or(price.currency, |first| first.price.currency);
        if price.currency != currency {
            let detail = format!("all variants of a drop share one currency, here {currency}");
            wrong(format!("/variants/{index}/price/currency"), detail);
        }
        debug_assert!(price.times(QUANTITY_PER_ORDER_MAX).is_some(), "prices are bounded by validation");
        variants.push(VariantSpec { id: id.unwrap_or_else(VariantId::new), name, stock, price });
    }
    if fields.is_empty() { Ok(variants) } else { Err(Failure::conflicting(fields)) }
}

fn view_of(handle: &DropHandle) -> DropView {
    let published = handle.cell.read();
    let (started_at, ended_at) = (published.started_at, published.ended_at);
    DropView { spec: Arc::clone(&published.spec), stock: stock_of(published), started_at, ended_at }
}

fn stock_of(published: DropSnapshot) -> StockView {
    StockView { status: published.status, variants: published.variants, position: published.position }
}

fn view_of_row(row: DropRow) -> DropView {
    let variants = row.variants.iter().map(|v| (v.id, v.stock)).collect::<Vec<(VariantId, StockCounts)>>();
    DropView {
        stock: StockView { status: row.status, variants: variants.into(), position: 0 },
        started_at: row.started_at,
        ended_at: row.ended_at,
        spec: Arc::new(row.spec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Attributes, ProductId, ProductVariant};

    fn money(amount: i64, currency: &str) -> Money {
        Money { amount, currency: currency.parse().unwrap() }
    }

    /// A product at 10 EUR, in S, in M and, at 12 EUR, in L.
    fn product() -> Product {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let own = [("S", None), ("M", None), ("L", Some(money(1_200, "EUR")))];
        Product {
            id: ProductId::new(),
            creator_id: CreatorId(uuid::Uuid::now_v7()),
            name: "Jacket".to_owned(),
            description: String::new(),
            price: money(1_000, "EUR"),
            images: Vec::new(),
            attributes: Attributes::new(),
            variants: own
                .map(|(name, price)| ProductVariant { id: VariantId::new(), name: name.to_owned(), price })
                .to_vec(),
            shipped: false,
            status: ProductStatus::Active,
            created_at: at,
            updated_at: at,
            version: 0,
        }
    }

    fn new(id: Option<VariantId>, name: Option<&str>, price: Option<Money>) -> NewVariant {
        NewVariant { id, name: name.map(str::to_owned), stock: 5, price }
    }

    fn pointers(variants: Vec<NewVariant>, product: &Product) -> Vec<String> {
        let failure = variants_of(variants, false, product).unwrap_err();
        failure.fields.into_iter().map(|field| field.pointer).collect()
    }

    #[test]
    fn a_products_variant_brings_its_id_its_name_and_its_price() {
        let product = product();
        let [small, medium, large] = [0, 1, 2].map(|index| product.variants[index].id);
        let asked = vec![
            new(Some(large), None, None),
            new(Some(small), None, None),
            new(Some(medium), Some("Medium"), Some(money(0, "EUR"))),
            new(None, None, None),
        ];
        let made = variants_of(asked, false, &product).unwrap();
        let shown: Vec<_> = made.iter().map(|variant| (variant.name.as_str(), variant.price.amount)).collect();
        assert_eq!(shown, [("L", 1_200), ("S", 1_000), ("Medium", 0), ("default", 1_000)]);
        assert_eq!([made[0].id, made[1].id, made[2].id], [large, small, medium]);
        assert!(product.variants.iter().all(|variant| variant.id != made[3].id));
    }

    #[test]
    fn what_does_not_fit_the_product_is_named() {
        let product = product();
        let small = Some(product.variants[0].id);
        assert_eq!(pointers(vec![new(Some(VariantId::new()), None, None)], &product), ["/variants/0/variant_id"]);
        assert_eq!(pointers(vec![new(None, Some("S"), None), new(small, None, None)], &product), ["/variants/1/name"]);
        let dollars = vec![new(small, None, Some(money(1, "USD"))), new(None, None, None)];
        assert_eq!(pointers(dollars, &product), ["/variants/1/price/currency"]);
        let alone = || vec![new(None, None, None)];
        assert!(variants_of(alone(), true, &product).is_err(), "a stock of which variant?");
        assert!(variants_of(alone(), true, &Product { variants: Vec::new(), ..product }).is_ok());
    }
}
