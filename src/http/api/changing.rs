//! What every change of a resource takes.

use crate::http::extract::conditional::Precondition;
use crate::http::extract::keyed::MaybeKeyed;
use crate::http::extract::path::Id;
use crate::http::services::Services;
use crate::service::Caller;
use actix_web::web;

/// A change that somebody asks of the one of an id, once for each key.
pub(in crate::http) type Changing<T> = (web::Data<Services>, Caller, Id<T>, Precondition, MaybeKeyed);
