//! Products.

use crate::Database;
use crate::fixtures::{at, audit, creator, money, product, register};
use livedrop::domain::{Attribute, Image, Money, ProductId, ProductStatus, ProductVariant, Timestamp, VariantId};
use livedrop::storage::{AuditFilter, Product, ProductFilter, ProductSummary};

/// A product with a value in every field.
fn full(plain: Product) -> Product {
    let image = |alt: Option<&str>| Image { url: "https://example.com/%F0.png".into(), alt: alt.map(str::to_owned) };
    let number = Attribute::from_json("12345678901234567890.10").expect("a number");
    Product {
        description: "Two\nlines, '; DROP TABLE products; --".to_owned(),
        images: vec![image(None), image(Some("Größe \"M\" 🧥"))],
        attributes: [("größe".to_owned(), "weit \\ \u{ffff}".into()), ("gewicht".to_owned(), number)].into(),
        variants: ["S", "M"]
            .map(|name| ProductVariant { id: VariantId::new(), name: name.to_owned(), price: Some(money(5)) })
            .to_vec(),
        shipped: true,
        status: ProductStatus::Archived,
        updated_at: at(7),
        version: 3,
        ..plain
    }
}

/// The product's fields in a list.
fn summary(product: &Product) -> ProductSummary {
    let Product { id, creator_id, price, status, created_at, updated_at, .. } = *product;
    let (name, image) = (product.name.clone(), product.images.first().cloned());
    ProductSummary { id, creator_id, name, price, image, status, created_at, updated_at }
}

pub async fn a_product_comes_back_as_it_was(db: Database) {
    let (_, star) = register(&db, 0).await;
    let plain = product(star, "Zoë's 🧥", money(0));
    let full = full(product(star, "Jacket", money(10_000_000_000)));
    for product in [plain, full] {
        db.store.insert_product(&product).await.unwrap();
        assert_eq!(db.store.product(product.id).await.unwrap(), Some(product));
    }
    assert_eq!(db.store.product(ProductId::new()).await.unwrap(), None);
}

pub async fn a_change_is_made_once_and_audited(db: Database) {
    let (users, star) = register(&db, 1).await;
    let old = product(star, "Jacket", money(5));
    db.store.insert_product(&old).await.unwrap();
    let new = Product { id: old.id, version: 1, ..full(product(star, "Coat", money(6))) };
    let line = audit(users[0], 1);
    assert!(!db.store.update_product(&new, 1, &line).await.unwrap(), "not of that version");
    assert_eq!(db.store.product(old.id).await.unwrap().as_ref(), Some(&old));
    assert!(db.store.update_product(&new, 0, &line).await.unwrap());
    assert_eq!(db.store.product(old.id).await.unwrap().as_ref(), Some(&new));
    assert!(!db.store.update_product(&old, 0, &audit(users[0], 2)).await.unwrap(), "once");
    assert_eq!(db.store.product(old.id).await.unwrap(), Some(new));
    assert_eq!(db.store.audit(AuditFilter::default(), None, 10).await.unwrap(), [line]);
    let nothing = product(star, "Not there", money(1));
    assert!(!db.store.update_product(&nothing, 0, &audit(users[0], 3)).await.unwrap());
}

