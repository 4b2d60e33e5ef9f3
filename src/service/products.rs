//! Products: what drops sell.

use super::{Code, Failure, Page, clock::Clock, creators::page};
use crate::domain::{CreatorId, Money, ProductId, UserId};
use crate::storage::{Product, Store};
use std::sync::Arc;

/// A product to add, already validated field by field.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// The usual price.
    pub price: Money,
}

/// The product use cases.
#[derive(Clone)]
pub struct Products {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Products {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Adds a product to the caller's catalogue.
    ///
    /// # Errors
    /// `not_a_creator`, `database_unavailable`.
    pub async fn create(&self, caller: UserId, new: NewProduct) -> Result<Product, Failure> {
        let creator_id = CreatorId::from(caller);
        self.store.creator(creator_id).await?.ok_or_else(|| Failure::new(Code::NotACreator))?;
        let product = Product {
            id: ProductId::new(),
            creator_id,
            name: new.name,
            description: new.description,
            price: new.price,
            created_at: self.clock.now(),
        };
        self.store.insert_product(&product).await?;
        Ok(product)
    }

    /// One product.
    ///
    /// # Errors
    /// `product_not_found`, `database_unavailable`.
    pub async fn get(&self, id: ProductId) -> Result<Product, Failure> {
        self.store.product(id).await?.ok_or_else(|| Failure::new(Code::ProductNotFound))
    }

    /// Newest first, those before `after`; one creator's only if asked for.
    ///
    /// # Errors
    /// `creator_not_found`, `database_unavailable`.
    pub async fn list(
        &self,
        creator: Option<CreatorId>,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, Failure> {
        if let Some(creator) = creator {
            self.store.creator(creator).await?.ok_or_else(|| Failure::new(Code::CreatorNotFound))?;
        }
        Ok(page(self.store.products(creator, after, limit + 1).await?, limit))
    }
}
