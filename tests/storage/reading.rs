//! Lists and look-ups of projected rows.

use crate::Database;
use crate::fixtures::{Journal, Sale, at, register};
use livedrop::domain::{CreatorId, DropEvent, DropId, DropStatus, OrderId, Timestamp, UserId};
use livedrop::storage::{DropFilter, DropRow, InboxView, Phase};
use std::collections::BTreeSet;

pub async fn drops_are_filtered_and_paged(db: Database) {
    let mut journal = Journal::new(&db);
    let mut sales: Vec<Sale> = (0..9).map(|i| Sale::of(&vec![3; 1 + i % 3])).collect();
    let creator = sales[0].spec.creator_id;
    let (followers, followed) = register(&db, 1).await;
    db.store.follow(followers[0], followed, at(0)).await.unwrap();
    for (i, sale) in sales.iter_mut().enumerate() {
        sale.spec.creator_id = [creator, followed, sale.spec.creator_id][i % 3];
        sale.spec.starts_at = at(1_000 * i as i64);
        let mut records = sale.opened();
        match i % 4 {
            0 => records.push(sale.event(5, DropEvent::Ended)),
            1 => records.truncate(1),
            2 => records.push(sale.event(5, DropEvent::SoldOut)),
            _ => {}
        }
        journal.project(records).await;
    }
    sales.reverse();
    let ids = |rows: &[DropRow]| rows.iter().map(|row| row.spec.id).collect::<Vec<DropId>>();
    let all = db.store.drops(DropFilter::default(), None, 100).await.unwrap().rows;
    assert_eq!(ids(&all), sales.iter().map(Sale::id).collect::<Vec<_>>());
    assert!(all.iter().zip(&sales).all(|(row, sale)| row.spec == sale.spec), "variants in the spec's order");
    let none = DropFilter::default();
    let mut filters = vec![
        none,
        DropFilter { creator: Some(creator), ..none },
        DropFilter { creator: Some(creator), status: Some(DropStatus::Live), ..none },
        DropFilter { followed_by: Some(followers[0]), ..none },
        DropFilter { followed_by: Some(followers[0]), creator: Some(creator), ..none },
        DropFilter { followed_by: Some(UserId::new()), ..none },
        DropFilter { starts_from: Some(at(3_000)), ..none },
        DropFilter { starts_before: Some(at(3_000)), ..none },
        DropFilter { starts_from: Some(at(2_000)), starts_before: Some(at(7_000)), phase: Some(Phase::Live), ..none },
    ];
    let statuses = [DropStatus::Scheduled, DropStatus::Live, DropStatus::SoldOut, DropStatus::Ended];
    filters.extend(statuses.map(|status| DropFilter { status: Some(status), ..none }));
    filters.extend([Phase::Upcoming, Phase::Live, Phase::Over].map(|phase| DropFilter { phase: Some(phase), ..none }));
    for filter in filters {
        let in_phase = |status: DropStatus| match filter.phase {
            None => true,
            Some(Phase::Upcoming) => status == DropStatus::Scheduled,
            Some(Phase::Live) => status.is_open(),
            Some(Phase::Over) => matches!(status, DropStatus::Ended | DropStatus::Cancelled),
        };
        let wanted: Vec<DropRow> = (all.iter())
            .filter(|row| filter.status.is_none_or(|status| row.status == status) && in_phase(row.status))
            .filter(|row| filter.creator.is_none_or(|creator| row.spec.creator_id == creator))
            .filter(|row| filter.followed_by.is_none_or(|user| user == followers[0] && row.spec.creator_id == followed))
            .filter(|row| filter.starts_from.is_none_or(|from| row.spec.starts_at >= from))
            .filter(|row| filter.starts_before.is_none_or(|before| row.spec.starts_at < before))
            .cloned()
            .collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.drops(filter, after, 2).await.unwrap().rows;
            let Some(last) = page.last() else { break };
            after = Some(last.spec.id);
            seen.extend(page);
        }
        assert_eq!(seen, wanted, "{filter:?}");
    }
    let mut unsettled = db.store.unsettled_drops().await.unwrap();
    unsettled.sort_by_key(|row| std::cmp::Reverse(row.spec.id));
    let open: Vec<DropRow> = all.into_iter().filter(|row| row.status != DropStatus::Ended).collect();
    assert_eq!(unsettled, open);
    assert_eq!(db.store.drop_row(DropId::new()).await.unwrap(), None);
}

