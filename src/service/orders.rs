//! Orders: place, pay, cancel, read.

mod answers;
mod delivery;
mod input;
mod lists;
mod payments;

pub(super) use answers::rejected;
pub use input::{NamedAddress, NewOrder, OrderInput, PaymentInput};
pub use payments::{PaymentHistory, PaymentView};

use super::addresses::references::References;
use super::failure::ask_failure;
use super::failure::ensure_projected;
use super::outcomes::OutcomeMetrics;
use super::recent::Recent;
use super::settle::{Charging, Settler};
use super::{Code, Failure, spawn_detached};
use crate::actors::inventory::refused_keys::RefusedKey;
use crate::actors::{Answer, AskError, DropHandle, KeyInUse, KeyTaken, Projection, Registry};
use crate::domain::{
    DropStatus, Fingerprint, KeyDigest, OrderId, OrderStatus, OrderView, Refusal, ReleaseReason, TraceId, UserId,
    VariantId,
};
use crate::engine::{Command, Outcome, Rejection, Reserve};
use crate::storage::Store;
use answers::{declined, first_answer, paid_answer, paid_order, refused};
use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use uuid::Uuid;

/// One request for an order.
struct OrderRequest<'a> {
    buyer: UserId,
    key: &'a str,
    new: &'a NewOrder,
    /// The drop, if it is in memory.
    drop: Option<Arc<DropHandle>>,
    /// Digest of the buyer's key.
    digest: KeyDigest,
    trace: TraceId,
    /// Digest of the client's network, if it is known.
    network: Option<NonZeroU32>,
}

impl OrderRequest<'_> {
    /// The request as a drop's refusals remember it.
    fn in_drop(&self, drop: &DropHandle) -> RefusedKey<'_> {
        (&self.digest, drop.spec.id, fingerprint_in(drop, self.new))
    }

    /// A refusal as its answer.
    fn refused(&self, refusal: Refusal) -> Keyed {
        Keyed { answer: Err(refused(refusal, self.trace)), replayed: false }
    }
}

/// Why a drop in memory gave no answer.
enum NotPlaced {
    /// The drop was evicted.
    Gone,
    /// The drop refused the order.
    Refused(Refusal),
    Failed(Failure),
}

impl From<AskError> for NotPlaced {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Gone => Self::Gone,
            error => Self::Failed(ask_failure(error)),
        }
    }
}

impl From<Failure> for NotPlaced {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn may_be_decided(failure: &Failure) -> bool {
    matches!(failure.code, Code::OutcomeUnknown | Code::PaymentTimeout | Code::PaymentInProgress)
}

fn is_unpaid(failure: &Failure) -> bool {
    matches!(failure.code, Code::PaymentDeclined | Code::PaymentActionRequired | Code::PaymentUnavailable)
}

fn taken(why: KeyTaken) -> Failure {
    match why {
        KeyTaken::Running => Failure::retry(Code::RequestInProgress, 1),
        KeyTaken::ByAnotherDrop => Failure::new(Code::IdempotencyKeyReused),
    }
}

/// The answer to a request with a key, and whether it is a replay.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The first answer, unchanged, if the key made an order. Otherwise a refusal is the current one; that of a
    /// one-call payment stays the same for a while.
    pub answer: Result<Box<OrderView>, Failure>,
    /// Whether an earlier request got this answer.
    pub replayed: bool,
}

/// The order use cases.
#[derive(Clone)]
pub struct Orders {
    store: Arc<dyn Store>,
    registry: Registry,
    projection: Projection,
    settler: Settler,
    outcomes: OutcomeMetrics,
    recent: Recent,
    /// A hash with a new seed in each process.
    networks: DefaultHashBuilder,
    references: References,
}

