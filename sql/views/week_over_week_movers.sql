-- What customers write about more, or less, than the week before.
--
-- A row is one entity in one week that it was mentioned in, or had been the week before. A week is compared only if
-- reviews were read of it and of the calendar week before, so that a gap in the source is not taken for a fall.
--
-- week_start             the Monday that the week begins with
-- entity_type            brand, product, model_number, misc, or a label of your own
-- canonical              the entity's name: normalised, aliases resolved
-- review_count           reviews of the week that mention it; 0 if it vanished
-- previous_review_count  reviews of the week before that mention it; 0 if it appeared
-- change                 review_count - previous_review_count
-- change_ratio           change / previous_review_count: 0.5 is half as much again; null if it appeared
--
-- Example, the brands that moved most in one week:
--   select canonical, previous_review_count, review_count, change from week_over_week_movers
--   where week_start = '2024-02-26' and entity_type = 'brand' order by abs(change) desc, canonical limit 10
drop view if exists week_over_week_movers;

create view week_over_week_movers as
with covered as (
    select distinct c.week_start
    from review_coverage as r
    join calendar as c on c.date = r.review_date
),
weeks as (
    -- The calendar holds the week before each week with reviews, so the row before such a week is that one.
    select week_start, lag(week_start) over (order by week_start) as previous_week
    from (select distinct week_start from calendar) as distinct_weeks
),
compared as (
    select w.week_start, w.previous_week
    from weeks as w
    join covered as this_week on this_week.week_start = w.week_start
    join covered as last_week on last_week.week_start = w.previous_week
),
counts as (
    -- A review is of one day, so the days' counts add up to a week's.
    select c.week_start, d.entity_type, d.canonical, cast(sum(d.review_count) as bigint) as review_count
    from entity_daily as d
    join calendar as c on c.date = d.review_date
    group by c.week_start, d.entity_type, d.canonical
),
sides as (
    select w.week_start, n.entity_type, n.canonical, n.review_count, 0 as previous_review_count
    from compared as w
    join counts as n on n.week_start = w.week_start
    union all
    select w.week_start, n.entity_type, n.canonical, 0, n.review_count
    from compared as w
    join counts as n on n.week_start = w.previous_week
),
entities as (
    select
        week_start,
        entity_type,
        canonical,
        cast(sum(review_count) as bigint) as review_count,
        cast(sum(previous_review_count) as bigint) as previous_review_count
    from sides
    group by week_start, entity_type, canonical
)
select
    week_start,
    entity_type,
    canonical,
    review_count,
    previous_review_count,
    review_count - previous_review_count as change,
    cast(review_count - previous_review_count as double precision) / nullif(previous_review_count, 0) as change_ratio
from entities;