pub async fn drops_that_wait_are_found_by_their_start(db: Database) {
    let mut journal = Journal::new(&db);
    let creator = CreatorId(uuid::Uuid::now_v7());
    // Two drops start at the same time, one is live, one has ended.
    let mut sales: Vec<Sale> = [30, 10, 20, 20, 5, 6]
        .map(|starts| {
            let mut sale = Sale::of(&[5]);
            (sale.spec.creator_id, sale.spec.starts_at) = (creator, at(starts));
            sale
        })
        .into();
    let mut records: Vec<_> =
        sales.iter().map(|sale| sale.event(0, DropEvent::Scheduled(Box::new(sale.spec.clone())))).collect();
    records.extend([sales[4].event(5, DropEvent::Started), sales[5].event(6, DropEvent::Started)]);
    records.push(sales[5].event(7, DropEvent::Ended));
    journal.project(records).await;
    let open: BTreeSet<DropId> = db.store.open_drops_of(creator, 9).await.unwrap().into_iter().collect();
    assert_eq!(open, sales[..5].iter().map(Sale::id).collect());
    assert_eq!(db.store.open_drops_of(creator, 2).await.unwrap().len(), 2);
    assert_eq!(db.store.open_drops_of(CreatorId(uuid::Uuid::now_v7()), 9).await.unwrap(), []);
    let loaded = db.store.drops_to_load(at(20)).await.unwrap();
    let loaded: BTreeSet<DropId> = loaded.into_iter().map(|row| row.spec.id).collect();
    assert_eq!(loaded, sales[1..5].iter().map(Sale::id).collect());
    sales.truncate(4);
    let mut wanted: Vec<(Timestamp, DropId)> = sales.iter().map(|sale| (sale.spec.starts_at, sale.id())).collect();
    wanted.sort_unstable();
    let mut found = Vec::new();
    let mut after = (at(0), DropId::new());
    while let Some(&next) = db.store.scheduled_drops(after, at(29), 1).await.unwrap().first() {
        found.push(next);
        after = next;
    }
    assert_eq!(found, wanted[..3]);
}

pub async fn orders_of_a_buyer_and_of_a_drop_are_paged(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[100]), Sale::of(&[100]));
    journal.project([sale.opened(), other.opened()].concat()).await;
    let buyer = UserId::new();
    let mut asks = Vec::new();
    for i in 0..7 {
        let mut ask = if i % 2 == 0 { sale.order(0, 1) } else { other.order(0, 1) };
        ask.line.buyer = buyer;
        asks.push(ask);
        asks.push(sale.order(0, 1));
    }
    journal.project(asks.iter().map(|ask| ask.reserved(1, None)).collect()).await;
    let mut wanted: Vec<OrderId> =
        asks.iter().filter(|ask| ask.line.buyer == buyer).map(|ask| ask.line.order).collect();
    wanted.sort_by(|a, b| b.cmp(a));
    let all = db.store.orders_of(buyer, None, 100).await.unwrap();
    assert_eq!(all.iter().map(|order| order.id).collect::<Vec<_>>(), wanted, "newest first");
    assert_eq!(db.store.orders_of(buyer, Some(wanted[2]), 3).await.unwrap(), all[3..6]);
    let mut wanted: Vec<OrderId> = asks.iter().filter(|ask| ask.drop == sale.id()).map(|ask| ask.line.order).collect();
    wanted.sort();
    let all = db.store.drop_orders(sale.id(), None, 100).await.unwrap();
    assert_eq!(all.iter().map(|order| order.id).collect::<Vec<_>>(), wanted, "in id order");
    assert_eq!(db.store.drop_orders(sale.id(), Some(wanted[4]), 2).await.unwrap(), all[5..7]);
    assert_eq!(db.store.order(OrderId::for_drop(sale.id())).await.unwrap(), None);
}

