//! The common arguments of handlers that change a resource.

use crate::http::extract::conditional::Precondition;
use crate::http::extract::keyed::MaybeKeyed;
use crate::http::extract::path::Id;
use crate::http::services::Services;
use crate::service::Caller;
use actix_web::web;

/// The resource's id, the caller, and the optional `If-Match` and `Idempotency-Key` headers.
pub(in crate::http) type Changing<T> = (web::Data<Services>, Caller, Id<T>, Precondition, MaybeKeyed);
