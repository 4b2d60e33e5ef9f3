//! Plays a story. Its first line sets the drop, every other line is one step:
//!
//! ```text
//! drop stock=M:2,S:1 price=1999 limit=2 low=1 hold=60s starts=0s ends=100s holds=3 network=9 cool=30s
//! at 1s  alice reserves 1 of M with k1  -> reserved, M available 1 held 1 sold 0  | reserved stock_low
//! ```
//!
//! Left of `->` is a buyer or administrator and a command; a step without `at` happens at the time of the previous one.
//! Right of it is the outcome, then what holds afterwards, then after `|` every event that the step emitted, in order
//! (none without `|`). `clock steps back 15s -> stepped` (or `ahead`) sets the wall clock, which starts and ends
//! follow; `at` goes on counting elapsed time, and so do holds and `due`.
//!
//! A variant's stock that is not mentioned must not have changed, and a drop is settled only where the line says so.
//!
//! After each step the invariants are checked, the events are folded into a fresh state and must give the same one, and
//! the story is played again as often as it has steps, with the drop replayed from its journal or restored from its
//! rows after one of them.

use super::reopen::{assert_same, replayed, restored};
use crate::domain::{
    CreatorId, DeclineReason, DropEvent, DropId, DropRecord, DropSpec, Fingerprint, KeyDigest, Moment, Money, OrderId,
    OrderStatus, OrderView, PaymentEnd, PaymentMethod, PaymentProvider, Principal, ProductId, ReleaseReason,
    StockBoard, StockCounts, Timestamp, TraceId, UserId, VariantId, VariantSpec,
};
use crate::engine::admission::HoldPolicy;
use crate::engine::state::Deadlines;
use crate::engine::{Command, DropState, NewEnd, Outcome, Rejection, Reserve};
use std::num::NonZeroU32;
use uuid::Uuid;

const EPOCH_MS: i64 = 1_767_225_600_000;
/// The variant of a drop whose story names none.
const ONLY: &str = "only";

/// Plays a story without a restart.
pub fn play_once(story: &str) {
    let (head, steps) = told(story);
    Stage::new(head).play(&steps, None);
}

fn told(story: &str) -> (&str, Vec<&str>) {
    let mut lines = story.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    (lines.next().expect("a story begins with its drop"), lines.collect())
}

