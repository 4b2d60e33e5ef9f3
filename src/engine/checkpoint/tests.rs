use super::*;
use crate::domain::Moment;
use crate::domain::fixtures::drop_of;
use crate::engine::fixtures::reserve_in;
use crate::engine::scenario_tests::reopen::{assert_same, replayed};
use crate::engine::{Command, Outcome};

const START: Timestamp = Timestamp::EPOCH;

/// A drop with one order in each state that there is, and its records.
fn every_kind() -> (DropState, Vec<DropRecord>) {
    let mut spec = drop_of(50);
    spec.low_stock_threshold = 49;
    let mut world = (DropState::scheduled(spec), Vec::new());
    apply(&mut world, 0, Command::Start);
    let orders: Vec<OrderId> = (0..7).map(|_| reserve(&mut world, 0, None)).collect();
    reserve(&mut world, 0, Some("pm_slow"));
    let confirm = |order: OrderId, text: &str| Command::Confirm { order, payment_ref: text.into() };
    let release =
        |order: OrderId, reason: ReleaseReason| Command::Release { order, reason, trace: TraceId(Uuid::from_u128(7)) };
    apply(&mut world, 1, confirm(orders[1], "ch_1"));
    apply(&mut world, 2, release(orders[2], ReleaseReason::PaymentFailed));
    apply(&mut world, 3, release(orders[3], ReleaseReason::Cancelled));
    for order in [orders[4], orders[5]] {
        apply(&mut world, 4, confirm(order, "ch_é"));
        apply(&mut world, 5, Command::Refund { order });
    }
    apply(&mut world, 6, Command::SettleRefund { order: orders[5] });
    apply(&mut world, 7, Command::BeginPayment { order: orders[6], method: "pm_asked".into() });
    world
}

fn apply((state, journal): &mut (DropState, Vec<DropRecord>), millis: i64, command: Command) -> Outcome {
    let (mut events, drop) = (Vec::new(), state.spec().id);
    let (outcome, at) = state.apply(Moment::from(START.plus_millis(millis)), command, &mut events);
    journal.extend(events.into_iter().map(|event| DropRecord { drop, at, event }));
    outcome
}

fn reserve(world: &mut (DropState, Vec<DropRecord>), millis: i64, method: Option<&str>) -> OrderId {
    let mut ask = reserve_in(world.0.spec());
    ask.payment_method = method.map(Into::into);
    let address = AddressVersionId(Uuid::from_u128(8));
    ask.delivery = method.map(|_| Box::new(Delivery { address, country: "DE".parse().unwrap(), shipping: 490 }));
    let id = ask.order;
    let outcome = apply(world, millis, Command::Reserve(Box::new(ask)));
    assert!(matches!(outcome, Outcome::Order { .. }), "{outcome:?}");
    id
}

fn copied(state: &mut DropState, rows_max: u32) -> (Vec<u8>, Vec<Rows>) {
    let start = state.begin_copy();
    let mut all = Vec::new();
    loop {
        let rows = state.copy_rows(rows_max).expect("it is not given up");
        let is_last = rows.is_last;
        all.push(rows);
        if is_last {
            assert_eq!(all.iter().map(|rows| rows.count).sum::<u32>(), start.orders);
            assert_eq!(state.copy_rows(rows_max), None, "it is over");
            return (start.image, all);
        }
    }
}

fn decoded(image: &[u8], rows: &[Rows]) -> Result<DropState, CheckpointError> {
    let mut decoder = CheckpointDecoder::begin(image)?;
    rows.iter().try_for_each(|rows| decoder.rows(&rows.bytes))?;
    decoder.finish()
}

#[test]
fn orders_of_every_kind_come_back_as_they_were() {
    let (mut state, _) = every_kind();
    for rows_max in [1, 3, 1_000] {
        let (image, rows) = copied(&mut state, rows_max);
        let back = decoded(&image, &rows).unwrap();
        back.assert_invariants();
        assert_same(&back, &state);
    }
    let mut empty = DropState::scheduled(drop_of(3));
    let (image, rows) = copied(&mut empty, 10);
    assert_same(&decoded(&image, &rows).unwrap(), &empty);
}

#[test]
fn a_copy_is_of_the_moment_at_which_it_began() {
    for copied_before in 0..=9 {
        let mut world = every_kind();
        let before = world.1.len();
        let start = world.0.begin_copy();
        let mut rows: Vec<Rows> = (0..copied_before).filter_map(|_| world.0.copy_rows(1)).collect();
        // Everything changes: one more is sold, the holds run out, and the drop is called off.
        reserve(&mut world, 10, None);
        apply(&mut world, 700_000, Command::Tick);
        apply(&mut world, 700_001, Command::Cancel);
        apply(&mut world, 700_002, Command::Tick);
        rows.extend(std::iter::from_fn(|| world.0.copy_rows(1)));
        let (state, journal) = world;
        let mut back = decoded(&start.image, &rows).unwrap();
        assert_same(&back, &replayed(state.spec(), &journal[..before]));
        journal[before..].iter().for_each(|record| back.evolve(record.at, &record.event));
        back.order_holds();
        assert_same(&back, &state);
    }
}