pub async fn the_newest_order_outlives_its_journal(db: Database) {
    assert_eq!(db.store.newest_order().await.unwrap(), None);
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[9]));
    journal.project(sale.opened()).await;
    assert_eq!(db.store.newest_order().await.unwrap(), None, "no order in the batch");
    let mut asks: Vec<_> = (0..3).map(|_| sale.order(0, 1)).collect();
    // Records come in the order of decisions, which is not always that of ids.
    asks.swap(1, 2);
    let newest = asks[1].line.order;
    assert!(asks.iter().all(|ask| ask.line.order <= newest));
    journal.project(asks.iter().map(|ask| ask.reserved(1, None)).collect()).await;
    assert_eq!(db.store.newest_order().await.unwrap(), Some(newest));
    journal.project(vec![asks[0].confirmed(2, Some("p"), false)]).await;
    let late = Sale::of(&[9]);
    let mut older = late.order(0, 1);
    older.line.order =
        OrderId(uuid::Uuid::from_u128((asks[0].line.order.0.as_u128() >> 32 << 32) | u128::from(late.id().tag())));
    journal.project([late.opened(), vec![older.reserved(3, None)]].concat()).await;
    assert_eq!(db.store.newest_order().await.unwrap(), Some(newest), "it never falls");
    db.store.disown().await.unwrap();
    assert_eq!(db.store.newest_order().await.unwrap(), Some(newest), "of a journal that is gone, too");
}

pub async fn a_key_leads_to_its_order(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let bought = sale.order(0, 1);
    journal.project(vec![bought.reserved(1, None)]).await;
    let order = db.store.order(bought.line.order).await.unwrap().unwrap();
    assert_eq!(order.created_at, at(1));
    let found = db.store.order_of_key(bought.line.buyer, &bought.key).await.unwrap();
    assert_eq!(found, Some(order));
    let unknown = db.store.order_of_key(UserId::new(), &bought.key).await.unwrap();
    assert_eq!(unknown, None, "another buyer's key is another key");
}

/// In SQLite the lookups by buyer and by key search several index generations.
pub async fn what_a_buyer_did_is_found_in_every_era(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[100]), Sale::of(&[100]));
    journal.project([sale.opened(), other.opened()].concat()).await;
    let buyer = UserId::new();
    let mut asks = Vec::new();
    for generation in 0..4 {
        for _ in 0..3 {
            for place in [&sale, &other] {
                let mut ask = place.order(0, 1);
                ask.line.buyer = buyer;
                journal
                    .project(vec![ask.reserved(generation, None), place.order(0, 1).reserved(generation, None)])
                    .await;
                asks.push(ask);
            }
        }
        journal.project(vec![asks[asks.len() - 1].confirmed(generation, Some("p"), false)]).await;
        if db.store.kind() == "sqlite" {
            db.raw("UPDATE eras SET entries = 1000000").await.unwrap();
            assert_eq!(db.count("SELECT COUNT(*) FROM eras").await, generation + 1);
        }
    }
    let mut wanted: Vec<OrderId> = asks.iter().map(|ask| ask.line.order).collect();
    wanted.sort_by(|a, b| b.cmp(a));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = db.store.orders_of(buyer, after, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|order| order.id));
    }
    assert_eq!(seen, wanted);
    let view = InboxView { user: buyer, since: at(0), unread: true };
    let lines = db.store.inbox(view, None, 3).await.unwrap();
    let rest = db.store.inbox(view, Some(lines[2].id), 3).await.unwrap();
    assert_eq!(lines.iter().chain(&rest).map(|line| line.at).collect::<Vec<_>>(), [3, 2, 1, 0].map(at));
    assert_eq!(db.store.inbox_unread(view, 9).await.unwrap(), 4);
    db.store.inbox_mark_read_up_to(view, lines[1].id, at(9)).await.unwrap();
    assert_eq!(db.store.inbox_unread(view, 9).await.unwrap(), 1);
    for ask in &asks {
        let order = db.store.order_of_key(buyer, &ask.key).await.unwrap().expect("an order");
        assert_eq!(order.id, ask.line.order);
    }
    assert_eq!(db.store.drop_orders(sale.id(), None, 100).await.unwrap().len(), 24);
}

