-- When each entity was first written about: the recent ones are new.
--
-- A row is one entity. In the first weeks of a warehouse everything is new.
--
-- entity_type      brand, product, model_number, misc, or a label of your own
-- canonical        the entity's name: normalised, aliases resolved
-- first_date       the day of the first review that mentions it
-- first_week       the Monday that the week of first_date begins with
-- first_review_id  that review; the first by id, if the day has several
-- mention_count    mentions of it so far
-- review_count     reviews so far that mention it
--
-- Example, brands that appeared since a Monday, in more than one review:
--   select canonical, first_date, review_count from new_entities
--   where entity_type = 'brand' and first_week >= '2024-02-26' and review_count > 1 order by review_count desc
drop view if exists new_entities;

create view new_entities as
with totals as (
    select entity_type, canonical, count(*) as mention_count, count(distinct review_id) as review_count
    from mentions
    group by entity_type, canonical
),
firsts as (
    select
        entity_type,
        canonical,
        review_date,
        review_id,
        row_number() over (partition by entity_type, canonical order by review_date, review_id) as place
    from mentions
)
select
    t.entity_type,
    t.canonical,
    f.review_date as first_date,
    c.week_start as first_week,
    f.review_id as first_review_id,
    t.mention_count,
    t.review_count
from totals as t
join firsts as f on f.entity_type = t.entity_type and f.canonical = t.canonical and f.place = 1
join calendar as c on c.date = f.review_date;
