//! Decoders of data on disk, fed with damaged input: no panic, no allocation out of proportion to the input, and no
//! record that was not written. `LIVEDROP_FUZZ_RUNS=1000000 cargo test --release --test fuzz` runs longer;
//! `LIVEDROP_FUZZ_SEED` replays one seed.

#[path = "../support/mutate.rs"]
mod mutate;

use livedrop::domain::event::{OrderLine, VariantSpec};
use livedrop::domain::{
    CreatorId, DropEvent, DropId, DropRecord, DropSpec, Fingerprint, KeyDigest, Money, OrderId, PaymentEnd, ProductId,
    RefundCause, Refusal, ReleaseReason, Timestamp, TraceId, UserId, VariantId,
};
use livedrop::journal::frame::{FRAME_HEADER_BYTES, FrameHeader};
use livedrop::journal::segment::SEGMENT_HEADER_BYTES;
use livedrop::journal::{Device, Journal, JournalOptions, MemoryDevice, Records, scan};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;
use std::sync::Arc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `decode` and returns its peak memory in bytes.
fn peak(decode: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    decode();
    MEMORY.peak_usage().saturating_sub(before)
}

/// One test, because the peak is counted for the whole process.
#[test]
fn what_a_disk_may_hold() {
    records();
    frames();
    journals();
}

fn corpus() -> Vec<DropRecord> {
    let spec = DropSpec {
        id: DropId::new(),
        creator_id: CreatorId(UserId::new().0),
        product_id: ProductId::new(),
        title: "Zürich \u{1f9e5}".to_owned(),
        variants: (0..3)
            .map(|n| VariantSpec {
                id: VariantId::new(),
                name: format!("size {n}"),
                stock: 10_000_000,
                price: Money { amount: 1999, currency: "USD".parse().expect("a currency") },
            })
            .collect(),
        per_buyer_limit: 2,
        low_stock_threshold: 10,
        hold_ms: 300_000,
        starts_at: Timestamp::from_millis(1_767_225_600_000),
        ends_at: Some(Timestamp::from_millis(1_767_225_700_000)),
        created_at: Timestamp::from_millis(0),
        shipping: None,
    };
    let (buyer, trace) = (UserId::new(), TraceId::random());
    let line = OrderLine { order: OrderId::for_drop(spec.id), buyer, variant: spec.variants[0].id, quantity: 3 };
    let (key, digest, fingerprint): (Box<str>, _, _) = ("key".into(), KeyDigest::of(buyer, "key"), Fingerprint(7));
    let events = vec![
        DropEvent::Scheduled(Box::new(spec.clone())),
        DropEvent::Started,
        DropEvent::Reserved {
            order: line.order,
            buyer,
            variant: line.variant,
            quantity: 3,
            unit_price: spec.variants[0].price,
            expires_at: spec.starts_at,
            key: key.clone(),
            digest,
            fingerprint,
            payment_method: Some("pm_sandbox_ok".into()),
            delivery: None,
        },
        DropEvent::Refused { buyer, key, digest, fingerprint, refusal: Refusal::SoldOut, trace },
        DropEvent::PaymentStarted { order: line.order, attempt: 1, method: "pm".into() },
        DropEvent::Confirmed { line, payment: Some("ch_1".into()), retaken: false },
        DropEvent::Released { line, reason: ReleaseReason::Expired, trace },
        DropEvent::RefundDue { line, payment: Some("ch_1".into()), cause: RefundCause::DropCancelled, was_sold: true },
        DropEvent::Refunded { line },
        DropEvent::PaymentEnded { order: line.order, attempt: 1, end: PaymentEnd::NotMade },
    ];
    events.into_iter().map(|event| DropRecord { drop: spec.id, at: spec.starts_at, event }).collect()
}

/// serde allocates at most this much for a length that the input merely claims.
const CLAIMED_BYTES_MAX: usize = 1 << 20;

