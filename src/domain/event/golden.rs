//! Bytes of every version, kept forever: a record that was once written stays readable.
//!
//! `golden/vN.txt` has a line for each sample: its name and its bytes in version N. A line of an older version decodes
//! to the *current* sample of that name, so the samples also define what old records mean today.

use super::codec::whole;
use super::{
    AdminAction, DropEvent, DropRecord, DropSpec, KeyedRequest, OrderLine, Principal, RecordError, VariantSpec,
};
use super::{v1, v2, v3};
use crate::domain::{
    AddressVersionId, CountryPrice, CreatorId, DeclineReason, Delivery, DropId, Fingerprint, KeyDigest, Money, OrderId,
    Payment, PaymentEnd, PaymentMethod, PaymentProvider, ProductId, RefundCause, Refusal, ReleaseReason, ShippingTable,
    Timestamp, TraceId, UserId, VariantId,
};
use serde::de::{self, DeserializeOwned, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Every version ever, oldest first; the last is the current one.
const VERSIONS: &[&str] = &[
    include_str!("golden/v1.txt"),
    include_str!("golden/v2.txt"),
    include_str!("golden/v3.txt"),
    include_str!("golden/v4.txt"),
];

/// Every value of the enums inside events: `every_variant_has_a_sample` fails when one is missing.
const REFUSALS: [Refusal; 7] = [
    Refusal::NotStarted,
    Refusal::Ended,
    Refusal::DropCancelled,
    Refusal::SoldOut,
    Refusal::LimitExceeded,
    Refusal::UnknownVariant,
    Refusal::NotEnoughStock { available: 300 },
];
const REASONS: [ReleaseReason; 3] = [ReleaseReason::Expired, ReleaseReason::PaymentFailed, ReleaseReason::Cancelled];
const CAUSES: [RefundCause; 4] =
    [RefundCause::LatePayment, RefundCause::DropCancelled, RefundCause::Requested, RefundCause::CaptureFailed];

/// Ids and numbers that all differ, so that swapped fields are noticed.
fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_a000_0000_7000_8000_0000_0000_0000 + n)
}

fn at(n: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + n)
}

fn money(amount: i64, currency: &str) -> Money {
    Money { amount, currency: currency.parse().unwrap() }
}

fn spec() -> DropSpec {
    let variant = |n: u32, name: &str, price| VariantSpec {
        id: VariantId(id(20 + u128::from(n))),
        name: name.to_owned(),
        stock: 100 + n,
        price,
    };
    DropSpec {
        id: DropId(id(1)),
        creator_id: CreatorId(id(2)),
        product_id: ProductId(id(3)),
        title: "Grün 🎉".to_owned(),
        variants: vec![variant(1, "S", money(1_999, "EUR")), variant(2, "", money(0, "ZZQ"))],
        per_buyer_limit: 4,
        low_stock_threshold: 5,
        hold_ms: 600_006,
        starts_at: at(7),
        ends_at: Some(at(8)),
        created_at: at(9),
        shipping: None,
    }
}

fn shipping() -> Option<Box<ShippingTable>> {
    let row = |code: &str, price| CountryPrice { country: code.parse().unwrap(), price };
    Some(Box::new(ShippingTable { countries: vec![row("DE", 490), row("AT", 0)] }))
}

