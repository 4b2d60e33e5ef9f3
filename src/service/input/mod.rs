//! What a request asks of a use case, before any rule was applied to it.
//!
//! Each protocol fills the same plain structs (an [`Input`] for each use case) and gets the same errors. A protocol decides only what type
//! a value has: JSON by its kinds, a query by its text ([`FromText`]), GraphQL by its schema. Every rule is in the input's
//! [`check`](Input::check), which goes on after an error, so that one answer names all that are wrong.

mod checks;
mod field;

pub use checks::{Checks, MoneyInput};
pub use field::{Change, Field, FromText, Unvalidated};

use crate::domain::limits::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use crate::service::Failure;

impl<T> Unvalidated<T> {
    /// The values that a use case takes.
    ///
    /// # Errors
    /// `validation_failed` with every error, those of the protocol first; `conflicting_fields` if each field is valid alone.
    pub fn validate<I: Input>(self) -> Result<I::Valid, Failure>
    where
        T: Into<I>,
    {
        let mut checks = Checks::after(self.errors);
        let valid = self.fields.into().check(&mut checks);
        checks.finish(valid)
    }
}

/// The input of a use case, before validation.
pub trait Input: Sized {
    /// The validated values.
    type Valid;

    /// Applies every rule and records each that does not hold. `None` only if an error was recorded.
    fn check(self, checks: &mut Checks) -> Option<Self::Valid>;
}

/// The page of a list.
#[derive(Debug, Default)]
pub struct PageInput {
    /// 1 to `PAGE_LIMIT_MAX`; `PAGE_LIMIT_DEFAULT` if absent.
    pub limit: Field<i64>,
}

impl Input for PageInput {
    type Valid = u32;

    fn check(self, checks: &mut Checks) -> Option<u32> {
        Some(checks.number("/limit", self.limit, 1..=PAGE_LIMIT_MAX).unwrap_or(PAGE_LIMIT_DEFAULT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Code, FieldError};

    struct Point {
        x: Field<i64>,
    }

    impl Input for Point {
        type Valid = u32;

        fn check(self, checks: &mut Checks) -> Option<u32> {
            if self.x == Field::Given(0) {
                checks.conflict("/x", "must not be 0 here");
            }
            checks.required_number("/x", self.x, 0..=9)
        }
    }

    fn wrong(pointer: &str) -> FieldError {
        FieldError { pointer: pointer.to_owned(), detail: "is wrong".to_owned() }
    }

    #[test]
    fn what_the_protocol_found_comes_first_and_makes_it_invalid() {
        let validate = |x: i64, errors: Vec<FieldError>| {
            let input = Unvalidated { fields: Point { x: Field::Given(x) }, errors };
            input.validate::<Point>().map_err(|failure| {
                (failure.code, failure.fields.into_iter().map(|field| field.pointer).collect::<Vec<_>>())
            })
        };
        let invalid =
            |pointers: &[&str]| Err((Code::ValidationFailed, pointers.iter().map(|&p| p.to_owned()).collect()));
        assert_eq!(validate(1, vec![]), Ok(1));
        assert_eq!(validate(0, vec![]), Err((Code::ConflictingFields, vec!["/x".to_owned()])));
        assert_eq!(validate(0, vec![wrong("/z")]), invalid(&["/z", "/x"]));
        assert_eq!(validate(1, vec![wrong("/z")]), invalid(&["/z"]));
        assert_eq!(validate(10, vec![]), invalid(&["/x"]));
    }

    #[test]
    fn a_page_has_a_limit() {
        assert_eq!(Unvalidated::from(PageInput::default()).validate::<PageInput>(), Ok(PAGE_LIMIT_DEFAULT));
        for limit in ["x", "1.5", "99999999999999999999", "0", "101", "-1"] {
            let page = Unvalidated::from(PageInput { limit: Field::of_digits(limit) });
            assert_eq!(page.validate::<PageInput>().unwrap_err().fields[0].detail, "must be 1 to 100", "{limit}");
        }
    }
}