pub async fn of_many_changes_at_once_none_is_lost(db: Database) {
    let (users, star) = register(&db, 1).await;
    let jacket = product(star, "Jacket", money(0));
    db.store.insert_product(&jacket).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, id, user) = (db.store.clone(), jacket.id, users[0]);
            tokio::spawn(async move {
                loop {
                    let mut product = store.product(id).await.unwrap().unwrap();
                    let from = product.version;
                    product.version += 1;
                    product.price.amount += 1;
                    if store.update_product(&product, from, &audit(user, 1)).await.unwrap() {
                        return;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let last = db.store.product(jacket.id).await.unwrap().unwrap();
    assert_eq!((last.price, last.version), (money(8), 8));
    assert_eq!(db.store.audit(AuditFilter::default(), None, 100).await.unwrap().len(), 8);
}

pub async fn products_are_filtered_and_paged(db: Database) {
    let (users, star) = register(&db, 1).await;
    let other = creator(users[0], "other");
    db.store.insert_creator(&other).await.unwrap();
    let dollars = |amount| Money { amount, currency: "USD".parse().unwrap() };
    let mut all = Vec::new();
    for i in 0..24 {
        let price = if i % 3 == 0 { dollars(i) } else { money(i) };
        let mut product = product(if i % 2 == 0 { star } else { other.id }, &format!("Product {i}"), price);
        product.images = full(product.clone()).images.into_iter().take(i as usize % 3).collect();
        product.status = if i % 5 == 0 { ProductStatus::Archived } else { ProductStatus::Active };
        db.store.insert_product(&product).await.unwrap();
        all.insert(0, product);
    }
    let active = ProductFilter::default();
    let (euro, dollar) = (Some(money(0).currency), Some(dollars(0).currency));
    let mut filters = vec![
        active,
        ProductFilter { currency: euro, ..active },
        ProductFilter { currency: "JPY".parse().ok(), ..active },
        ProductFilter { currency: euro, price_min: Some(10), ..active },
        ProductFilter { currency: euro, price_max: Some(10), ..active },
        ProductFilter { currency: dollar, price_min: Some(3), price_max: Some(18), ..active },
        ProductFilter { currency: euro, price_min: Some(7), price_max: Some(7), ..active },
    ];
    filters.extend(filters.clone().into_iter().map(|filter| ProductFilter { creator: Some(star), ..filter }));
    filters
        .extend(filters.clone().into_iter().map(|filter| ProductFilter { status: ProductStatus::Archived, ..filter }));
    for filter in filters {
        let wanted: Vec<ProductSummary> = (all.iter())
            .filter(|product| product.status == filter.status)
            .filter(|product| filter.creator.is_none_or(|creator| product.creator_id == creator))
            .filter(|product| filter.currency.is_none_or(|currency| product.price.currency == currency))
            .filter(|product| filter.price_min.is_none_or(|min| product.price.amount >= min))
            .filter(|product| filter.price_max.is_none_or(|max| product.price.amount <= max))
            .map(summary)
            .collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.products(filter, after, 2).await.unwrap().rows;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page);
        }
        assert_eq!(seen, wanted, "{filter:?}");
    }
}

pub async fn a_row_from_before_has_the_defaults(db: Database) {
    let (_, star) = register(&db, 0).await;
    let sql = "INSERT INTO products (id, creator_id, name, description, price_amount, price_currency, created_at) \
               SELECT id, id, 'Jacket', '', 5, 'EUR', 1800000000000 FROM creators";
    db.raw(sql).await.unwrap();
    let listed = db.store.products(ProductFilter::default(), None, 10).await.unwrap().rows;
    let never = Timestamp::from_millis(0);
    let before = Product { id: ProductId(star.0), updated_at: never, ..product(star, "Jacket", money(5)) };
    assert_eq!(listed, [summary(&before)]);
    assert_eq!(db.store.product(before.id).await.unwrap(), Some(before));
}

/// Without the price in the index, a filter without a match would read every product.
pub async fn prices_are_in_every_index_of_a_list(db: Database) {
    let of_lists = if db.store.kind() == "sqlite" {
        "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND sql LIKE '%ON products (%, id, price_amount)'"
    } else {
        "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%products USING btree (%, id, price_amount)'"
    };
    assert_eq!(db.count(of_lists).await, 4);
}

/// Seven thousand products, the oldest first: the first 1,500 at one price, the others at another, and one at a third.
const MANY_IN_SQLITE: &str = "\
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7000) \
    INSERT INTO products (id, creator_id, name, description, price_amount, price_currency, created_at) \
    SELECT unhex(printf('%032x', i)), (SELECT id FROM creators), 'Jacket', '', \
    CASE WHEN i = 3000 THEN 9 WHEN i <= 1500 THEN 7 ELSE 5 END, 'EUR', 1800000000000 FROM n; ANALYZE";
const MANY_IN_POSTGRES: &str = "\
    INSERT INTO products (id, creator_id, name, description, price_amount, price_currency, created_at) \
    SELECT lpad(to_hex(i), 32, '0')::uuid, (SELECT id FROM creators), 'Jacket', '', \
    CASE WHEN i = 3000 THEN 9 WHEN i <= 1500 THEN 7 ELSE 5 END, 'EUR', 1800000000000 FROM generate_series(1, 7000) i; \
    ANALYZE";

pub async fn a_price_is_looked_for_within_bounds(db: Database) {
    let (_, star) = register(&db, 0).await;
    db.raw(if db.store.kind() == "sqlite" { MANY_IN_SQLITE } else { MANY_IN_POSTGRES }).await.unwrap();
    let id = |n: u128| ProductId(uuid::Uuid::from_u128(n));
    let page = async |price: i64, creator, after| {
        let filter =
            ProductFilter { price_min: Some(price), price_max: Some(price), creator, ..ProductFilter::default() };
        let found = db.store.products(filter, after, 3).await.unwrap();
        (found.rows.iter().map(|row| row.id).collect::<Vec<_>>(), found.stopped_at.map(ProductId))
    };
    for creator in [None, Some(star)] {
        assert_eq!(page(5, creator, None).await, (vec![id(7_000), id(6_999), id(6_998)], None));
        // Frequent prices are looked up from the newest product on; a page ends after 5,000 products without a match.
        assert_eq!(page(7, creator, None).await, (vec![], Some(id(2_001))));
        assert_eq!(page(7, creator, Some(id(2_001))).await, (vec![id(1_500), id(1_499), id(1_498)], None));
        assert_eq!(page(7, creator, Some(id(3))).await, (vec![id(2), id(1)], None));
    }
    // Rare and absent prices are found at once by the index of prices.
    assert_eq!(page(9, None, None).await, (vec![id(3_000)], None));
    assert_eq!(page(9, None, Some(id(3_000))).await, (vec![], None));
    assert_eq!(page(8, None, None).await, (vec![], None));
    let count = "SELECT id FROM products WHERE TRUE AND status = 'active' AND TRUE AND price_amount >= 6 ORDER BY price_amount LIMIT 1001";
    assert_eq!(db.indexes_of(count).await, ["products_by_price"]);
    // All products have one currency, so both indexes are fine.
    let count = "SELECT id FROM products WHERE TRUE AND status = 'active' AND price_currency = 'EUR' AND TRUE AND price_amount >= 6 \
                 ORDER BY price_amount LIMIT 1001";
    let [index] = &db.indexes_of(count).await[..] else { panic!("one index") };
    assert!(["products_by_price", "products_by_currency_and_price"].contains(&&**index), "{index}");
}