fn orders(samples: &mut Vec<(String, DropEvent)>) {
    let order = OrderId(id(30));
    let line = OrderLine { order, buyer: UserId(id(31)), variant: VariantId(id(32)), quantity: 300 };
    let (trace, digest) = (TraceId(id(33)), KeyDigest(id(34)));
    let reserved = |payment_method: Option<&str>| DropEvent::Reserved {
        order,
        buyer: line.buyer,
        variant: line.variant,
        quantity: line.quantity,
        unit_price: money(-5, "USD"),
        expires_at: at(10),
        key: "key-1".into(),
        digest,
        fingerprint: Fingerprint(u64::MAX - 1),
        payment_method: payment_method.map(Into::into),
        delivery: None,
    };
    let mut add = |name: String, event| samples.push((name, event));
    add("reserved".into(), reserved(None));
    add("reserved.and_pays".into(), reserved(Some("pm_sandbox_ok")));
    let mut delivered = reserved(None);
    if let DropEvent::Reserved { delivery, .. } = &mut delivered {
        let (address, country) = (AddressVersionId(id(36)), "DE".parse().unwrap());
        *delivery = Some(Box::new(Delivery { address, country, shipping: 490 }));
    }
    add("reserved.delivered".into(), delivered);
    for refusal in REFUSALS {
        let event = DropEvent::Refused {
            buyer: line.buyer,
            key: "key-2".into(),
            digest,
            fingerprint: Fingerprint(35),
            refusal,
            trace,
        };
        add(format!("refused.{}", refusal.as_str()), event);
    }
    add("payment_started".into(), DropEvent::PaymentStarted { order, attempt: 0, method: "pm".into() });
    add("confirmed".into(), DropEvent::Confirmed { line, payment: None, retaken: true });
    add("confirmed.paid".into(), DropEvent::Confirmed { line, payment: Some("ch_1".into()), retaken: false });
    for reason in REASONS {
        add(format!("released.{}", reason.as_str()), DropEvent::Released { line, reason, trace });
    }
    for cause in CAUSES {
        let event = DropEvent::RefundDue { line, payment: Some("ch_2".into()), cause, was_sold: true };
        add(format!("refund_due.{}", cause.as_str()), event);
    }
    add("refunded".into(), DropEvent::Refunded { line });
    add("payment_ended".into(), DropEvent::PaymentEnded { order, attempt: 0, end: PaymentEnd::NotMade });
    payments(line, samples);
}

fn payments(line: OrderLine, samples: &mut Vec<(String, DropEvent)>) {
    let order = line.order;
    let mut add = |name: String, event| samples.push((name, event));
    let provider = PaymentProvider::Stripe;
    let method = PaymentMethod { provider, name: "pm_1".into() };
    let payment = |captured| {
        let amount = Some(money(1_999, "EUR"));
        Payment { provider, attempt: 70, reference: "pi_1".into(), amount, captured }
    };
    add("payment_started.stripe".into(), DropEvent::PaymentStarted { order, attempt: 71, method });
    for (name, captured) in [("captured", true), ("authorized", false)] {
        let payment = Some(payment(captured));
        add(format!("confirmed.{name}"), DropEvent::Confirmed { line, payment, retaken: true });
    }
    let (payment, cause) = (Some(payment(false)), RefundCause::LatePayment);
    add("refund_due.authorized".into(), DropEvent::RefundDue { line, payment, cause, was_sold: false });
    for reason in DeclineReason::ALL.iter().copied() {
        let end = PaymentEnd::Declined(reason);
        add(format!("payment_ended.{}", reason.as_str()), DropEvent::PaymentEnded { order, attempt: 72, end });
    }
    let end = PaymentEnd::Cancelled;
    add("payment_ended.cancelled".into(), DropEvent::PaymentEnded { order, attempt: 73, end });
    for (name, action) in [("payment_waits", false), ("payment_waits.action", true)] {
        add(name.into(), DropEvent::PaymentWaits { order, attempt: 74, reference: "pi_2".into(), action });
    }
    add("hold_extended".into(), DropEvent::HoldExtended { line, expires_at: at(75) });
    add("payment_captured".into(), DropEvent::PaymentCaptured { order, attempt: 76 });
}

fn by_hand(samples: &mut Vec<(String, DropEvent)>) {
    for (name, act) in [
        ("started", AdminAction::Started),
        ("ended", AdminAction::Ended),
        ("cancelled", AdminAction::Cancelled),
        ("restocked", AdminAction::Restocked(None, 40)),
        ("restocked_variant", AdminAction::Restocked(Some(VariantId(id(41))), 42)),
        ("rescheduled", AdminAction::Rescheduled(at(43), Some(at(44)))),
        ("rescheduled_without_end", AdminAction::Rescheduled(at(45), None)),
        ("refunded", AdminAction::Refunded(OrderId(id(46)))),
    ] {
        let actor = Principal { user: UserId(id(47)), admin: true, origin: "192.0.2.1".into(), trace: TraceId(id(48)) };
        samples.push((format!("by_hand.{name}"), DropEvent::AuditedCommand { actor, act, request: None }));
    }
    let actor = Principal { user: UserId(id(60)), admin: false, origin: "".into(), trace: TraceId(id(61)) };
    let request = Some(KeyedRequest { digest: KeyDigest(id(62)), fingerprint: Fingerprint(63) });
    samples
        .push(("by_hand.with_a_key".into(), DropEvent::AuditedCommand { actor, act: AdminAction::Started, request }));
}

