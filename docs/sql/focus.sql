-- The FOCUS folder as DuckDB views. Before it: set variable reports = '/data/closeai/reports';

-- What a spreadsheet would run as a formula has an apostrophe in front in the files, also behind white space: that is
-- all of Unicode's, and RE2's \s has six characters of it.
create or replace macro plain(cell) as regexp_replace(
    regexp_replace(cell, '^''', ''),
    '([;|\t\r\n][\t-\r\x1c-\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]*)'
    || '''(''*[=+\-@＝＋－＠])', '\1\2', 'g'
);

create or replace view charges as
select * replace (
    plain(SubAccountName) as SubAccountName,
    cast(EffectiveCost as decimal(38, 12)) as EffectiveCost,
    cast(BilledCost as decimal(38, 12)) as BilledCost,
    cast(ChargePeriodStart as timestamptz) as ChargePeriodStart,
    cast(ChargePeriodEnd as timestamptz) as ChargePeriodEnd
)
from read_csv(
    getvariable('reports') || '/focus-csv/*/*.csv', all_varchar = true, hive_partitioning = true,
    header = true, delim = ',', quote = '"', escape = '"'
);

-- A sum with an uncertain amount in it is uncertain.
create or replace macro certainty_of(found) as if(found, 'uncertain', 'certain');

-- A billing period by team.
create or replace view team_months as
select
    billing_month,
    BillingCurrency as currency,
    Tags ->> '$.team' as team,
    Tags ->> '$.cost_center' as cost_center,
    count(distinct SubAccountId) as accounts,
    sum(EffectiveCost) as cost,
    certainty_of(bool_or(x_Certainty = 'uncertain')) as certainty
from charges
group by all;

-- The same by account, with the name that it had last.
create or replace view account_charges as
select
    billing_month, cast(SubAccountId as bigint) as sub_account_id,
    arg_max(SubAccountName, ChargePeriodEnd) as alias, sum(EffectiveCost) as cost,
    certainty_of(bool_or(x_Certainty = 'uncertain')) as certainty
from charges
group by all;

-- This month, last month and the year to date, as the report's page shows them, but that a line which was appended to a
-- closed month counts where it was booked: where the calendar month before is not there, nothing is last month.
create or replace view months as
with costs as (
    select billing_month, sum(cost) as cost, bool_or(certainty = 'uncertain') as uncertain
    from team_months
    group by billing_month
)
select
    this.billing_month,
    this.cost,
    before.cost as month_before,
    sum(this.cost) over year_to_date as year_to_date,
    certainty_of(this.uncertain) as certainty,
    if(before.cost is null, null, certainty_of(before.uncertain)) as month_before_certainty,
    certainty_of(bool_or(this.uncertain) over year_to_date) as year_to_date_certainty
from costs as this
left join costs as before
    on before.billing_month = strftime(cast(this.billing_month || '-01' as date) - interval 1 month, '%Y-%m')
window year_to_date as (partition by left(this.billing_month, 4) order by this.billing_month);
