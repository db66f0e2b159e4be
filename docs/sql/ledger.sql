-- A ledger as DuckDB views. Before it: set variable ledger = '/data/closeai/ledger';

-- What a spreadsheet would run as a formula has an apostrophe in front in the files, also behind white space: that is
-- all of Unicode's, and RE2's \s has six characters of it.
create or replace macro plain(cell) as regexp_replace(
    regexp_replace(cell, '^''', ''),
    '([;|\t\r\n][\t-\r\x1c-\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]*)'
    || '''(''*[=+\-@＝＋－＠])', '\1\2', 'g'
);
create or replace macro amount_of(cell) as cast(nullif(cell, '') as decimal(38, 12));

-- Every line of every file that is where it was written, under the name that it was written with: others the report
-- leaves out. The part after "union all by name" gives the columns of folders that are not there yet.
create or replace view ledger_lines as
select *, split_part(filename, '/', -3) as kind
from (
    select * from read_csv(
        getvariable('ledger') || '/*/*/*.csv',
        all_varchar = true, filename = true, union_by_name = true, hive_partitioning = false,
        header = true, delim = ',', quote = '"', escape = '"'  -- or an alias with a quote may be taken for one
    )
    union all by name
    select
        null::varchar as filename, null::varchar as observed_at, null::varchar as billing_month,
        null::varchar as sub_account_id, null::varchar as alias, null::varchar as monthly_cost,
        null::varchar as balance, null::varchar as amount, null::varchar as team, null::varchar as cost_center,
        null::varchar as source, null::varchar as reason, null::varchar as certainty
    where false
)
where split_part(filename, '/', -2) = 'billing_month=' || billing_month
and regexp_full_match(
    split_part(filename, '/', -1), '\d{8}T\d{6}_\d{6}Z-\d+-[0-9a-f]{12}-[0-9a-f]{16}\.csv'
);

-- Every observation: snapshots, and the last records of deleted accounts.
create or replace view observations as
select
    cast(observed_at as timestamptz) as observed_at, billing_month, cast(sub_account_id as bigint) as sub_account_id,
    plain(alias) as alias, amount_of(balance) as balance, amount_of(monthly_cost) as monthly_cost, kind
from ledger_lines
where kind in ('snapshots', 'deleted');

-- What closed months were closed with: of a month's closings the first counts.
create or replace view closed as
select
    billing_month, cast(nullif(sub_account_id, '') as bigint) as sub_account_id, plain(alias) as alias,
    plain(team) as team, plain(cost_center) as cost_center, amount_of(amount) as amount, certainty
from ledger_lines
where kind = 'closed'
qualify filename = min(filename) over (partition by billing_month) and sub_account_id <> '';

-- Lines appended to months: notes, and the differences of later closings. Of one task run only its newest file counts,
-- of a note that was copied one, and a difference only from the time on at which the closing was made that counts.
create or replace view appended as
select * exclude (filename)
from (
    select
        billing_month, cast(sub_account_id as bigint) as sub_account_id, plain(alias) as alias,
        amount_of(amount) as amount, source, plain(reason) as reason, filename
    from ledger_lines
    where kind = 'adjustments'
    qualify filename = max(filename) over (
        partition by billing_month, regexp_extract(filename, '-([0-9a-f]+)-[0-9a-f]+\.csv$', 1)
    )
) as booked
where source <> 'evidence' or left(split_part(filename, '/', -1), 23) >= (
    select left(split_part(min(filename), '/', -1), 23) from ledger_lines as closing
    where closing.kind = 'closed' and closing.billing_month = booked.billing_month
)
qualify source <> 'manual' or filename = min(filename) over (
    partition by billing_month, source, sub_account_id, reason, amount
);

-- A counter's last value in a month is what the month cost. Of one moment, what was deleted had been listed. Of a
-- snapshot and a deletion's record that were begun within 5 minutes nobody knows which is the later: a lower value
-- is no fall then, and what comes next is compared with the higher one.
create or replace view counted as
select billing_month, sub_account_id, last.alias as alias, last.monthly_cost as amount
from (
    select
        billing_month, sub_account_id,
        list_reduce(
            list(
                {'at': observed_at, 'alias': alias, 'monthly_cost': monthly_cost, 'is_recorded': kind = 'deleted'}
                order by observed_at, kind = 'deleted'
            ),
            lambda held, seen: case
                when seen.monthly_cost >= held.monthly_cost or seen.at >= held.at + interval 5 minutes
                    or not (held.is_recorded or seen.is_recorded) then seen
                else {'at': held.at, 'alias': held.alias, 'monthly_cost': held.monthly_cost, 'is_recorded': true}
            end
        ) as last
    from observations
    where monthly_cost is not null
    group by all
);

-- An account's month: as it was closed, else as it was counted, and what was appended to it. Its certainty is that of
-- the closing; SQL does not judge the turn of a month that is not closed. One that was closed without accounts is 0.
create or replace view account_months as
select
    billing_month, sub_account_id, any_value(alias) as alias, sum(amount) as month_to_date,
    coalesce(any_value(certainty), 'not judged') as certainty
from (
    select billing_month, sub_account_id, alias, amount, certainty from closed
    union all
    select billing_month, sub_account_id, alias, amount, null from counted
    where billing_month not in (select billing_month from ledger_lines where kind = 'closed')
    union all
    select billing_month, sub_account_id, alias, amount, null from appended
)
group by billing_month, sub_account_id;

-- Files whose content is not what was written: a name ends with the beginning of the content's SHA-256.
create or replace view damaged_files as
select filename
from read_blob(getvariable('ledger') || '/*/*/*')
where left(sha256(content), 16) <> regexp_extract(filename, '-([0-9a-f]{16})\.(csv|parquet)$', 1);