/// A record of every kind of event, with every value of each enum in it.
fn samples() -> Vec<(String, DropRecord)> {
    let variant = VariantId(id(50));
    let mut samples: Vec<(String, DropEvent)> = [
        ("scheduled", DropEvent::Scheduled(Box::new(spec()))),
        ("scheduled.without_end", DropEvent::Scheduled(Box::new(DropSpec { ends_at: None, ..spec() }))),
        ("scheduled.shipped", DropEvent::Scheduled(Box::new(DropSpec { shipping: shipping(), ..spec() }))),
        ("started", DropEvent::Started),
        ("ended", DropEvent::Ended),
        ("cancelled", DropEvent::Cancelled),
        ("restocked", DropEvent::Restocked { variant, quantity: 51 }),
        ("stock_low", DropEvent::StockLow { variant, available: 52 }),
        ("sold_out", DropEvent::SoldOut),
        ("back_in_stock", DropEvent::BackInStock),
        ("rescheduled", DropEvent::Rescheduled { starts_at: at(53), ends_at: Some(at(54)) }),
        ("rescheduled.without_end", DropEvent::Rescheduled { starts_at: at(55), ends_at: None }),
    ]
    .map(|(name, event)| (name.to_owned(), event))
    .into();
    orders(&mut samples);
    by_hand(&mut samples);
    let record = |event| DropRecord { drop: DropId(id(1)), at: at(99), event };
    samples.into_iter().map(|(name, event)| (name, record(event))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of one version, by name.
fn golden(text: &str) -> BTreeMap<&str, Vec<u8>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut golden = BTreeMap::new();
    for line in lines {
        let (name, digits) = line.split_once(' ').expect("a name and its bytes");
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hex digits");
        let before = golden.insert(name, (0..digits.len()).step_by(2).map(byte).collect());
        assert_eq!(before, None, "{name} is there twice");
    }
    golden
}

/// Decodes bytes and encodes them again with the types of the given version.
fn again(version: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![version];
    out.extend(match version {
        1 => postcard::to_stdvec(&whole::<v1::Record>(&bytes[1..]).expect("a record")).expect("its bytes"),
        2 => postcard::to_stdvec(&whole::<v2::Record>(&bytes[1..]).expect("a record")).expect("its bytes"),
        3 => postcard::to_stdvec(&whole::<v3::Record>(&bytes[1..]).expect("a record")).expect("its bytes"),
        4 => postcard::to_stdvec(&whole::<DropRecord>(&bytes[1..]).expect("a record")).expect("its bytes"),
        _ => panic!("say here which types version {version} has"),
    });
    out
}

#[test]
fn the_current_version_has_its_golden_bytes() {
    assert_eq!(VERSIONS.len(), usize::from(DropRecord::VERSION), "one golden file for each version");
    let mut golden = golden(VERSIONS.last().expect("a version"));
    let mut missing = Vec::new();
    for (name, record) in samples() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(DropRecord::decode(&bytes).expect("it reads what it wrote"), record, "{name}");
        assert_eq!(DropRecord::drop_of(&bytes).expect("its drop"), record.drop, "{name}");
        match golden.remove(name.as_str()) {
            Some(kept) => assert_eq!(
                hex(&kept),
                hex(&bytes),
                "{name}: records that were written before can no longer be read; see the head of domain/event.rs"
            ),
            None => missing.push(format!("{name} {}", hex(&bytes))),
        }
    }
    assert!(golden.is_empty(), "no sample is called {:?}", golden.keys());
    assert!(missing.is_empty(), "append to golden/v{}.txt:\n{}", DropRecord::VERSION, missing.join("\n"));
}