#[test]
fn what_was_cut_or_changed_is_refused_and_never_a_panic() {
    let (mut state, _) = every_kind();
    let (image, rows) = copied(&mut state, 1_000);
    for length in 0..image.len() {
        assert!(CheckpointDecoder::begin(&image[..length]).is_err(), "an image of {length} bytes");
    }
    let rows = &rows[0].bytes;
    let cut = |length: usize| {
        let mut decoder = CheckpointDecoder::begin(&image)?;
        decoder.rows(&rows[..length])?;
        decoder.finish()
    };
    for length in 0..rows.len() {
        assert!(cut(length).is_err(), "rows of {length} bytes");
    }
    assert!(cut(rows.len()).is_ok());
    // Checksums find these; what comes through all the same is no panic.
    for bit in 0..image.len() * 8 {
        let mut image = image.clone();
        image[bit / 8] ^= 1 << (bit % 8);
        if let Ok(mut decoder) = CheckpointDecoder::begin(&image) {
            let _ = decoder.rows(rows).and_then(|()| decoder.finish().map(|_| ()));
        }
    }
    for bit in 0..rows.len() * 8 {
        let mut rows = rows.clone();
        rows[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = CheckpointDecoder::begin(&image).unwrap();
        let _ = decoder.rows(&rows).and_then(|()| decoder.finish().map(|_| ()));
    }
    let mut decoder = CheckpointDecoder::begin(&image).unwrap();
    decoder.rows(rows).unwrap();
    assert!(decoder.rows(&rows[..ROW_BYTES_MIN]).is_err(), "one order more than there are");
}

/// Checkpoints of a released version are read by the next one: these bytes never change without a new version of the file's format.
#[test]
fn a_row_has_the_bytes_that_are_documented() {
    let mut state = DropState::scheduled(drop_of(9));
    let id = |n: u128| Uuid::from_u128(n);
    let variant = state.spec().variants[0].clone();
    let event = DropEvent::Reserved {
        order: OrderId(id(1)),
        buyer: UserId(id(2)),
        variant: variant.id,
        quantity: 3,
        unit_price: variant.price,
        expires_at: Timestamp::from_millis(1_500),
        key: "k".into(),
        digest: KeyDigest(id(4)),
        fingerprint: Fingerprint(5),
        payment_method: Some("pm".into()),
        delivery: Some(Box::new(Delivery {
            address: AddressVersionId(id(6)),
            country: "DE".parse().unwrap(),
            shipping: 490,
        })),
    };
    state.evolve(Timestamp::from_millis(1_000), &event);
    let (_, rows) = copied(&mut state, 10);
    let mut expected = Vec::new();
    for n in [1, 2, 4] {
        expected.extend([0; 15]);
        expected.push(n);
    }
    expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0xe8, 3, 0, 0, 0, 0, 0, 0]);
    expected.extend([0xdc, 5, 0, 0, 0, 0, 0, 0]);
    expected.extend([0xf4, 1, 0, 0, 3, 0, 0, 0, 0, HAS_PAYMENT_PENDING | HAS_DELIVERY, 2, 0, b'p', b'm']);
    expected.extend([0; 15]);
    expected.extend([6, b'D', b'E', 0xea, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rows[0].bytes, expected);
    assert_eq!(expected.len(), ROW_BYTES_MIN + 4 + 26);
}

/// A change of one of these lists changes the meaning of a byte.
#[test]
fn numbers_of_values_are_those_of_the_format() {
    use OrderStatus::{Confirmed, Refunded, Released, Reserved};
    assert_eq!(OrderStatus::ALL, [Reserved, Confirmed, Released, Refunded]);
    assert_eq!(ReleaseReason::ALL, [ReleaseReason::Expired, ReleaseReason::PaymentFailed, ReleaseReason::Cancelled]);
    use RefundCause::{CaptureFailed, DropCancelled, LatePayment, Requested};
    assert_eq!(RefundCause::ALL, [LatePayment, DropCancelled, Requested, CaptureFailed]);
    use DropStatus::{Cancelled, Ended, Live, Scheduled, SoldOut};
    assert_eq!(DropStatus::ALL, [Scheduled, Live, SoldOut, Ended, Cancelled]);
}
