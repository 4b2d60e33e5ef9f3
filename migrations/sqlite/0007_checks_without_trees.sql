-- For `IN` with a list of more than two, SQLite makes a temporary tree of the list, anew for each row that is checked: three of them were
-- most of what an order's row cost. The same checks, said with `OR`. What is stored does not change, so the definitions may be written
-- in place (https://www.sqlite.org/lang_altertable.html, section 7).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(replace(replace(sql,
        'status IN (''reserved'', ''confirmed'', ''released'', ''refunded'')',
        'status = ''reserved'' OR status = ''confirmed'' OR status = ''released'' OR status = ''refunded'''),
        'release_reason IN (''expired'', ''payment_failed'', ''cancelled'')',
        'release_reason = ''expired'' OR release_reason = ''payment_failed'' OR release_reason = ''cancelled'''),
        'refund_due IN (''late_payment'', ''drop_cancelled'', ''requested'')',
        'refund_due = ''late_payment'' OR refund_due = ''drop_cancelled'' OR refund_due = ''requested''')
WHERE type = 'table' AND name = 'orders';
UPDATE sqlite_schema
SET sql = replace(sql,
        'status IN (''scheduled'', ''live'', ''sold_out'', ''ended'', ''cancelled'')',
        'status = ''scheduled'' OR status = ''live'' OR status = ''sold_out'' OR status = ''ended'' OR status = ''cancelled''')
WHERE type = 'table' AND name = 'drops';
UPDATE sqlite_schema
SET sql = substr(sql, 1, instr(sql, 'refusal IN (') - 1)
        || 'refusal = ''drop_not_started'' OR refusal = ''drop_ended'' OR refusal = ''drop_cancelled'' '
        || 'OR refusal = ''sold_out'' OR refusal = ''limit_exceeded'' OR refusal = ''unknown_variant'''
        || substr(sql, instr(sql, '''unknown_variant'')') + length('''unknown_variant'')'))
WHERE type = 'table' AND name = 'refusals';
PRAGMA writable_schema = RESET;
