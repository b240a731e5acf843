-- When each entity was first written about, and in what words: the recent ones are new.
--
-- A row is one entity. In the first weeks of a warehouse everything is new.
--
-- entity_type      brand, product, model_number, misc, or a label of your own
-- canonical        the entity's name: normalised, aliases resolved
-- first_date       the day of the first review that mentions it
-- first_week       the Monday that the week of first_date begins with
-- first_review_id  that review; the first by id, if the day has several
-- first_context    the words around its first mention there, which stands in brackets; null where they are not known
-- mention_count    mentions of it so far
-- review_count     reviews so far that mention it
--
-- Example, brands that appeared since a Monday, in more than one review:
--   select canonical, first_date, review_count, first_context from new_entities
--   where entity_type = 'brand' and first_week >= '2024-02-26' and review_count > 1 order by review_count desc
drop view if exists new_entities;

create view new_entities as
with first_reviews as (
    select e.entity_type, e.canonical, e.first_date, e.mention_count, e.review_count, min(m.review_id) as first_review_id
    from entities as e
    join mentions as m
        on m.entity_type = e.entity_type and m.canonical = e.canonical and m.review_date = e.first_date
    group by e.entity_type, e.canonical, e.first_date, e.mention_count, e.review_count
),
first_mentions as (
    select f.entity_type, f.canonical, f.first_review_id, min(m.start_char) as start_char
    from first_reviews as f
    join mentions as m
        on m.review_id = f.first_review_id and m.entity_type = f.entity_type and m.canonical = f.canonical
    group by f.entity_type, f.canonical, f.first_review_id
)
select
    f.entity_type,
    f.canonical,
    c.date as first_date,
    c.week_start as first_week,
    f.first_review_id,
    s.left_context || '[' || s.surface || ']' || s.right_context as first_context,
    f.mention_count,
    f.review_count
from first_reviews as f
join first_mentions as m on m.entity_type = f.entity_type and m.canonical = f.canonical
join calendar as c on c.date = f.first_date
join review_coverage as r on r.review_id = f.first_review_id
left join text_spans as s
    on s.fingerprint = r.fingerprint and s.text_hash = r.text_hash and s.start_char = m.start_char;
