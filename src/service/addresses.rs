//! Where orders are sent: the addresses of users, encrypted before they reach the database.
//!
//! An address is written in versions that never change. Nothing of one is in the journal, in events or in logs.

#[cfg(test)]
pub mod fixtures;
mod input;
pub mod references;
#[cfg(test)]
mod tests;

pub use input::{AddressChange, AddressChangeInput, AddressInput};

use super::caller::changed_fields;
use super::encryption::key_file::KeyFile;
use super::encryption::{Keyring, Place, Sealed};
use super::{Caller, Code, Failure, FieldError, Object, clock::Clock};
use crate::domain::country::AddressPart;
use crate::domain::limits::{ADDRESS_CHANGE_ATTEMPTS_MAX, PAST_ADDRESS_MS_MAX, PAST_ADDRESS_MS_MIN};
use crate::domain::{AddressId, AddressVersionId, Country, OrderView, Timestamp, UserId};
use crate::storage::{AddressRow, Store};
use references::References;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often past versions are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Pause between two transactions that forget some.
const FORGET_PAUSE: Duration = Duration::from_millis(50);

/// A postal address. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Of the person.
    pub name: String,
    pub company: Option<String>,
    /// Street and number.
    pub line1: String,
    pub line2: Option<String>,
    pub city: Option<String>,
    /// State, province, prefecture …
    pub region: Option<String>,
    pub postal_code: Option<String>,
    pub country: Country,
    pub phone: Option<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(address)")
    }
}

impl Address {
    /// The parts that its country requires and that it lacks, as fields with the reason.
    #[must_use]
    pub fn missing(&self) -> Vec<FieldError> {
        let lacks = |part: &AddressPart| match part {
            AddressPart::City => self.city.is_none(),
            AddressPart::Region => self.region.is_none(),
            AddressPart::PostalCode => self.postal_code.is_none(),
        };
        let field = |part| {
            let name = match part {
                AddressPart::City => "/city",
                AddressPart::Region => "/region",
                AddressPart::PostalCode => "/postal_code",
            };
            FieldError { pointer: name.to_owned(), detail: format!("is required for {}", self.country) }
        };
        self.country.required_parts().filter(lacks).map(field).collect()
    }
}

/// An address with its ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownAddress {
    pub id: AddressId,
    /// Changes with every change.
    pub version: AddressVersionId,
    /// When the version was made.
    pub updated_at: Timestamp,
    pub address: Address,
    /// What an order names it with, until `reference_expires_at`.
    pub reference: String,
    pub reference_expires_at: Timestamp,
}

/// The use cases of addresses. Cheap to clone.
#[derive(Clone)]
pub struct Addresses {
    store: Arc<dyn Store>,
    keys: KeyFile,
    clock: Clock,
    references: References,
}

