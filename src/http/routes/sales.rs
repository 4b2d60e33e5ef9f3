//! The seller's side of orders.

use super::Answer;
use crate::domain::{DropId, OrderId};
use crate::http::Services;
use crate::http::dto::orders::{EXPORT_COLUMNS, HistoryBody, OrderBody, SoldOrderBody, export_line};
use crate::http::pages::{self, List, Paging};
use crate::http::path::Id;
use crate::service::sales::Export;
use crate::service::{Caller, Code, Failure};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

/// `GET /drops/{id}/orders`.
pub async fn list(
    services: web::Data<Services>,
    caller: Caller,
    request: HttpRequest,
    Id(id): Id<DropId>,
    paging: Paging,
) -> Answer {
    let after = paging.after(List::Sales)?.map(OrderId);
    let page = services.sales.list(&caller, id, after, paging.limit).await?;
    Ok(pages::answer(&request, List::Sales, &page, |order| order.id.0, SoldOrderBody::from))
}

/// `GET /drops/{id}/orders/export`: everything, in one answer that is never in memory as a whole.
pub async fn export(services: web::Data<Services>, caller: Caller, request: HttpRequest, Id(id): Id<DropId>) -> Answer {
    let format = match request.query_string() {
        "" | "format=csv" => Format::Csv,
        "format=ndjson" => Format::Ndjson,
        _ => return Err(Failure::with(Code::ValidationFailed, "format must be csv or ndjson").into()),
    };
    let export = services.sales.export(&caller, id).await?;
    let (media_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", format!("attachment; filename=\"{id}.csv\"")),
        Format::Ndjson => ("application/x-ndjson", format!("attachment; filename=\"{id}.ndjson\"")),
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media_type)).insert_header((CONTENT_DISPOSITION, name));
    Ok(response.streaming(encoded(export, format)))
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    Ndjson,
}

/// The head of the table, then a chunk for each page. An error ends the answer without its last chunk, so that nobody takes
/// what arrived for everything.
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
                    .map(|order| export_line(order, variants.get(&order.variant_id).map_or("", String::as_str))),
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
        writer.write_record(&line).map_err(|_| unwritable())?;
    }
    writer.into_inner().map(Bytes::from).map_err(|_| unwritable())
}

/// Writing to memory does not fail; if it ever does, the export breaks off.
fn unwritable() -> Failure {
    Failure::new(Code::Internal)
}

/// `POST /orders/{id}/refund`.
pub async fn refund(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>) -> Answer {
    Ok(HttpResponse::Ok().json(OrderBody::from(&services.sales.refund(&caller, id).await?)))
}

/// `GET /orders/{id}/history`.
pub async fn history(services: web::Data<Services>, caller: Caller, Id(id): Id<OrderId>) -> Answer {
    let steps = services.sales.history(&caller, id).await?;
    Ok(HttpResponse::Ok().json(HistoryBody::from(steps.as_slice())))
}