/// Plays a story without a restart, and once for each way to restart the drop after each of its steps.
pub fn play(story: &str) {
    let (head, steps) = told(story);
    let steps = steps.as_slice();
    Stage::new(head).play(steps, None);
    // A restart resets the steady clock: the model tests cover a restart after a clock step.
    let restarts = if story.contains("clock steps") { 0 } else { steps.len().saturating_sub(1) };
    for restart in 0..restarts {
        Stage::new(head).play(steps, Some((restart, Reopen::Replay)));
        Stage::new(head).play(steps, Some((restart, Reopen::Restore)));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reopen {
    Replay,
    Restore,
}

struct Stage {
    spec: DropSpec,
    policy: HoldPolicy,
    state: DropState,
    board: StockBoard,
    journal: Vec<DropRecord>,
    /// The stock according to the story.
    told: Vec<StockCounts>,
    /// By the steady clock.
    now: Timestamp,
    /// Sum of all steps of the wall clock.
    stepped_ms: i64,
    asked: u128,
    reopened: bool,
}

impl Stage {
    fn new(head: &str) -> Self {
        let (spec, policy) = parse_drop(head);
        let mut state = DropState::scheduled(spec.clone());
        state.set_hold_policy(policy);
        Self {
            state,
            policy,
            board: StockBoard::new(&spec),
            journal: Vec::new(),
            told: spec.variants.iter().map(|variant| StockCounts::full(variant.stock)).collect(),
            now: spec.created_at,
            stepped_ms: 0,
            asked: 0,
            reopened: false,
            spec,
        }
    }

    fn play(mut self, steps: &[&str], restart: Option<(usize, Reopen)>) {
        for (index, line) in steps.iter().enumerate() {
            // Shown only if the test fails.
            println!("{line}");
            self.step(line);
            if let Some((_, reopen)) = restart.filter(|(at, _)| *at == index) {
                println!("-- {reopen:?} --");
                self.state = match reopen {
                    Reopen::Replay => replayed(&self.spec, &self.journal),
                    Reopen::Restore => restored(&self.state, &self.journal),
                };
                self.state.set_hold_policy(self.policy);
                self.state.assert_invariants();
                self.reopened = true;
            }
        }
        println!("== again ==");
    }

    fn step(&mut self, line: &str) {
        let (ask, answer) = line.split_once("->").unwrap_or_else(|| panic!("no answer in {line:?}"));
        let (answer, events) = answer.split_once('|').unwrap_or((answer, ""));
        let before = self.journal.len();
        let mut words: Vec<&str> = ask.split_whitespace().collect();
        if words.first() == Some(&"at") {
            self.now = at(words[1]);
            words.drain(..2);
        }
        let outcome = self.ask(&words);
        let mut clauses = answer.split(',').map(str::trim);
        assert_eq!(outcome, clauses.next().unwrap_or_default(), "outcome of {line:?}");
        let told = events.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&self.journal[before..]), told, "events of {line:?}");
        let clauses: Vec<&str> = clauses.collect();
        for clause in &clauses {
            self.check(clause);
        }
        let stock: Vec<StockCounts> = self.state.stock().map(|(_, counts)| counts).collect();
        assert_eq!(stock, self.told, "stock after {line:?}");
        assert_eq!(self.state.is_settled(), clauses.contains(&"settled"), "settled after {line:?}");
        self.state.assert_invariants();
        let again = replayed(&self.spec, &self.journal);
        assert_same(&self.state, &again);
        for order in again.orders() {
            assert_eq!(self.state.strikes_of(order.buyer), again.strikes_of(order.buyer), "strikes after {line:?}");
        }
    }

    // --- asking -----------------------------------------------------------------------------------------------------

    fn ask(&mut self, words: &[&str]) -> String {
        if let ["clock", "steps", way, by] = words {
            self.stepped_ms += if *way == "back" { -millis(by) } else { millis(by) };
            return "stepped".to_owned();
        }
        let ["crowd", size, rest @ ..] = words else {
            let command = self.command(words);
            return self.apply(command);
        };
        let mut outcomes = Vec::new();
        for index in 0..number(size) {
            let name = format!("c{index}");
            let mut words = vec![name.as_str()];
            words.extend(rest);
            let command = self.command(&words);
            outcomes.push(self.apply(command));
        }
        outcomes.dedup();
        format!("all {}", outcomes.join(" then "))
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.now.plus_millis(self.stepped_ms), steady: self.now }
    }

    /// The next deadline of either clock, by the steady one.
    fn due(&self) -> Option<Timestamp> {
        let Deadlines { wall, steady } = self.state.deadlines();
        wall.map(|at| at.plus_millis(-self.stepped_ms)).into_iter().chain(steady).min()
    }

    fn apply(&mut self, command: Command) -> String {
        let (now, mut events) = (self.moment(), Vec::new());
        let (outcome, at) = self.state.apply(now, command, &mut events);
        assert_eq!(at, now.wall, "events carry the time of day");
        for event in events {
            let record = DropRecord { drop: self.spec.id, at, event };
            if let DropEvent::Reserved { expires_at, .. } = &record.event {
                let hold_ms = i64::from(self.spec.hold_ms);
                assert_eq!(*expires_at, now.wall.plus_millis(hold_ms), "what a buyer is told fits their clock");
            }
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(DropRecord::decode(&bytes).expect("a record"), record);
            assert!(self.board.fold(&record.event).is_some(), "{:?} does not fit the stock board", record.event);
            self.journal.push(record);
        }
        assert_eq!(self.board.status, self.state.status());
        assert!(self.board.variants.iter().copied().eq(self.state.stock()), "the stock board differs");
        self.render(&outcome)
    }

    fn command(&mut self, words: &[&str]) -> Command {
        self.asked += 1;
        let trace = TraceId(Uuid::from_u128(self.asked));
        match *words {
            ["drop", "starts"] => Command::Start,
            ["drop", "ends"] => Command::End,
            ["drop", "is", "cancelled"] => Command::Cancel,
            ["drop", "ticks"] => Command::Tick,
            ["drop", "moves", "to", starts] => {
                Command::Reschedule { starts_at: Some(at(starts)), ends_at: NewEnd::Unchanged }
            }
            ["drop", "moves", "to", starts, "until", ends] => {
                Command::Reschedule { starts_at: Some(at(starts)), ends_at: NewEnd::At(at(ends)) }
            }
            ["drop", "ends", "at", ends] => Command::Reschedule { starts_at: None, ends_at: NewEnd::At(at(ends)) },
            ["drop", "has", "no", "end"] => Command::Reschedule { starts_at: None, ends_at: NewEnd::Never },
            ["admin", ref rest @ ..] => {
                let (user, origin) = (user_id("admin"), "192.0.2.7".into());
                let actor = Principal { user, admin: true, origin, trace };
                Command::AuditedCommand { actor, request: None, command: Box::new(self.command(rest)) }
            }
            ["drop", "restocks", quantity] => Command::Restock { variant: None, quantity: number(quantity) },
            ["drop", "restocks", quantity, "of", variant] => {
                Command::Restock { variant: Some(variant_id(variant)), quantity: number(quantity) }
            }
            [buyer, "reserves", quantity, ref rest @ ..] => self.reserve(buyer, quantity, rest),
            [buyer, "begins", key, "by", method] => {
                Command::BeginPayment { order: self.order(buyer, key), method: method.into() }
            }
            [buyer, "pays", key, "as", payment] => {
                Command::Confirm { order: self.order(buyer, key), payment_ref: payment.into() }
            }
            [buyer, "begins", key, "by", method, "of", "stripe"] => {
                let method = PaymentMethod { provider: PaymentProvider::Stripe, name: method.into() };
                Command::BeginPayment { order: self.order(buyer, key), method }
            }
            [buyer, "authorizes", key, "as", payment] => {
                Command::Authorize { order: self.order(buyer, key), payment_ref: payment.into() }
            }
            [buyer, "must", "act", "on", key, "as", payment] => {
                let (order, attempt) = self.attempt(buyer, key);
                Command::AwaitPayment { order, attempt, reference: payment.into(), action: true }
            }
            [buyer, "waits", "for", key, "as", payment] => {
                let (order, attempt) = self.attempt(buyer, key);
                Command::AwaitPayment { order, attempt, reference: payment.into(), action: false }
            }
            [buyer, "is", "declined", key] => {
                let (order, attempt) = self.attempt(buyer, key);
                Command::EndPayment { order, attempt, end: PaymentEnd::Declined(DeclineReason::ExpiredCard) }
            }
            [buyer, "is", "captured", key] => Command::SettleCapture { order: self.order(buyer, key) },
            [buyer, "fails", "to", "capture", key] => Command::FailCapture { order: self.order(buyer, key) },
            ["captures", "due"] => Command::CapturesDue { after: None, limit: 10 },
            [buyer, "was", "not", "charged", "for", key] => {
                let (order, attempt) = self.attempt(buyer, key);
                Command::EndPayment { order, attempt, end: PaymentEnd::NotMade }
            }
            [buyer, "fails", key] => {
                Command::Release { order: self.order(buyer, key), reason: ReleaseReason::PaymentFailed, trace }
            }
            [buyer, "cancels", key] => {
                Command::Release { order: self.order(buyer, key), reason: ReleaseReason::Cancelled, trace }
            }
            [buyer, "refunds", key] => Command::Refund { order: self.order(buyer, key) },
            [buyer, "settles", key] => Command::SettleRefund { order: self.order(buyer, key) },
            [buyer, "finds", key] => Command::Find { order: self.order(buyer, key) },
            [buyer, "lists"] => Command::OrdersOf { buyer: user_id(buyer) },
            _ => panic!("nobody understands {words:?}"),
        }
    }

    /// An order and its last attempt to pay.
    fn attempt(&self, buyer: &str, key: &str) -> (OrderId, u32) {
        let order = self.order(buyer, key);
        (order, self.state.order(order).map_or(0, |order| order.payment.attempts))
    }

    fn reserve(&self, buyer: &str, quantity: &str, rest: &[&str]) -> Command {
        let (mut variant, mut key, mut method, mut network) = (None, "", None, None);
        for pair in rest.chunks(2) {
            match *pair {
                ["of", name] => variant = Some(variant_id(name)),
                ["with", text] => key = text,
                ["by", name] => method = Some(name),
                ["from", name] => network = NonZeroU32::new(number(name)),
                _ => panic!("nobody understands {rest:?}"),
            }
        }
        let (buyer, quantity) = (user_id(buyer), number(quantity));
        let named = variant.unwrap_or(VariantId(Uuid::nil()));
        Command::Reserve(Box::new(Reserve {
            order: OrderId(Uuid::from_u128(self.asked)),
            buyer,
            key: key.into(),
            digest: KeyDigest::of(buyer, key),
            fingerprint: Fingerprint::of_order(self.spec.id, named, quantity, method),
            variant,
            quantity,
            payment_method: method.map(Into::into),
            network,
            delivery: None,
        }))
    }

    /// The order that a buyer placed under a key; an unknown id if there is none.
    fn order(&self, name: &str, text: &str) -> OrderId {
        let user = user_id(name);
        let placed = self.journal.iter().find_map(|record| match &record.event {
            DropEvent::Reserved { order, buyer, key, .. } if *buyer == user && &**key == text => Some(*order),
            _ => None,
        });
        placed.unwrap_or(OrderId(Uuid::max()))
    }

    // --- checking ---------------------------------------------------------------------------------------------------

    fn check(&mut self, clause: &str) {
        match *clause.split_whitespace().collect::<Vec<_>>() {
            ["settled"] => {}
            ["due", "never"] => assert_eq!(self.due(), None),
            ["due", "now"] => assert!(self.due().is_some_and(|due| due <= self.now)),
            ["due", time] => {
                let due = self.due().expect("something is due");
                // A reopened drop may still have settled holds in its queue, and then wakes up once too early.
                assert!(due == at(time) || (self.reopened && due < at(time)), "due {due}");
            }
            ["owes", ref payments @ ..] => {
                assert!(self.state.refunds_due().map(|(_, payment)| payment).eq(payments.iter().copied()));
            }
            ["available", available, "held", held, "sold", sold] => self.tell(ONLY, available, held, sold),
            [name, "available", available, "held", held, "sold", sold] => self.tell(name, available, held, sold),
            _ => panic!("nobody understands {clause:?}"),
        }
    }

    fn tell(&mut self, name: &str, available: &str, held: &str, sold: &str) {
        let (available, held, sold) = (number(available), number(held), number(sold));
        let id = variant_id(name);
        let index = self.spec.variants.iter().position(|variant| variant.id == id).expect("a variant of the drop");
        self.told[index] = StockCounts { total: available + held + sold, available, held, sold };
    }

    fn render(&self, outcome: &Outcome) -> String {
        let again = |replayed: bool| if replayed { " again" } else { "" };
        match outcome {
            Outcome::Order { order, replayed } => format!("{}{}", render_order(order), again(*replayed)),
            Outcome::Refused(refusal) => {
                let free = refusal.available().map(|units| format!(" {units}")).unwrap_or_default();
                format!("refused {}{free}", refusal.as_str())
            }
            Outcome::Orders(orders) if orders.is_empty() => "no orders".to_owned(),
            Outcome::Orders(orders) => {
                let keys: Vec<&str> = orders.iter().map(|order| self.key_of(order.id)).collect();
                format!("orders {}", keys.join(" "))
            }
            Outcome::Done(status) => format!("done {}", status.as_str()),
            Outcome::Unchanged(status) => format!("already {}", status.as_str()),
            Outcome::Rejected(Rejection::OrderIs(status)) => format!("no: order is {}", status.as_str()),
            Outcome::Rejected(Rejection::NotStarted { starts_at }) => {
                assert_eq!(*starts_at, self.state.spec().starts_at);
                "no: not started".to_owned()
            }
            Outcome::Rejected(Rejection::CoolingDown { until, left_ms }) => {
                assert_eq!(*until, self.moment().wall.plus_millis((*left_ms).into()));
                format!("no: {}s to cool down", left_ms.div_ceil(1_000))
            }
            Outcome::Rejected(Rejection::InvalidTimes) => "no: invalid times".to_owned(),
            Outcome::Rejected(Rejection::DropIs(status)) => format!("no: drop is {}", status.as_str()),
            Outcome::Rejected(rejection) => format!("no: {rejection:?}"),
        }
    }

    fn key_of(&self, id: OrderId) -> &str {
        let placed = self.journal.iter().find_map(|record| match &record.event {
            DropEvent::Reserved { order, key, .. } if *order == id => Some(&**key),
            _ => None,
        });
        placed.expect("an order that was placed")
    }
}