impl Addresses {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: KeyFile, clock: Clock, references: References) -> Self {
        Self { store, keys, clock, references }
    }

    /// All addresses of a user, the oldest first.
    ///
    /// # Errors
    /// `address_unreadable`, `database_unavailable`.
    pub async fn list(&self, user: UserId) -> Result<Vec<KnownAddress>, Failure> {
        let rows = self.store.addresses(user).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys.keys().await;
        rows.iter().map(|row| self.known(&keys, row)).collect()
    }

    /// One address of a user.
    ///
    /// # Errors
    /// `address_not_found`, `address_unreadable`, `database_unavailable`.
    pub async fn get(&self, user: UserId, id: AddressId) -> Result<KnownAddress, Failure> {
        let row = self.store.address(user, id).await?.ok_or_else(|| Failure::new(Code::AddressNotFound))?;
        self.known(&*self.keys.keys().await, &row)
    }

    /// Adds an address, unless the user has the very same one, which is returned then. Returns whether it is new.
    ///
    /// # Errors
    /// `too_many_addresses`, `user_not_found` if the account was deleted, `address_unreadable`, `database_unavailable`.
    pub async fn add(&self, caller: &Caller, address: Address) -> Result<(KnownAddress, bool), Failure> {
        let known = self.list(caller.user).await?;
        if let Some(same) = known.into_iter().find(|known| known.address == address) {
            return Ok((same, false));
        }
        let added = self.version_of(caller.user, AddressId::new(), address);
        let row = sealed(&*self.keys.keys().await, caller.user, &added);
        let object = Object { kind: "address", id: added.id.0 };
        let audit = caller.audit(added.updated_at, "address_added", object, &serde_json::json!({}));
        if self.store.add_address(&row, &audit).await? {
            Ok((added, true))
        } else {
            Err(Failure::new(Code::TooManyAddresses))
        }
    }

    /// Changes an address: a new version takes its place. Without a difference nothing changes.
    ///
    /// # Errors
    /// `address_not_found`, `conflicting_fields` if its country requires more, `overloaded` after too many concurrent
    /// changes, `user_not_found`, `address_unreadable`, `database_unavailable`.
    pub async fn change(
        &self,
        caller: &Caller,
        id: AddressId,
        change: &AddressChange,
    ) -> Result<KnownAddress, Failure> {
        for _ in 0..ADDRESS_CHANGE_ATTEMPTS_MAX {
            let old = self.get(caller.user, id).await?;
            let address = change.of(&old.address);
            if address == old.address {
                return Ok(old);
            }
            let missing = address.missing();
            if !missing.is_empty() {
                return Err(Failure::conflicting(missing));
            }
            let new = self.version_of(caller.user, id, address);
            let row = sealed(&*self.keys.keys().await, caller.user, &new);
            let detail = changed_fields(&change.fields());
            let object = Object { kind: "address", id: id.0 };
            let audit = caller.audit(new.updated_at, "address_changed", object, &detail);
            if self.store.change_address(&row, old.version, &audit).await? {
                return Ok(new);
            }
        }
        Err(Failure { detail: "Others are changing this address".into(), ..Failure::retry(Code::Overloaded, 1) })
    }

    /// The address of an order, as it was when it was ordered; none if nothing is shipped. The caller of this has checked who may
    /// read it.
    ///
    /// # Errors
    /// `address_not_found` if it was kept long enough, `address_unreadable`, `database_unavailable`.
    pub async fn of_order(&self, order: &OrderView) -> Result<Option<Address>, Failure> {
        let Some(delivery) = &order.delivery else { return Ok(None) };
        let row = self.store.address_version(order.buyer, delivery.address).await?;
        let row = row.ok_or_else(|| Failure::new(Code::AddressNotFound))?;
        opened(&*self.keys.keys().await, &row).map(Some)
    }

    /// Forgets versions that were changed or deleted and that no order needs, as long as the task runs.
    pub async fn forget(self) {
        let mut round = tokio::time::interval(FORGET_EVERY);
        loop {
            round.tick().await;
            let now = self.clock.now();
            let bounds = (now.plus_millis(-PAST_ADDRESS_MS_MIN), now.plus_millis(-PAST_ADDRESS_MS_MAX));
            let mut after = None;
            loop {
                match self.store.forget_past_addresses(bounds.0, bounds.1, after).await {
                    Ok(Some(next)) => after = Some(next),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "past addresses stay until the next round");
                        break;
                    }
                }
                tokio::time::sleep(FORGET_PAUSE).await;
            }
        }
    }

    /// Deletes an address. It need not be readable.
    ///
    /// # Errors
    /// `address_not_found`, `database_unavailable`.
    pub async fn delete(&self, caller: &Caller, id: AddressId) -> Result<(), Failure> {
        let object = Object { kind: "address", id: id.0 };
        let audit = caller.audit(self.clock.now(), "address_deleted", object, &serde_json::json!({}));
        if self.store.delete_address(caller.user, id, &audit).await? {
            Ok(())
        } else {
            Err(Failure::new(Code::AddressNotFound))
        }
    }

    fn version_of(&self, user: UserId, id: AddressId, address: Address) -> KnownAddress {
        self.referenced(user, (id, AddressVersionId::new(), self.clock.now()), address)
    }

    fn known(&self, keys: &Keyring, row: &AddressRow) -> Result<KnownAddress, Failure> {
        Ok(self.referenced(row.user, (row.address, row.version, row.updated_at), opened(keys, row)?))
    }

    fn referenced(
        &self,
        user: UserId,
        (id, version, updated_at): (AddressId, AddressVersionId, Timestamp),
        address: Address,
    ) -> KnownAddress {
        let (reference, reference_expires_at) = self.references.issue(user, version, address.country, self.clock.now());
        KnownAddress { id, version, updated_at, address, reference, reference_expires_at }
    }
}

/// The place of the encrypted address in SQL: a version and the user are part of it, so that neither can be exchanged.
#[must_use]
pub fn place(row: &AddressRow) -> Place {
    place_of(row.user, row.version)
}

fn place_of(user: UserId, version: AddressVersionId) -> Place {
    Place { table: "addresses", column: "sealed", id: version.0, owner: user.0 }
}

/// The encrypted part of a row.
///
/// # Errors
/// The text in place of a key's id.
pub fn sealed_part(row: &AddressRow) -> Result<Sealed, String> {
    let key = row.key.parse().map_err(|error| format!("addresses.key_id of {}: {error}", row.version))?;
    Ok(Sealed { key, data_key: row.data_key.clone(), text: row.sealed.clone() })
}

fn sealed(keys: &Keyring, user: UserId, known: &KnownAddress) -> AddressRow {
    let text = serde_json::to_vec(&known.address).expect("plain fields");
    let Sealed { key, data_key, text } = keys.seal(place_of(user, known.version), &text);
    AddressRow {
        version: known.version,
        address: known.id,
        user,
        updated_at: known.updated_at,
        key: key.to_string(),
        data_key,
        sealed: text,
    }
}

fn opened(keys: &Keyring, row: &AddressRow) -> Result<Address, Failure> {
    let unreadable = |error: &dyn fmt::Display| {
        tracing::error!(%error, "an address cannot be decrypted");
        let detail = format!("The address {} cannot be decrypted; it can be deleted", row.address);
        Failure::with(Code::AddressUnreadable, detail)
    };
    let sealed = sealed_part(row).map_err(|error| unreadable(&error))?;
    let text = keys.open(place(row), &sealed).map_err(|error| unreadable(&error))?;
    // The error of the parser may repeat some of the text.
    serde_json::from_slice(&text).map_err(|_| unreadable(&"its text is of another version"))
}
