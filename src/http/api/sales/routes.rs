//! Routes of the seller's side of orders.

use crate::domain::{DropId, OrderId};
use crate::http::answer::{Answer, ok};
use crate::http::api::addresses::dto::OrderAddressBody;
use crate::http::api::orders::dto::{HistoryBody, OrderBody};
use crate::http::api::sales::dto::{EXPORT_COLUMNS, SoldOrderBody, export_line};
use crate::http::extract::keyed::{MaybeKeyed, Repeated, once};
use crate::http::extract::pages::{self, List, PageBody, Paging};
use crate::http::extract::path::Id;
use crate::http::openapi::parameters::{ExportQuery, KeyedOrNot, OfDrop, OfOrder, SalesQuery};
use crate::http::openapi::problems::{ASKS, Fails, codes};
use crate::http::{Services, declared};
use crate::service::sales::Export;
use crate::service::{Caller, Code as C, Failure, FieldError};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;

declared::table! {
    list __path_list Manager Reads;
    export __path_export Manager Reads;
    refund __path_refund Seller Orders;
    history __path_history Party Reads;
    address __path_address Seller Reads;
}

#[utoipa::path(
    get,
    path = "/api/v1/drops/{id}/orders",
    tag = "Sales",
    operation_id = "list_sales",
    summary = "What a drop has sold, newest first (its creator, admins)",
    description = "With the buyers' names and e-mail addresses. Each page that is read is a line of the audit trail.",
    params(OfDrop, SalesQuery),
    responses(
        (status = 200, description = "One page", body = PageBody<SoldOrderBody>, headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, where there is one"))),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn list(
    services: web::Data<Services>,
    caller: Caller,
    request: HttpRequest,
    Id(id): Id<DropId>,
    paging: Paging,
) -> Answer {
    let filter = paging.sold_filter()?;
    let after = paging.after(List::Sales)?.map(OrderId);
    let page = services.sales.list(&caller, id, &filter, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Sales, &page, |sold| sold.order.id.0, SoldOrderBody::from))
}

/// Streams all orders; the answer is never in memory as a whole.
#[utoipa::path(
    get,
    path = "/api/v1/drops/{id}/orders/export",
    tag = "Sales",
    operation_id = "export_sales",
    summary = "All of it in one answer (its creator, admins)",
    description = "Each 1,000 orders that are read are a line of the audit trail.",
    params(OfDrop, ExportQuery),
    responses(
        (status = 200, description = "Every order, newest first. An answer that breaks off is not complete", content((String = "text/csv"), (String = "application/x-ndjson")), headers(("Content-Disposition" = String, description = "A name for the file"))),
        Fails<{ codes(&[C::DropNotFound, C::Forbidden]) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn export(services: web::Data<Services>, caller: Caller, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    let format = Format::asked(request.query_string())?;
    let export = services.sales.export(&caller, id).await?;
    let (media_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", format!("attachment; filename=\"{id}.csv\"")),
        Format::Ndjson => ("application/x-ndjson", format!("attachment; filename=\"{id}.ndjson\"")),
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media_type)).insert_header((CONTENT_DISPOSITION, name));
    Ok(response.streaming(encoded(export, format)))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Csv,
    Ndjson,
}

impl Format {
    /// Reads `format` of a query. Empty equals absent.
    fn asked(query: &str) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Query {
            #[serde(default)]
            format: String,
        }
        let query = web::Query::<Query>::from_query(query)
            .map_err(|error| Failure::with(C::ValidationFailed, error.to_string()))?;
        match query.format.as_str() {
            "" | "csv" => Ok(Self::Csv),
            "ndjson" => Ok(Self::Ndjson),
            _ => {
                let detail = "must be csv or ndjson".to_owned();
                Err(Failure::invalid(vec![FieldError { pointer: "/format".to_owned(), detail }]))
            }
        }
    }
}