impl Orders {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, registry: Registry, projection: Projection, settler: Settler) -> Self {
        Self {
            store,
            registry,
            projection,
            settler,
            outcomes: OutcomeMetrics::default(),
            recent: Recent::default(),
            networks: DefaultHashBuilder::default(),
            // Nobody has the key: without `with_references` no address can be named.
            references: References::new(&rand::random::<[u8; 32]>()),
        }
    }

    /// With the server's references of addresses.
    #[must_use]
    pub fn with_references(self, references: References) -> Self {
        Self { references, ..self }
    }

    /// Places an order under an idempotency key (1 to 255 printable ASCII characters, unquoted). `network`: the
    /// client's network, see [`super::caller::network`].
    ///
    /// # Errors
    /// Outer: nothing was decided, or the outcome is open (retry with the key). Inner: the answer. Only an order stays
    /// with its key.
    pub fn place<'a>(
        &'a self,
        buyer: UserId,
        key: &'a str,
        new: &'a NewOrder,
        trace: TraceId,
        network: Option<u128>,
    ) -> impl Future<Output = Result<Keyed, Failure>> + 'a {
        // Not an `async fn`: its future would keep the arguments besides `asked`.
        let (drop, digest, network) = (self.registry.get(new.drop_id), KeyDigest::of(buyer, key), self.tag_of(network));
        let asked = OrderRequest { buyer, key, new, drop, digest, trace, network };
        async move {
            let result = self.place_once(&asked).await;
            match &result {
                Ok(Keyed { answer: Ok(_), replayed }) => self.outcomes.count_order(*replayed),
                Ok(Keyed { replayed: true, .. }) => self.outcomes.count_order(true),
                Ok(Keyed { answer: Err(failure), .. }) | Err(failure) => self.outcomes.count_refusal(failure.code),
            }
            result
        }
    }

    /// A digest of a network: enough to count it, but it reveals nothing.
    fn tag_of(&self, network: Option<u128>) -> Option<NonZeroU32> {
        let hash = self.networks.hash_one(network?);
        Some(NonZeroU32::MIN.saturating_add((hash >> 32) as u32))
    }

    /// What asks the payment gateways.
    #[must_use]
    pub fn settler(&self) -> &Settler {
        &self.settler
    }

    /// Counters of the answers.
    #[must_use]
    pub fn outcomes(&self) -> &OutcomeMetrics {
        &self.outcomes
    }

    async fn place_once(&self, asked: &OrderRequest<'_>) -> Result<Keyed, Failure> {
        if asked.new.address.is_some() && asked.new.sent_to().is_none() {
            return Err(Failure::new(Code::AddressReferenceInvalid));
        }
        self.check_method(asked.new.payment_method.as_deref())?;
        self.check_price(asked)?;
        if let Some(keyed) = asked.drop.as_ref().and_then(|drop| self.refuse_at_once(drop, asked).transpose()) {
            return keyed;
        }
        if asked.new.payment_method.is_none() {
            return self.place_claimed(asked).await;
        }
        let (this, key, new, drop) = (self.clone(), asked.key.to_owned(), asked.new.clone(), asked.drop.clone());
        let OrderRequest { buyer, digest, trace, network, .. } = *asked;
        let paying = async move {
            this.place_claimed(&OrderRequest { buyer, key: &key, new: &new, drop, digest, trace, network }).await
        };
        spawn_detached(unknown, paying).await
    }

    /// Refuses a request without asking the drop, if the published snapshot has nothing to sell and the key has made no
    /// order.
    fn refuse_at_once(&self, drop: &DropHandle, asked: &OrderRequest<'_>) -> Result<Option<Keyed>, Failure> {
        let Some(refusal) = drop.cell.refuses(asked.new.variant_id) else { return Ok(None) };
        if self.registry.is_claimed(asked.digest) {
            return Ok(None);
        }
        self.remember_refused(drop, asked, refusal)?;
        if asked.new.payment_method.is_some() {
            // A concurrent copy of this request either finds the remembered refusal, or its claim is visible here.
            fence(Ordering::SeqCst);
            if self.registry.is_claimed(asked.digest) {
                return Ok(None);
            }
        }
        self.registry.metrics().count_refused();
        Ok(Some(asked.refused(refusal)))
    }

    /// Remembers the refusal of a one-call payment; of any other request nothing is kept.
    fn remember_refused(&self, drop: &DropHandle, asked: &OrderRequest<'_>, refusal: Refusal) -> Result<(), Failure> {
        if asked.new.payment_method.is_none() {
            return Ok(());
        }
        let now = self.registry.clock().steady();
        let remembered = self.registry.refused_keys().remember(asked.in_drop(drop), refusal, now);
        if remembered { Ok(()) } else { Err(Failure::retry(Code::Overloaded, 1)) }
    }

    /// For a one-call payment whose key has made no order: it may be a late copy of a refused request.
    fn check_late_copy(&self, drop: &DropHandle, asked: &OrderRequest<'_>) -> Result<Option<Keyed>, Failure> {
        let now = self.registry.clock().steady();
        fence(Ordering::SeqCst);
        if let Some(refusal) = self.registry.refused_keys().find(asked.in_drop(drop), now) {
            return Ok(Some(Keyed { replayed: true, ..asked.refused(refusal) }));
        }
        match drop.may_have_refused(now) {
            None => Ok(None),
            Some(left_ms) => Err(Failure {
                detail: "the server has just started: order without payment_method and pay then, or try again later"
                    .into(),
                ..Failure::retry(Code::Overloaded, u32::try_from(left_ms).unwrap_or(u32::MAX).div_ceil(1_000))
            }),
        }
    }

    async fn place_claimed(&self, asked: &OrderRequest<'_>) -> Result<Keyed, Failure> {
        let drop = asked.drop.as_ref();
        let key = self.registry.claim(asked.digest, asked.new.drop_id).map_err(taken)?;
        if let Some(drop) = drop.filter(|_| asked.new.payment_method.is_some() && key.is_fresh())
            && let Some(answer) = self.check_late_copy(drop, asked).transpose()
        {
            key.release();
            return answer;
        }
        if key.is_fresh()
            && let Err(failure) = self.check_end(asked)
        {
            key.release();
            return Err(failure);
        }
        let placed = match drop {
            Some(drop) => self.place_in(drop, asked).await,
            None => Err(NotPlaced::Gone),
        };
        match placed {
            Ok(keyed) => {
                key.remembered();
                return Ok(keyed);
            }
            Err(NotPlaced::Refused(refusal)) => {
                let remembered = drop.map_or(Ok(()), |drop| self.remember_refused(drop, asked, refusal));
                key.release();
                return remembered.map(|()| asked.refused(refusal));
            }
            Err(NotPlaced::Failed(failure)) => {
                if !may_be_decided(&failure) {
                    key.release();
                }
                return Err(failure);
            }
            Err(NotPlaced::Gone) => {}
        }
        // Rare branches are boxed, so that the common future is small: thousands of them wait in a rush.
        Box::pin(self.place_late(key, asked)).await
    }

    /// If the drop does not remember the key, the claim is released too; otherwise the claims would only grow.
    async fn place_late(&self, key: KeyInUse<'_>, asked: &OrderRequest<'_>) -> Result<Keyed, Failure> {
        let result = self.place_settled(asked).await;
        match &result {
            Ok(_) if self.registry.get(asked.new.drop_id).is_some() => key.remembered(),
            Err(NotPlaced::Failed(failure)) if may_be_decided(failure) => {}
            _ => key.release(),
        }
        match result {
            Ok(keyed) => Ok(keyed),
            Err(NotPlaced::Refused(refusal)) => Ok(asked.refused(refusal)),
            Err(NotPlaced::Failed(failure)) => Err(failure),
            Err(NotPlaced::Gone) => Err(Failure::retry(Code::Overloaded, 1)),
        }
    }

    async fn place_in(&self, drop: &Arc<DropHandle>, asked: &OrderRequest<'_>) -> Result<Keyed, NotPlaced> {
        let new = asked.new;
        let reserve = Box::new(Reserve {
            order: OrderId::for_drop(new.drop_id),
            buyer: asked.buyer,
            key: asked.key.into(),
            digest: asked.digest,
            fingerprint: fingerprint_in(drop, new),
            variant: new.variant_id,
            quantity: new.quantity,
            payment_method: new.payment_method.as_deref().and_then(|name| self.settler.payable(name)),
            delivery: delivery::delivery(drop, asked)?,
            network: asked.network,
        });
        // A new order that pays at once is claimed before it exists: no other request can charge it.
        let charging = reserve.payment_method.as_ref().and_then(|_| self.settler.claim(reserve.order));
        // Destructured in place: a variable would enlarge every waiting future.
        let (order, replayed) = match drop.ask(Command::Reserve(reserve)).await? {
            Answer { outcome: Outcome::Order { order, replayed }, sequence } => {
                self.recent.note(asked.buyer, sequence);
                (order, replayed)
            }
            Answer { outcome: Outcome::Refused(refusal), .. } => return Err(NotPlaced::Refused(refusal)),
            Answer { outcome, .. } => return Err(rejected(&outcome).into()),
        };
        match new.payment_method.as_deref().filter(|_| order.status == OrderStatus::Reserved) {
            Some(method) => {
                let charging = charging.filter(|_| !replayed);
                match Box::pin(self.pay_placed(charging, drop, order, method, asked.trace)).await {
                    Ok(order) => Ok(Keyed { answer: first_answer(order, true), replayed }),
                    // The order is there, and can still be paid.
                    Err(failure) if is_unpaid(&failure) => Ok(Keyed { answer: Err(failure), replayed }),
                    Err(failure) => Err(failure.into()),
                }
            }
            None => Ok(Keyed { answer: first_answer(order, new.payment_method.is_some()), replayed }),
        }
    }

    async fn pay_placed(
        &self,
        charging: Option<Charging>,
        drop: &Arc<DropHandle>,
        order: Box<OrderView>,
        method: &str,
        trace: TraceId,
    ) -> Result<Box<OrderView>, Failure> {
        let paid = match charging {
            Some(charging) => self.settler.charge(charging, drop, &order, method, trace).await?,
            // A copy of the request tries no other card than the request did.
            None if let Some(reason) = order.payment.declined.filter(|_| order.payment_pending.is_none()) => {
                return Err(declined(order.id, reason));
            }
            None => {
                let method = self.settler.gateways().method(method).ok_or_else(method_unknown)?;
                self.settler.begin_and_charge(drop, order.id, method, trace).await?
            }
        };
        paid_order(paid, order.id)
    }

    /// Answers for a drop that is not in memory: it never was, it sleeps, or it is settled and SQL has all its records.
    async fn place_settled(
        &self,
        &OrderRequest { buyer, key, new, .. }: &OrderRequest<'_>,
    ) -> Result<Keyed, NotPlaced> {
        ensure_projected(&self.projection).await?;
        let row = self.store.drop_row(new.drop_id).await.map_err(Failure::from)?;
        let row = row.ok_or_else(|| Failure::new(Code::DropNotFound))?;
        let fingerprint = fingerprint(new, row.spec.variants.iter().map(|variant| variant.id));
        match (self.store.order_of_key(buyer, key).await.map_err(Failure::from)?, row.status) {
            (Some(order), _) if order.fingerprint == fingerprint => {
                Ok(Keyed { answer: first_answer(Box::new(order), new.payment_method.is_some()), replayed: true })
            }
            (Some(_), _) => Err(Failure::new(Code::IdempotencyKeyReused).into()),
            // The drop sleeps until its start is near.
            (None, DropStatus::Scheduled) => {
                let starts_at = row.spec.starts_at;
                Err(rejected(&Outcome::Rejected(Rejection::NotStarted { starts_at })).into())
            }
            (None, DropStatus::Cancelled) => Err(NotPlaced::Refused(Refusal::DropCancelled)),
            (None, _) => Err(NotPlaced::Refused(Refusal::Ended)),
        }
    }

    /// Pays a reserved order. A confirmed one returns the same answer again.
    ///
    /// # Errors
    /// `order_not_found`, `payment_declined`, `hold_expired`, `order_not_reserved`, `payment_in_progress`,
    /// `payment_timeout`, `payment_method_unknown`.
    pub async fn pay(&self, buyer: UserId, id: OrderId, method: String, trace: TraceId) -> Result<OrderView, Failure> {
        let method = self.settler.gateways().method(&method).ok_or_else(method_unknown)?;
        let (handle, order) = self.find(buyer, id).await?;
        let Some(handle) = handle.filter(|_| order.status == OrderStatus::Reserved) else {
            return paid_answer(Box::new(order)).map(|order| *order);
        };
        let settler = self.settler.clone();
        let paid = spawn_detached(unknown, async move { settler.begin_and_charge(&handle, id, method, trace).await });
        paid_answer(paid_order(paid.await?, id)?).map(|order| *order)
    }

    /// Releases a hold. Repeated: unchanged.
    ///
    /// # Errors
    /// `order_not_found`, `order_already_confirmed`, `payment_in_progress`.
    pub async fn cancel(&self, buyer: UserId, id: OrderId, trace: TraceId) -> Result<OrderView, Failure> {
        let (handle, order) = self.find(buyer, id).await?;
        match (handle, order.status) {
            (_, OrderStatus::Confirmed | OrderStatus::Refunded) => Err(Failure::new(Code::OrderAlreadyConfirmed)),
            (_, OrderStatus::Released) | (None, _) => Ok(order),
            (Some(_), OrderStatus::Reserved) if self.settler.is_charging(id) => {
                Err(Failure::retry(Code::PaymentInProgress, 1))
            }
            (Some(handle), OrderStatus::Reserved) => {
                let command = Command::Release { order: id, reason: ReleaseReason::Cancelled, trace };
                match handle.ask(command).await.map_err(ask_failure)?.outcome {
                    Outcome::Order { order, .. } => {
                        // A payment that waits for its buyer is cancelled.
                        self.settler.news(&handle, &order);
                        Ok(*order)
                    }
                    outcome => Err(rejected(&outcome)),
                }
            }
        }
    }

    /// One of the buyer's own orders.
    ///
    /// # Errors
    /// `order_not_found`, also for orders of others.
    pub async fn get(&self, buyer: UserId, id: OrderId) -> Result<OrderView, Failure> {
        self.find(buyer, id).await.map(|(_, order)| order)
    }

    /// An order of this buyer and, if its drop is in memory, the drop.
    async fn find(&self, buyer: UserId, id: OrderId) -> Result<(Option<Arc<DropHandle>>, OrderView), Failure> {
        let (handle, order) = locate(&self.registry, &*self.store, &self.projection, id).await?;
        // Orders of others look like missing ones: their existence is not revealed.
        if order.buyer == buyer { Ok((handle, order)) } else { Err(Failure::new(Code::OrderNotFound)) }
    }

    fn check_method(&self, method: Option<&str>) -> Result<(), Failure> {
        match method {
            Some(method) if self.settler.gateways().accepting(method).is_none() => {
                Err(Failure::new(Code::PaymentMethodUnknown))
            }
            _ => Ok(()),
        }
    }

    /// Where nothing can be paid, nothing is held that costs money.
    fn check_price(&self, asked: &OrderRequest<'_>) -> Result<(), Failure> {
        if !self.settler.gateways().is_empty() {
            return Ok(());
        }
        let Some(drop) = &asked.drop else { return Ok(()) };
        let wanted = |id| asked.new.variant_id.is_none_or(|wanted| wanted == id);
        let costs = drop.spec.variants.iter().any(|variant| wanted(variant.id) && !variant.price.is_zero());
        let costs = costs || drop.spec.shipping.as_ref().is_some_and(|table| table.may_cost());
        if costs { Err(Failure::new(Code::PaymentsOff)) } else { Ok(()) }
    }
}

