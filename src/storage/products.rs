//! Products of the catalogue: adding, changing, listing.

use super::catalogue::before;
use super::search::{Condition, Search};
use super::sql::{Database, Session, args};
use super::{AuditRow, Found, Product, ProductFilter, ProductSummary, StoreError, accounts, audit, rows};
use crate::domain::{ProductId, UserId};
use serde::Serialize;

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) async fn insert<D: Database>(db: &D, product: &Product) -> Result<(), StoreError> {
    let sql = "INSERT INTO products (id, creator_id, name, description, price_amount, price_currency, images, attributes, \
               variants, status, created_at, updated_at, version, shipped) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let Product { id, creator_id, name, description, price, status, created_at, updated_at, version, .. } = product;
    let (images, attributes) = (json(&product.images)?, json(&product.attributes)?);
    let variants = json(&product.variants)?;
    let mut args = args![id.0, creator_id.0, name, description, price.amount, price.currency.as_str()];
    args.extend(args![
        &images,
        &attributes,
        &variants,
        status.as_str(),
        *created_at,
        *updated_at,
        *version,
        product.shipped
    ]);
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, UserId(creator_id.0)).await?;
    tx.run(sql, args).await?;
    tx.commit().await
}

/// Writes only over the version that the change is based on: of two concurrent changes, one fails and has to read
/// again.
pub(super) async fn update<D: Database>(
    db: &D,
    product: &Product,
    from_version: u32,
    audit: &AuditRow,
) -> Result<bool, StoreError> {
    let sql = "UPDATE products SET name = $3, description = $4, price_amount = $5, price_currency = $6, images = $7, \
               attributes = $8, variants = $9, status = $10, updated_at = $11, version = $12, shipped = $13 \
               WHERE id = $1 AND version = $2";
    let Product { id, creator_id, name, description, price, status, updated_at, version, .. } = product;
    let (images, attributes) = (json(&product.images)?, json(&product.attributes)?);
    let variants = json(&product.variants)?;
    let mut args = args![id.0, from_version, name, description, price.amount, price.currency.as_str()];
    args.extend(args![&images, &attributes, &variants, status.as_str(), *updated_at, *version, product.shipped]);
    let mut tx = db.transaction().await?;
    accounts::lock(&mut tx, UserId(creator_id.0)).await?;
    if tx.run(sql, args).await? == 0 {
        return Ok(false);
    }
    audit::add(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn get<D: Database>(db: &D, id: ProductId) -> Result<Option<Product>, StoreError> {
    let sql = "SELECT * FROM products WHERE id = $1";
    db.session().await?.one(sql, args![id.0]).await?.as_ref().map(rows::product).transpose()
}

pub(super) async fn list<D: Database>(
    db: &D,
    filter: ProductFilter,
    after: Option<ProductId>,
    limit: u32,
) -> Result<Found<ProductSummary>, StoreError> {
    let mut conditions: Vec<Condition> = vec![("status = ?", Some(filter.status.as_str().into()))];
    if let Some(currency) = filter.currency {
        conditions.push(("price_currency = ?", Some(currency.as_str().into())));
    }
    // A creator's products have no index by price.
    let mut indexed = Some(conditions.len());
    if let Some(creator) = filter.creator {
        conditions.push(("creator_id = ?", Some(creator.0.into())));
        indexed = None;
    }
    let min = filter.price_min.map(|amount| ("price_amount >= ?", Some(amount.into())));
    let max = filter.price_max.map(|amount| ("price_amount <= ?", Some(amount.into())));
    let range = min.into_iter().chain(max).collect();
    let search = Search { table: "products", conditions, column: "price_amount", range, indexed };
    // Without the columns that a summary omits: they are on overflow pages, which are then not read.
    let head = format!(
        "SELECT id, creator_id, name, price_amount, price_currency, {} AS image, status, created_at, updated_at \
         FROM products WHERE",
        D::FIRST_IMAGE
    );
    let summaries = |rows: &[<D::Session as Session>::Row]| rows.iter().map(rows::product_summary).collect();
    let from = before(after.map(|id| id.0));
    search.page(&mut db.browse().await?, (&head, ""), (from, limit), summaries).await
}