fn render_order(order: &OrderView) -> String {
    let mut text = order.status.as_str().to_owned();
    assert_eq!(order.release_reason.is_some(), order.status == OrderStatus::Released);
    if let Some(reason) = order.release_reason {
        text += &format!(" {}", reason.as_str());
    }
    if let Some(method) = &order.payment_pending {
        text += &format!(" paying {method}");
    }
    if order.payment.capture_due {
        text += " to capture";
    }
    if let Some(cause) = order.refund_due {
        text += &format!(" owed {}", cause.as_str());
    }
    if order.refunded_at.is_some() && order.status != OrderStatus::Refunded {
        text += " paid back";
    }
    text
}

/// The names of events in order, `released x3` for three of the same in a row.
fn names(records: &[DropRecord]) -> String {
    let mut runs: Vec<(&str, usize)> = Vec::new();
    for record in records {
        let name = name(&record.event);
        match runs.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => runs.push((name, 1)),
        }
    }
    let texts = runs.iter().map(|(name, n)| if *n == 1 { (*name).to_owned() } else { format!("{name} x{n}") });
    texts.collect::<Vec<_>>().join(" ")
}

/// The name of an event in stories.
pub fn name(event: &DropEvent) -> &'static str {
    match event {
        DropEvent::Scheduled(_) => "scheduled",
        DropEvent::Started => "started",
        DropEvent::Ended => "ended",
        DropEvent::Cancelled => "cancelled",
        DropEvent::Restocked { .. } => "restocked",
        DropEvent::StockLow { .. } => "stock_low",
        DropEvent::SoldOut => "sold_out",
        DropEvent::BackInStock => "back_in_stock",
        DropEvent::Reserved { .. } => "reserved",
        DropEvent::Refused { .. } => "refused",
        DropEvent::PaymentStarted { .. } => "payment_started",
        DropEvent::PaymentEnded { .. } => "payment_ended",
        DropEvent::PaymentWaits { .. } => "payment_waits",
        DropEvent::HoldExtended { .. } => "hold_extended",
        DropEvent::PaymentCaptured { .. } => "payment_captured",
        DropEvent::Rescheduled { .. } => "rescheduled",
        DropEvent::AuditedCommand { .. } => "by_hand",
        DropEvent::Confirmed { retaken: false, .. } => "confirmed",
        DropEvent::Confirmed { retaken: true, .. } => "retaken",
        DropEvent::Released { .. } => "released",
        DropEvent::RefundDue { .. } => "refund_due",
        DropEvent::Refunded { .. } => "refunded",
    }
}