/// An order and, if its drop is in memory, the drop.
pub(super) async fn locate(
    registry: &Registry,
    store: &dyn Store,
    projection: &Projection,
    id: OrderId,
) -> Result<(Option<Arc<DropHandle>>, OrderView), Failure> {
    for handle in registry.of_order(id) {
        match handle.ask(Command::Find { order: id }).await {
            Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) => return Ok((Some(handle), *order)),
            Ok(_) | Err(AskError::Gone) => {}
            Err(error) => return Err(ask_failure(error)),
        }
    }
    ensure_projected(projection).await?;
    let order = store.order(id).await?.ok_or_else(|| Failure::new(Code::OrderNotFound))?;
    Ok((None, order))
}

/// The fingerprint of a request for a drop in memory.
fn fingerprint_in(drop: &DropHandle, new: &NewOrder) -> Fingerprint {
    fingerprint(new, drop.spec.variants.iter().map(|variant| variant.id))
}

fn fingerprint(new: &NewOrder, mut variants: impl Iterator<Item = VariantId>) -> Fingerprint {
    // A request that omits the only variant equals one that names it.
    let only = variants.next().filter(|_| variants.next().is_none());
    let variant = new.variant_id.or(only).unwrap_or(VariantId(Uuid::nil()));
    let fingerprint = Fingerprint::of_order(new.drop_id, variant, new.quantity, new.payment_method.as_deref());
    new.sent_to().map_or(fingerprint, |sent_to| fingerprint.sent_to(sent_to.address))
}

fn method_unknown() -> Failure {
    Failure::new(Code::PaymentMethodUnknown)
}

/// The failure if a task that moves money panics.
fn unknown() -> Failure {
    ask_failure(AskError::OutcomeUnknown)
}