/// Seven thousand ended drops, the oldest first: the first 1,500 of one time, the others of another, and one of a
/// third.
const MANY_IN_SQLITE: &str = "\
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7000) \
    INSERT INTO drops (id, creator_id, product_id, title, per_buyer_limit, low_stock_threshold, hold_ms, starts_at, created_at, status, \
    last_event_at, obligations, settled) \
    SELECT unhex(printf('%032x', i)), unhex(printf('%032x', 1)), unhex(printf('%032x', 2)), 'A drop', 0, 0, 1000, \
    CASE WHEN i = 3000 THEN 9 WHEN i <= 1500 THEN 7 ELSE 5 END, 0, 'ended', 9, 0, 1 FROM n; ANALYZE";
const MANY_IN_POSTGRES: &str = "\
    INSERT INTO drops (id, creator_id, product_id, title, per_buyer_limit, low_stock_threshold, hold_ms, starts_at, created_at, status, \
    last_event_at, obligations, settled) \
    SELECT lpad(to_hex(i), 32, '0')::uuid, lpad('1', 32, '0')::uuid, lpad('2', 32, '0')::uuid, 'A drop', 0, 0, 1000, \
    CASE WHEN i = 3000 THEN 9 WHEN i <= 1500 THEN 7 ELSE 5 END, 0, 'ended', 9, 0, TRUE FROM generate_series(1, 7000) i; ANALYZE";

pub async fn drops_of_a_time_are_looked_for_within_bounds(db: Database) {
    db.raw(if db.store.kind() == "sqlite" { MANY_IN_SQLITE } else { MANY_IN_POSTGRES }).await.unwrap();
    let id = |n: u128| DropId(uuid::Uuid::from_u128(n));
    let page = async |starts: i64, filter: DropFilter, after| {
        let time = Timestamp::from_millis;
        let filter = DropFilter { starts_from: Some(time(starts)), starts_before: Some(time(starts + 1)), ..filter };
        let found = db.store.drops(filter, after, 3).await.unwrap();
        (found.rows.iter().map(|row| row.spec.id).collect::<Vec<_>>(), found.stopped_at.map(DropId))
    };
    let none = DropFilter::default();
    for filter in [none, DropFilter { phase: Some(Phase::Over), creator: Some(CreatorId(id(1).0)), ..none }] {
        assert_eq!(page(5, filter, None).await, (vec![id(7_000), id(6_999), id(6_998)], None));
        // Frequent times are looked up from the newest drop on; a page ends after 5,000 drops without a match.
        assert_eq!(page(7, filter, None).await, (vec![], Some(id(2_001))));
        assert_eq!(page(7, filter, Some(id(2_001))).await, (vec![id(1_500), id(1_499), id(1_498)], None));
        // Rare and absent times are found at once by the index of times.
        assert_eq!(page(9, filter, None).await, (vec![id(3_000)], None));
        assert_eq!(page(9, filter, Some(id(3_000))).await, (vec![], None));
        assert_eq!(page(8, filter, None).await, (vec![], None));
    }
    assert_eq!(page(9, DropFilter { phase: Some(Phase::Live), ..none }, None).await, (vec![], None));
    let count = "SELECT id FROM drops WHERE TRUE AND TRUE AND starts_at >= 6 ORDER BY starts_at LIMIT 1001";
    assert_eq!(db.indexes_of(count).await, ["drops_by_start"]);
    let page = "SELECT * FROM drops WHERE TRUE AND TRUE AND starts_at >= 8 ORDER BY starts_at LIMIT 2000";
    assert_eq!(db.indexes_of(page).await, ["drops_by_start"]);
}
