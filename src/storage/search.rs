//! Lists filtered by a range: newest first, for any number of rows in the range, and with a bound on the rows read for
//! one page.
//!
//! If few rows are in the range, they are found in the range's own index and sorted. Otherwise the list's index is
//! walked from the newest on, and the page ends where the walk ends; the next page continues there.

use super::sql::{Columns, Session, Value};
use super::{Found, StoreError};
use sqlx::AssertSqlSafe;
use std::fmt::Write;
use uuid::Uuid;

/// Up to this many rows of a range count as few.
const FEW: u32 = 1_000;
/// Rows examined for one page.
const WALK: u32 = 5_000;

/// A condition, with a `?` for its value.
pub(super) type Condition = (&'static str, Option<Value>);

/// The query of a page.
pub(super) struct Search {
    /// The table to search.
    pub table: &'static str,
    /// Conditions that the list's index covers.
    pub conditions: Vec<Condition>,
    /// The column of the range.
    pub column: &'static str,
    /// Conditions on that column; empty for a list without a range.
    pub range: Vec<Condition>,
    /// How many of the conditions are the prefix of the range's own index. `None`: there is no such index.
    pub indexed: Option<usize>,
}

/// A statement under construction.
#[derive(Default)]
struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    /// Adds a literal text. Each `?` in it becomes the number of its value.
    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        let mut values = values.into_iter();
        for (index, part) in text.split('?').enumerate() {
            if index > 0 {
                self.values.push(values.next().expect("a value for each placeholder"));
                let _ = write!(self.text, "${}", self.values.len());
            }
            self.text += part;
        }
    }

    fn all(&mut self, conditions: &[Condition]) {
        self.text += "TRUE";
        for (condition, value) in conditions {
            self.text += " AND ";
            self.add(condition, value.clone());
        }
    }

    async fn read<S: Session>(self, session: &mut S) -> Result<Vec<S::Row>, StoreError> {
        // The text consists of this program's literals only: input is always a value.
        session.all(AssertSqlSafe(self.text), self.values).await
    }
}

impl Search {
    /// The rows of a page, newest first, those before `after`. `head` ends with `WHERE`, and `tail` follows the page.
    /// `row` builds the page's items from the statement's rows.
    pub async fn page<S: Session, T>(
        &self,
        session: &mut S,
        (head, tail): (&str, &str),
        (after, limit): (Uuid, u32),
        items: impl FnOnce(&[S::Row]) -> Result<Vec<T>, StoreError>,
    ) -> Result<Found<T>, StoreError> {
        let mut page = Statement::default();
        page.add(head, []);
        let walks = !self.range.is_empty() && !self.is_few(session).await?;
        match self.indexed {
            _ if self.range.is_empty() => {
                page.add(" id < ? AND ", [after.into()]);
                page.all(&self.conditions);
            }
            Some(indexed) if !walks => self.add_few(&mut page, indexed, (after, limit)),
            _ => self.add_walk(&mut page, (after, limit)),
        }
        page.add(" ORDER BY id DESC LIMIT ?", [limit.into()]);
        page.add(tail, []);
        let rows = items(&page.read(session).await?)?;
        let stopped_at =
            if walks && rows.len() < limit as usize { self.end_of_walk(session, after).await? } else { None };
        Ok(Found { rows, stopped_at })
    }

    /// Whether few rows are in the range.
    async fn is_few<S: Session>(&self, session: &mut S) -> Result<bool, StoreError> {
        let Some(indexed) = self.indexed else { return Ok(false) };
        let mut count = Statement::default();
        count.add("SELECT COUNT(*) AS found FROM (", []);
        self.add_range(&mut count, "id", indexed, FEW + 1);
        count.add(") AS found", []);
        let rows = count.read(session).await?;
        let found = rows.first().map_or(Ok(0), |row| row.int("found"))?;
        Ok(found <= i64::from(FEW))
    }

    /// Selects the first rows of the range, in the order of its index.
    fn add_range(&self, statement: &mut Statement, columns: &str, indexed: usize, limit: u32) {
        statement.add(&format!("SELECT {columns} FROM {} WHERE ", self.table), []);
        statement.all(&self.conditions[..indexed]);
        statement.text += " AND ";
        statement.all(&self.range);
        statement.add(&format!(" ORDER BY {} LIMIT ?", self.column), [limit.into()]);
    }

    fn add_few(&self, page: &mut Statement, indexed: usize, (after, limit): (Uuid, u32)) {
        let others = &self.conditions[indexed..];
        page.add(" id IN (SELECT id FROM (", []);
        // There may be more rows by now.
        self.add_range(page, if others.is_empty() { "id" } else { "*" }, indexed, 2 * FEW);
        page.add(") AS found WHERE id < ? AND ", [after.into()]);
        page.all(others);
        page.add(" ORDER BY id DESC LIMIT ?)", [limit.into()]);
    }

    fn add_walk(&self, page: &mut Statement, (after, limit): (Uuid, u32)) {
        page.add(
            &format!(" id IN (SELECT id FROM (SELECT id, {} FROM {} WHERE id < ? AND ", self.column, self.table),
            [after.into()],
        );
        page.all(&self.conditions);
        page.add(" ORDER BY id DESC LIMIT ?) AS walked WHERE ", [WALK.into()]);
        page.all(&self.range);
        page.add(" ORDER BY id DESC LIMIT ?)", [limit.into()]);
    }

    /// The last row that a walk reads, unless it reaches the list's end before.
    async fn end_of_walk<S: Session>(&self, session: &mut S, after: Uuid) -> Result<Option<Uuid>, StoreError> {
        let mut last = Statement::default();
        last.add(&format!("SELECT id FROM {} WHERE id < ? AND ", self.table), [after.into()]);
        last.all(&self.conditions);
        last.add(" ORDER BY id DESC LIMIT 1 OFFSET ?", [(WALK - 1).into()]);
        last.read(session).await?.first().map(|row| row.id("id")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_placeholder_has_the_number_of_its_value() {
        let mut statement = Statement::default();
        statement.add("SELECT ? FROM t WHERE ", [Value::from(1_u32)]);
        statement.all(&[("a = ?", Some(2_u32.into())), ("b = 'x'", None), ("c < ?", Some(3_u32.into()))]);
        statement.add(" LIMIT ?", [4_u32.into()]);
        assert_eq!(statement.text, "SELECT $1 FROM t WHERE TRUE AND a = $2 AND b = 'x' AND c < $3 LIMIT $4");
        assert_eq!(statement.values.len(), 4);
    }
}