// --- words ----------------------------------------------------------------------------------------------------------

fn parse_drop(head: &str) -> (DropSpec, HoldPolicy) {
    let mut policy = HoldPolicy::OFF;
    let mut words = head.split_whitespace();
    assert_eq!(words.next(), Some("drop"), "a story begins with its drop");
    let mut spec = DropSpec {
        id: DropId(Uuid::from_u128(1)),
        creator_id: CreatorId(Uuid::from_u128(2)),
        product_id: ProductId(Uuid::from_u128(3)),
        title: "A story".to_owned(),
        variants: Vec::new(),
        per_buyer_limit: 0,
        low_stock_threshold: 0,
        hold_ms: 60_000,
        starts_at: at("0s"),
        ends_at: None,
        created_at: at("0s"),
        shipping: None,
    };
    let (mut stock, mut price) = ("10", 1999);
    for word in words {
        match word.split_once('=').unwrap_or_else(|| panic!("{word:?} is not name=value")) {
            ("stock", value) => stock = value,
            ("price", value) => price = i64::from(number(value)),
            ("limit", value) => spec.per_buyer_limit = number(value),
            ("low", value) => spec.low_stock_threshold = number(value),
            ("hold", value) => spec.hold_ms = u32::try_from(millis(value)).expect("a short hold"),
            ("holds", value) => policy.per_buyer = u16::try_from(number(value)).expect("few holds"),
            ("network", value) => policy.per_network = number(value),
            ("cool", value) => policy.cool_down_ms = u32::try_from(millis(value)).expect("a short wait"),
            ("starts", value) => spec.starts_at = at(value),
            ("ends", value) => spec.ends_at = Some(at(value)),
            _ => panic!("nobody understands {word:?}"),
        }
    }
    let price = Money { amount: price, currency: "USD".parse().expect("a currency") };
    spec.variants = (stock.split(','))
        .map(|part| part.split_once(':').unwrap_or((ONLY, part)))
        .map(|(name, stock)| VariantSpec { id: variant_id(name), name: name.to_owned(), stock: number(stock), price })
        .collect();
    (spec, policy)
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

fn millis(text: &str) -> i64 {
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or_else(|| panic!("{text:?} is not a time")), 1000),
    };
    i64::from(number(digits)) * unit_ms
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(EPOCH_MS + millis(text))
}

fn user_id(name: &str) -> UserId {
    UserId(KeyDigest::of(UserId(Uuid::nil()), name).0)
}

fn variant_id(name: &str) -> VariantId {
    VariantId(KeyDigest::of(UserId(Uuid::max()), name).0)
}
