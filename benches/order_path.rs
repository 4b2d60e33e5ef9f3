//! The parts of one order around its decision: the token, the request and response bodies, and the public snapshot.
//!
//! `cargo bench --bench order_path` measures; `cargo test` runs each part once.

use criterion::{Criterion, criterion_group, criterion_main};
use livedrop::actors::inventory::snapshot::{DropSnapshot, SnapshotCell};
use livedrop::actors::{Clock, Decisions};
use livedrop::domain::{Fingerprint, KeyDigest, Login, OrderView, Timestamp, UserId};
use livedrop::engine::{Command, DropState, Outcome};
use livedrop::http::api::orders::dto::{NewOrderBody, OrderBody};
use livedrop::http::extract::json;
use livedrop::journal::Completion;
use livedrop::service::input::Unvalidated;
use livedrop::service::orders::OrderInput;
use livedrop::service::tokens::{Role, Tokens};
use smallvec::smallvec;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{START_MS, reserve, spec};

mod support;

const KEY: &str = "6f1d0c5e-2a43-4b7e-9d0f-3b1f6a4f7c11";

fn sold() -> (DropState, OrderView) {
    let mut state = DropState::scheduled(spec(1_000));
    let ask = reserve(state.spec());
    let (outcome, _) = state.apply(Timestamp::from_millis(START_MS), Command::Reserve(Box::new(ask)), &mut Vec::new());
    let Outcome::Order { order, .. } = outcome else { panic!("{outcome:?}") };
    (state, *order)
}

fn token(c: &mut Criterion) {
    let tokens = Tokens::new(&[7; 32], 900, Clock::default());
    let (user, drop) = (UserId::new(), spec(1));
    let token = tokens.issue(user, Role::User, Login::default());
    let mut group = c.benchmark_group("order_path");
    group.bench_function("verify_token", |b| b.iter(|| assert!(tokens.verify(black_box(&token)).is_ok())));
    group.bench_function("digest_key", |b| b.iter(|| KeyDigest::of(black_box(user), black_box(KEY))));
    let variant = drop.variants[0].id;
    group.bench_function("fingerprint", |b| b.iter(|| Fingerprint::of_order(black_box(drop.id), variant, 1, None)));
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let (state, order) = sold();
    let body = format!(r#"{{"drop_id":"{}","quantity":1}}"#, state.spec().id);
    let mut group = c.benchmark_group("order_path");
    group.bench_function("parse_request", |b| {
        b.iter(|| {
            let body: NewOrderBody = json::parse(black_box(body.as_bytes())).expect("an order");
            Unvalidated::from(body).validate::<OrderInput>().expect("a valid order")
        });
    });
    group.bench_function("write_answer", |b| {
        b.iter(|| json::write_plain(&OrderBody::from(black_box(&order))));
    });
    group.finish();
}

/// Reads of the published stock: alone, and while another thread publishes as fast as it can, far more often than the
/// journal does.
fn snapshot(c: &mut Criterion) {
    let (state, _) = sold();
    let cell = Arc::new(SnapshotCell::new(DropSnapshot::of(&state, 1)));
    let publish = |sequence| {
        let publish = Some((Arc::clone(&cell), DropSnapshot::of(&state, 0)));
        Decisions { publish, replies: smallvec![] }.complete(Ok(sequence));
    };
    let mut group = c.benchmark_group("order_path");
    group.warm_up_time(Duration::from_secs(1));
    group.bench_function("publish_stock", |b| b.iter(|| publish(2)));
    group.bench_function("read_stock", |b| b.iter(|| cell.read()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sequence = 2;
            while !over.load(Ordering::Relaxed) {
                sequence += 1;
                publish(sequence);
            }
        });
        group.bench_function("read_stock_while_published", |b| b.iter(|| cell.read()));
        over.store(true, Ordering::Relaxed);
    });
    group.finish();
}

criterion_group!(benches, token, bodies, snapshot);
criterion_main!(benches);