/// The head of the table, then a chunk for each page. An error ends the answer without its last chunk, so that no
/// client takes it for complete.
fn encoded(export: Export, format: Format) -> impl Stream<Item = Result<Bytes, Failure>> {
    let head = match format {
        Format::Csv => csv_lines(std::iter::once(EXPORT_COLUMNS.map(str::to_owned))),
        Format::Ndjson => Ok(Bytes::new()),
    };
    let variants = export.variants.clone();
    let pages = export.pages().map(move |page| {
        let orders = page?;
        match format {
            Format::Csv => csv_lines(
                orders
                    .iter()
                    .map(|sold| export_line(sold, variants.get(&sold.order.variant_id).map_or("", String::as_str))),
            ),
            Format::Ndjson => {
                let mut lines = Vec::new();
                for order in &orders {
                    serde_json::to_writer(&mut lines, &SoldOrderBody::from(order)).map_err(|_| unwritable())?;
                    lines.push(b'\n');
                }
                Ok(lines.into())
            }
        }
    });
    stream::once(async { head })
        .filter(|head| std::future::ready(!matches!(head, Ok(bytes) if bytes.is_empty())))
        .chain(pages)
}

fn csv_lines(lines: impl Iterator<Item = [String; EXPORT_COLUMNS.len()]>) -> Result<Bytes, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.write_record(line.map(harmless)).map_err(|_| unwritable())?;
    }
    writer.into_inner().map(Bytes::from).map_err(|_| unwritable())
}

/// Makes a cell that a spreadsheet does not take for a formula: creators choose names, and others open the table. The
/// leading quote marks the cell as text; it is not shown.
fn harmless(cell: String) -> String {
    match cell.as_bytes().first() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') => format!("'{cell}"),
        _ => cell,
    }
}

/// Writing to memory does not fail; if it ever does, the export is aborted.
fn unwritable() -> Failure {
    Failure::new(C::Internal)
}

#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/refund",
    tag = "Sales",
    operation_id = "refund_order",
    summary = "Give a buyer's money back (the drop's creator, admins)",
    description = "`refund_due` at first, `refunded` once the gateway has given the money back; the units are free at once.",
    params(OfOrder, KeyedOrNot),
    responses(
        (status = 200, description = "The order; repeated: unchanged", body = OrderBody),
        Fails<{ codes(&[C::OrderNotFound, C::DropNotFound, C::Forbidden, C::OrderNotConfirmed, C::OrderNotReserved]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn refund(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>, key: MaybeKeyed) -> Answer {
    once(&services.keys, &caller, key, (Repeated::ChangesNothing, &()), async |attempt| {
        ok(OrderBody::from(&services.sales.refund(&caller, id, attempt).await?))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/address",
    tag = "Sales",
    operation_id = "get_order_address",
    summary = "Where a confirmed order is sent (the drop's creator, admins)",
    description = "The address as it was when it was ordered. Each reading is in the audit trail.",
    params(OfOrder),
    responses(
        (status = 200, description = "The address", body = OrderAddressBody),
        Fails<{ codes(&[C::OrderNotFound, C::DropNotFound, C::Forbidden, C::OrderNotConfirmed, C::AddressNotFound, C::AddressUnreadable]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn address(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>) -> Answer {
    ok(OrderAddressBody::from(&services.sales.address(&caller, &services.addresses, id).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}/history",
    tag = "Orders",
    operation_id = "get_order_history",
    summary = "What happened to an order, oldest first (its buyer, the drop's creator, admins)",
    params(OfOrder),
    responses(
        (status = 200, description = "Each step", body = HistoryBody),
        Fails<{ codes(&[C::OrderNotFound, C::DropNotFound]) | codes(ASKS) }>,
    ),
    security(("bearer" = [])),
)]
pub async fn history(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>) -> Answer {
    let steps = services.sales.history(&caller, id).await?;
    ok(HistoryBody::from(steps.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        let harmless = |text: &str| harmless(text.to_owned());
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "="] {
            assert_eq!(harmless(formula), format!("'{formula}"), "{formula:?}");
        }
        for text in ["", "M", "a=b", "1-2", " =1", "'x"] {
            assert_eq!(harmless(text), text, "{text:?}");
        }
    }

    #[test]
    fn an_export_is_a_table_unless_the_query_says_otherwise() {
        for query in ["", "format=csv", "format="] {
            assert_eq!(Format::asked(query), Ok(Format::Csv), "{query}");
        }
        assert_eq!(Format::asked("format=ndjson"), Ok(Format::Ndjson));
        assert_eq!(Format::asked("format=xml").unwrap_err().fields[0].pointer, "/format");
        assert_eq!(Format::asked("format=csv&format=csv").unwrap_err().code, C::ValidationFailed);
    }
}
