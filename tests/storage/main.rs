//! One conformance suite, run against SQLite (a temporary file) and a real Postgres. It never skips: without a database it
//! fails and says what to install.

mod accounts;
mod addresses;
mod availability;
mod catalogue;
mod connecting;
mod effects;
mod fixtures;
mod inbox;
mod keys;
mod migration;
mod offsets;
mod owners;
#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
mod pooler;
#[path = "../support/postgres.rs"]
mod postgres;
mod products;
mod projection;
mod reading;
mod refund_requests;
mod sold;
mod throughput;
mod webhooks;
mod workload;

use livedrop::storage::{Store, StoreOptions, connect, connect_with};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::sync::Arc;

/// A test on each database: an async function that takes a [`Database`] as made by the named functions.
macro_rules! on_both {
    ($sqlite:ident, $postgres:ident; $($module:ident::{$($test:ident),+ $(,)?}),+ $(,)?) => {
        mod on_sqlite {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$module::$test(crate::Database::$sqlite().await).await;
                })+
            })+
        }
        mod on_postgres {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$module::$test(crate::Database::$postgres().await).await;
                })+
            })+
        }
    };
}

on_both! {
    sqlite, postgres;
    accounts::{
        an_account_is_found_by_id_and_by_address,
        an_address_is_taken_once,
        of_many_rotations_at_once_exactly_one_wins,
        a_revoked_family_cannot_be_rotated,
        a_revocation_lets_no_token_slip_through,
        a_new_password_signs_out_everywhere,
        an_address_in_another_form_leads_to_the_account_and_is_taken,
        a_hash_is_renewed_unless_it_has_changed,
        an_account_that_is_promoted_has_a_new_password_and_no_login,
        no_login_with_the_old_password_outlives_it,
        changes_of_an_account_at_once_do_not_undo_each_other,
        revocations_are_found_since_a_time,
        nothing_is_made_for_a_deleted_account,
        deletions_race_follows,
        a_deleted_account_leaves_nothing_personal,
        the_audit_trail_is_read_by_actor_and_by_object,
    },
    addresses::{
        an_address_is_its_users_and_comes_back_as_it_was,
        a_crowd_of_additions_stays_within_the_bound,
        rows_are_found_by_their_key_and_wrapped_anew_once,
        a_past_version_is_kept_while_an_order_may_name_it,
        many_past_versions_are_forgotten_some_at_a_time,
    },
    catalogue::{
        a_profile_is_one_per_account_and_handle,
        a_profile_changes_and_keeps_its_followers,
        following_twice_is_following_once,
        whoever_keeps_their_follows_private_is_in_no_list_of_followers,
        crowds_that_follow_and_unfollow_leave_the_right_count,
        pages_of_followers_neither_repeat_nor_skip,
        text_comes_back_as_it_was,
    },
    keys::{
        a_key_stands_for_its_first_attempt,
        a_key_is_kept_for_a_day,
        the_projection_says_which_attempts_the_journal_has,
    },
    effects::{
        scheduling_and_starting,
        an_order_that_is_sent_keeps_where_and_for_how_much,
        a_hold_that_is_paid,
        a_hold_that_is_released,
        a_payment_that_fails,
        a_late_payment_that_gets_its_units_back,
        a_late_payment_that_is_refunded,
        a_refund_returns_the_units,
        a_free_order_is_refunded_without_a_reference,
        low_and_sold_out_and_back_again,
        a_refusal_leaves_nothing,
        a_cancelled_drop_is_settled_when_everyone_has_their_money,
        an_ended_drop_is_settled_when_nothing_is_held,
    },
    inbox::{
        a_buyer_finds_what_became_of_an_order,
        followers_find_what_lasts_since_they_follow,
        marks_are_kept_and_are_nobody_elses,
        a_drop_that_is_rescheduled_takes_its_earlier_times_back,
        a_batch_that_tells_too_many_people_is_for_two_transactions,
        what_is_old_is_forgotten,
        nobody_can_tell_whether_it_was_written_or_computed,
    },
    offsets::{
        an_offset_is_a_consumers_and_a_journals,
        an_earlier_opening_does_not_overwrite_a_later_one,
        dead_letters_are_a_consumers_and_a_journals_each_once_and_in_order,
    },
    refund_requests::{
        an_order_has_one_request_and_one_answer,
        a_drops_requests_are_pages_in_order_of_their_orders,
        nothing_is_left_of_a_deleted_account,
    },
    webhooks::{
        an_event_is_kept_once,
        a_hundred_copies_at_once_are_one_event,
        an_event_is_due_until_it_is_done,
        what_is_done_is_forgotten_some_at_a_time,
        an_incident_is_an_orders_and_kept_once,
    },
    owners::{
        a_journal_gets_its_database_back,
        a_journal_does_not_get_back_what_another_has_had,
        a_sign_of_life_ages_and_ends,
        a_heartbeat_learns_whether_the_database_is_still_its_own,
    },
    products::{
        a_product_comes_back_as_it_was,
        a_change_is_made_once_and_audited,
        of_many_changes_at_once_none_is_lost,
        products_are_filtered_and_paged,
        a_row_from_before_has_the_defaults,
        prices_are_in_every_index_of_a_list,
        a_price_is_looked_for_within_bounds,
    },
    projection::{
        migrating_twice_changes_nothing,
        a_batch_twice_changes_nothing,
        overlapping_batches_apply_each_record_once,
        a_gap_is_refused,
        a_newer_epoch_fences_the_older,
        journals_do_not_share_watermarks,
        a_database_with_unsettled_drops_has_one_journal,
        a_database_without_unsettled_drops_changes_hands,
        a_batch_that_fails_leaves_nothing,
        contradictions_are_refused,
        what_is_set_aside_waits_with_its_drop_and_is_applied_later,
        a_record_that_cannot_be_read_is_set_aside_in_its_place,
        two_projectors_at_once_apply_each_record_once,
        a_key_that_raced_at_two_drops_does_not_stop_the_projection,
        text_that_a_database_cannot_hold_does_not_stop_the_projection,
        a_projection_survives_reopening,
    },
    reading::{
        drops_are_filtered_and_paged,
        drops_that_wait_are_found_by_their_start,
        drops_of_a_time_are_looked_for_within_bounds,
        orders_of_a_buyer_and_of_a_drop_are_paged,
        the_newest_order_outlives_its_journal,
        a_key_leads_to_its_order,
        what_a_buyer_did_is_found_in_every_era,
    },
    sold::{
        a_seller_lists_newest_first_what_a_filter_lets_through,
        who_buyers_are_is_read_with_a_trace_until_they_are_deleted,
    },
    workload::{
        random_workloads_give_the_rows_of_the_engine,
    },
    throughput::{
        the_projection_keeps_up,
    },
}