fn records() {
    let corpus: Vec<Vec<u8>> = corpus()
        .iter()
        .map(|record| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(&DropRecord::decode(&bytes).expect("it reads what it wrote"), record);
            bytes
        })
        .collect();
    let mut read = 0;
    for seed in mutate::seeds(20_000) {
        let bytes = mutate::mutated(seed, &corpus);
        let used = peak(|| {
            let drop = DropRecord::drop_of(&bytes);
            if let Ok(record) = DropRecord::decode(&bytes) {
                assert_eq!(drop.expect("a whole record names its drop"), record.drop, "seed {seed}");
                // A decoded record can be encoded and decoded again.
                let mut again = Vec::new();
                record.encode(&mut again);
                assert_eq!(DropRecord::decode(&again).expect("its own"), record, "seed {seed}");
                read += 1;
            }
        });
        assert!(used <= CLAIMED_BYTES_MAX + 16 * (bytes.len() + 256), "seed {seed}: {used} bytes");
    }
    assert!(read > 100, "the mutations are so wild that nothing is read any more");
}

fn frames() {
    for seed in mutate::seeds(20_000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes.iter_mut().for_each(|byte| *byte = if rng.random_bool(0.8) { 0 } else { rng.random() });
        let used = peak(|| {
            if let Ok(Some(header)) = FrameHeader::decode(&bytes) {
                assert!(header.last_sequence() >= header.first_sequence, "seed {seed}");
            }
        });
        assert_eq!(used, 0, "a header is read without allocating");
    }
}

/// Files by name.
type Files = Vec<(String, Vec<u8>)>;

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_HEADER_BYTES + 512,
        tail_bytes: 1 << 16,
        queue_entries: 64,
        ..JournalOptions::new("unused")
    }
}

/// A journal of several segments, cleanly closed, and the records in it.
fn journal() -> (Files, BTreeSet<Vec<u8>>) {
    let device = MemoryDevice::new();
    let (journal, _) = Journal::open(&options(), Arc::new(device.clone()), 0).expect("a new journal");
    let mut written = BTreeSet::new();
    for record in corpus().iter().cycle().take(30) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let mut records = Records::new();
        records.push(|buffer| buffer.extend_from_slice(&bytes)).expect("a small record");
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let reply: Reply = Box::new(move |outcome| sender.send(outcome).expect("somebody waits"));
        journal.handle().try_permit().expect("room").submit(records, reply);
        receiver.recv().expect("an answer").expect("durable");
        written.insert(bytes);
    }
    journal.close().expect("a clean end");
    (files(&device), written)
}

type Reply = Box<dyn FnOnce(Result<u64, livedrop::journal::JournalError>) + Send>;

fn files(device: &MemoryDevice) -> Files {
    let read = |name: String| {
        let file = device.open_read_only(&name).expect("a file");
        let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("it fits")];
        assert_eq!(file.read_at(&mut bytes, 0).expect("its bytes"), bytes.len());
        (name, bytes)
    };
    device.list().expect("a list").into_iter().map(read).collect()
}

fn device(files: &Files) -> MemoryDevice {
    let device = MemoryDevice::new();
    for (name, bytes) in files {
        let file = device.create(name, bytes.len() as u64).expect("a new file");
        file.write_at(bytes, 0).expect("room");
    }
    device
}

fn journals() {
    let (whole, written) = journal();
    assert!(whole.len() >= 4, "several segments: {:?}", whole.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let (mut opened, mut refused) = (0, 0);
    for seed in mutate::seeds(2_000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut damaged = whole.clone();
        let (victim, other) = (rng.random_range(0..damaged.len()), rng.random_range(0..damaged.len()));
        match rng.random_range(0..10) {
            0 => _ = damaged.remove(victim),
            1 => damaged[victim].1 = whole[other].1.clone(),
            2 => damaged[victim].0 = format!("{}x", whole[victim].0),
            3 => damaged[victim].1.clear(),
            _ => damaged[victim].1 = mutate::mutated(seed, &[whole[victim].1.clone()]),
        }
        let bytes: usize = damaged.iter().map(|(_, bytes)| bytes.len()).sum();
        let image = device(&damaged);
        // Every record read was written: damage never invents a record or changes one.
        let used = peak(|| {
            let _ = scan(&image, &mut |_, record| assert!(written.contains(record), "seed {seed}: an invented record"));
        });
        // A reader has one read-ahead buffer, which a large frame would need.
        assert!(used <= (9 << 20) + 4 * bytes, "seed {seed}: {used} bytes for {bytes}");
        match Journal::<Reply>::open(&options(), Arc::new(device(&damaged)), 0) {
            Ok((journal, found)) => {
                assert!(found.last_sequence <= 30, "seed {seed}");
                drop(journal);
                opened += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(opened > 10 && refused > 10, "{opened} opened, {refused} refused");
}
