//! Writes JSON without escaping: for numbers, ids, times, and names of this program. Searching all of them, and each
//! field name, for characters to escape took three quarters of the time to write an order's answer.

use crate::domain::{
    AddressVersionId, Country, Currency, DropId, OrderId, OrderNumber, OrderStatus, RefundCause, ReleaseReason,
    Timestamp, VariantId,
};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// A value that writes the same JSON as its `Serialize`.
pub trait Plain {
    /// Appends the value's JSON to `out`.
    fn write(&self, out: &mut Vec<u8>);
}

/// Implements [`Plain`] for a struct: all its fields by name, in order.
macro_rules! plain {
    ($type:ty, $body:ident { $first:ident $(, $field:ident)* $(,)? }) => {
        impl $crate::http::api::plain::Plain for $type {
            fn write(&self, out: &mut Vec<u8>) {
                // Names every field, so that a new one is a compile error.
                let $body { $first $(, $field)* } = self;
                out.extend_from_slice(concat!("{\"", stringify!($first), "\":").as_bytes());
                $crate::http::api::plain::Plain::write($first, out);
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($field), "\":").as_bytes());
                    $crate::http::api::plain::Plain::write($field, out);
                )*
                out.push(b'}');
            }
        }
    };
}
pub(in crate::http) use plain;

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

macro_rules! plain_as {
    ($($type:ty => |$value:ident, $out:ident| $write:expr),+ $(,)?) => {
        $(impl Plain for $type {
            fn write(&self, $out: &mut Vec<u8>) {
                let $value = self;
                $write;
            }
        })+
    };
}

plain_as! {
    bool => |truth, out| out.extend_from_slice(if *truth { b"true" } else { b"false" }),
    u8 => |number, out| out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
    u32 => |number, out| out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
    i64 => |number, out| out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
    Uuid => |id, out| quoted(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes(), out),
    OrderId => |id, out| id.0.write(out),
    OrderNumber => |number, out| quoted(number.text().as_str().as_bytes(), out),
    DropId => |id, out| id.0.write(out),
    VariantId => |id, out| id.0.write(out),
    Timestamp => |at, out| quoted(&at.to_rfc3339(), out),
    Currency => |currency, out| quoted(currency.as_str().as_bytes(), out),
    AddressVersionId => |id, out| id.0.write(out),
    Country => |country, out| quoted(country.as_str().as_bytes(), out),
    OrderStatus => |status, out| quoted(status.as_str().as_bytes(), out),
    ReleaseReason => |reason, out| quoted(reason.as_str().as_bytes(), out),
    RefundCause => |cause, out| quoted(cause.as_str().as_bytes(), out),
    // Other texts are escaped. Writing to memory does not fail.
    &str => |text, out| serde_json::to_writer(out, text).expect("text"),
}

impl<T: Plain> Plain for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}
