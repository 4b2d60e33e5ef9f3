//! Ids in paths. A malformed id names nothing, so it is the resource's 404 and not a 400.

use crate::domain::{AddressId, CreatorId, DropId, OrderId, ProductId};
use crate::http::problem::Problem;
use crate::service::Code;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};
use std::str::FromStr;

/// An id in a path.
pub trait PathId: FromStr {
    /// The name of the path's parameter.
    const PARAMETER: &'static str = "id";
    /// The code for a malformed id.
    const NOT_FOUND: Code;
}

impl PathId for CreatorId {
    const NOT_FOUND: Code = Code::CreatorNotFound;
}
impl PathId for ProductId {
    const NOT_FOUND: Code = Code::ProductNotFound;
}
impl PathId for DropId {
    const NOT_FOUND: Code = Code::DropNotFound;
}
impl PathId for AddressId {
    const NOT_FOUND: Code = Code::AddressNotFound;
}
impl PathId for OrderId {
    const NOT_FOUND: Code = Code::OrderNotFound;
}

/// `{creator_id}`, in paths where `{id}` is another object.
pub struct CreatorParameter(pub CreatorId);

impl FromStr for CreatorParameter {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl PathId for CreatorParameter {
    const PARAMETER: &'static str = "creator_id";
    const NOT_FOUND: Code = Code::CreatorNotFound;
}

/// The id in the path.
pub struct Id<T>(pub T);

impl<T: PathId> FromRequest for Id<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get(T::PARAMETER).and_then(|text| text.parse().ok());
        ready(id.map(Self).ok_or_else(|| T::NOT_FOUND.into()))
    }
}
