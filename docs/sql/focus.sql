-- The FOCUS folder as DuckDB views. Before it: set variable reports = '/data/closeai/reports';

create or replace view charges as
select * replace (
    regexp_replace(
        regexp_replace(SubAccountName, '^''', ''), '([;|\t\r\n]\s*)''(''*[=+\-@＝＋－＠])', '\1\2', 'g'
    ) as SubAccountName,
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

-- This month, last month and the year to date, as the report's page shows them.
create or replace view months as
select
    billing_month,
    sum(cost) as cost,
    lag(sum(cost)) over (order by billing_month) as month_before,
    sum(sum(cost)) over (partition by left(billing_month, 4) order by billing_month) as year_to_date,
    certainty_of(bool_or(certainty = 'uncertain')) as certainty,
    certainty_of(coalesce(lag(bool_or(certainty = 'uncertain')) over (order by billing_month), false))
        as month_before_certainty,
    certainty_of(bool_or(bool_or(certainty = 'uncertain')) over (
        partition by left(billing_month, 4) order by billing_month
    )) as year_to_date_certainty
from team_months
group by billing_month;