/// These tests start with an empty database.
mod from_before {
    on_both! {
        empty_sqlite, empty_postgres;
        migration::{
            orders_from_before_are_found,
            rows_that_break_a_rule_are_refused,
        addresses_from_before_have_their_keys,
        the_key_of_an_order_goes_with_its_buyer,
        },
        owners::{
            the_schema_is_told,
        },
    }
}

#[tokio::test]
async fn rules_of_sqlite_are_cheap() {
    migration::no_rule_of_sqlite_is_a_list_of_more_than_two(Database::sqlite().await).await;
}

/// A database for one test.
pub struct Database {
    pub store: Arc<dyn Store>,
    url: String,
    /// Deleted with the test.
    _directory: Option<tempfile::TempDir>,
}

impl Database {
    async fn sqlite() -> Self {
        Self::empty_sqlite().await.migrated().await
    }

    async fn postgres() -> Self {
        Self::empty_postgres().await.migrated().await
    }

    async fn empty_sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite://{}", directory.path().join("livedrop.db").display());
        Self::open(url, Some(directory)).await
    }

    async fn empty_postgres() -> Self {
        Self::open(postgres::fresh_database().await, None).await
    }

    async fn open(url: String, directory: Option<tempfile::TempDir>) -> Self {
        let store = connect(&url).await.expect("the database opens");
        Self { store, url, _directory: directory }
    }

    /// A database with a given store, and a URL for the tests' own queries.
    pub fn reached_by(store: Arc<dyn Store>, url: String) -> Self {
        Self { store, url, _directory: None }
    }

    async fn migrated(self) -> Self {
        self.store.migrate().await.expect("the schema is made");
        self
    }

    /// An empty database of the same kind. It stores inbox lines for the followers of creators with up to `fan_out_max`
    /// followers.
    pub async fn sibling(&self, fan_out_max: u32) -> Self {
        let mut other = if self.url.starts_with("sqlite") { Self::sqlite().await } else { Self::postgres().await };
        other.store = connect_with(&other.url, &StoreOptions { fan_out_max, ..StoreOptions::default() })
            .await
            .expect("the database opens");
        other
    }

    /// Runs a query with a single number as its result.
    pub async fn count(&self, sql: &'static str) -> i64 {
        if self.url.starts_with("sqlite") {
            let mut sqlite = SqliteConnection::connect(&self.url).await.expect("the database opens");
            sqlx::query_scalar(sql).fetch_one(&mut sqlite).await.expect("a number")
        } else {
            let mut postgres = PgConnection::connect(&self.url).await.expect("the database opens");
            sqlx::query_scalar(sql).fetch_one(&mut postgres).await.expect("a number")
        }
    }

    /// Runs a statement past the store.
    pub async fn raw(&self, sql: &'static str) -> Result<(), sqlx::Error> {
        if self.url.starts_with("sqlite") {
            SqliteConnection::connect(&self.url).await?.execute(sql).await.map(|_| ())
        } else {
            PgConnection::connect(&self.url).await?.execute(sql).await.map(|_| ())
        }
    }

    /// The indexes that a query uses, from the database's query plan.
    pub async fn indexes_of(&self, sql: &str) -> Vec<String> {
        let (before, plan): (&[&str], Vec<String>) = if self.url.starts_with("sqlite") {
            let mut sqlite = SqliteConnection::connect(&self.url).await.expect("the database opens");
            let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&mut sqlite).await;
            (&["INDEX "], rows.expect("a plan").iter().map(|row| row.get("detail")).collect())
        } else {
            let mut postgres = PgConnection::connect(&self.url).await.expect("the database opens");
            let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(&mut postgres).await;
            (&["Scan using ", "Bitmap Index Scan on "], rows.expect("a plan").iter().map(|row| row.get(0)).collect())
        };
        let named = |step: &String| {
            let (_, name) = before.iter().find_map(|before| step.split_once(before))?;
            name.split(' ').next().map(str::to_owned)
        };
        plan.iter().filter_map(named).collect()
    }

    /// Another store on the same database, as in another process.
    pub async fn another(&self) -> Arc<dyn Store> {
        connect(&self.url).await.expect("the database opens again")
    }
}