#[test]
fn bytes_of_every_version_are_read_for_ever() {
    let samples: BTreeMap<String, DropRecord> = samples().into_iter().collect();
    for (version, text) in (1..).zip(VERSIONS) {
        let golden = golden(text);
        assert!(golden.len() >= 37, "version {version} has lost lines");
        for (name, bytes) in golden {
            assert_eq!(bytes.first(), Some(&version), "{name}");
            let read = DropRecord::decode(&bytes).unwrap_or_else(|error| panic!("version {version}, {name}: {error}"));
            assert_eq!(hex(&again(version, &bytes)), hex(&bytes), "version {version}, {name}");
            let drop = DropRecord::drop_of(&bytes).expect("its drop");
            let meant = samples.get(name).unwrap_or_else(|| panic!("version {version}: no sample is called {name}"));
            assert_eq!((&read, drop), (meant, meant.drop), "version {version}, {name}");
        }
    }
}

#[test]
fn what_is_no_record_of_its_version_is_refused() {
    for (name, bytes) in golden(VERSIONS.last().expect("a version")) {
        for end in 1..bytes.len() {
            assert!(DropRecord::decode(&bytes[..end]).is_err(), "{name}, cut after {end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(DropRecord::decode(&longer), Err(RecordError::Trailing(1))), "{name} and a byte more");
        for version in [0, DropRecord::VERSION + 1, u8::MAX] {
            let foreign = [&[version], &bytes[1..]].concat();
            assert!(matches!(DropRecord::decode(&foreign), Err(RecordError::Version(named)) if named == version));
            assert!(matches!(DropRecord::drop_of(&foreign), Err(RecordError::Version(named)) if named == version));
            let drop = DropRecord::drop_of(&bytes).expect("its drop");
            assert_eq!(DropRecord::drop_of_any_version(&foreign), (version > 0).then_some(drop));
        }
    }
    assert!(matches!(DropRecord::decode(&[]), Err(RecordError::Empty)));
    assert_eq!(DropRecord::drop_of_any_version(&[9, 1]), None);
}

#[test]
fn every_variant_has_a_sample() {
    let samples = samples();
    let kinds: BTreeSet<String> = samples.iter().map(|(_, record)| variant_of(&record.event)).collect();
    assert_eq!(kinds, variants::<DropEvent>());
    let acts = samples.iter().filter_map(|(_, record)| match &record.event {
        DropEvent::AuditedCommand { act, .. } => Some(*act),
        _ => None,
    });
    covers(acts);
    covers(REFUSALS);
    covers(REASONS);
    covers(CAUSES);
}

/// Asserts that `values` cover every variant of an enum.
fn covers<T: std::fmt::Debug + DeserializeOwned>(values: impl IntoIterator<Item = T>) {
    // Types that are renamed for JSON are compared without their underscores.
    let plain = |names: BTreeSet<String>| -> BTreeSet<String> {
        names.into_iter().map(|name| name.replace('_', "").to_lowercase()).collect()
    };
    assert_eq!(plain(values.into_iter().map(|value| variant_of(&value)).collect()), plain(variants::<T>()));
}

/// The name of a value's variant: the beginning of its debug text.
fn variant_of(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// The names of an enum's variants as serde knows them: a new variant appears here by itself.
fn variants<T: DeserializeOwned>() -> BTreeSet<String> {
    #[derive(Debug, thiserror::Error)]
    #[error("{0:?}")]
    struct Names(Vec<&'static str>);

    impl de::Error for Names {
        fn custom<E: std::fmt::Display>(_: E) -> Self {
            Self(Vec::new())
        }
    }

    struct Ask;

    impl<'de> de::Deserializer<'de> for Ask {
        type Error = Names;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
            Err(Names(Vec::new()))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Names> {
            Err(Names(variants.to_vec()))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let Err(Names(names)) = T::deserialize(Ask) else { panic!("an enum is asked for") };
    assert!(!names.is_empty(), "an enum has variants");
    names.into_iter().map(str::to_owned).collect()
}
