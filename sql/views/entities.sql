-- What customers write about, over all time.
--
-- A row is one entity (entity_type, canonical).
--
-- entity_type        brand, product, model_number, misc, or a label of your own
-- canonical          the entity's name: normalised, aliases resolved
-- mention_count      mentions of it; one review may hold several
-- review_count       reviews that mention it
-- unique_text_count  different texts among them: copied reviews count once in a month
-- cluster_count      the same, with texts that are nearly the same counted once in a month
-- first_date         the day of the first review that mentions it
-- last_date          the day of the last one
--
-- Example, the brands with most reviews:
--   select canonical, review_count, first_date, last_date from entities
--   where entity_type = 'brand' order by review_count desc, canonical limit 20
drop view if exists entities;

create view entities as
with totals as (
    select
        entity_type,
        canonical,
        cast(sum(mention_count) as bigint) as mention_count,
        cast(sum(review_count) as bigint) as review_count,
        min(review_date) as first_date,
        max(review_date) as last_date
    from entity_daily
    group by entity_type, canonical
),
months as (
    select
        entity_type,
        canonical,
        cast(sum(unique_text_count) as bigint) as unique_text_count,
        cast(sum(cluster_count) as bigint) as cluster_count
    from entity_periods
    where period = 'month'
    group by entity_type, canonical
)
select
    t.entity_type,
    t.canonical,
    t.mention_count,
    t.review_count,
    m.unique_text_count,
    m.cluster_count,
    f.date as first_date,
    l.date as last_date
from totals as t
join calendar as f on f.date = t.first_date
join calendar as l on l.date = t.last_date
left join months as m on m.entity_type = t.entity_type and m.canonical = t.canonical;
