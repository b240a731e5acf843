-- When each entity was first written about, and in what words: the recent ones are new.
--
-- A row is one entity. In the first weeks of a warehouse everything is new.
--
-- entity_type        brand, product, model_number, misc, or a label of your own
-- canonical          the entity's name: normalised, aliases resolved
-- first_date         the day of the first review that mentions it
-- first_week         the Monday that the week of first_date begins with
-- first_review_id    that review; the first by id, if the day has several; null where the day was counted before it was kept
-- first_context      the words around its first mention there, which stands in brackets; null where they are not known
-- mention_count      mentions of it so far
-- review_count       reviews so far that mention it
-- unique_text_count  different texts among them: copied reviews count once in a month
-- cluster_count      the same, with texts that are nearly the same counted once in a month
--
-- Example, brands that appeared since a Monday, in more than one review, and not in copies of one:
--   select canonical, first_date, review_count, first_context from new_entities
--   where entity_type = 'brand' and first_week >= '2024-02-26' and cluster_count > 1 order by cluster_count desc, canonical
drop view if exists new_entities;

create view new_entities as
with first_reviews as (
    select
        e.entity_type,
        e.canonical,
        e.first_date,
        d.first_review_id,
        e.mention_count,
        e.review_count,
        e.unique_text_count,
        e.cluster_count,
        -- Looked up by the review alone: by the name, too, SQLite would look through all mentions of it.
        (
            select min(case when m.entity_type = e.entity_type and m.canonical = e.canonical then m.start_char end)
            from mentions as m
            where m.review_id = d.first_review_id
        ) as start_char
    from entities as e
    join entity_daily as d
        on d.review_date = e.first_date and d.entity_type = e.entity_type and d.canonical = e.canonical
)
select
    f.entity_type,
    f.canonical,
    c.date as first_date,
    c.week_start as first_week,
    f.first_review_id,
    s.left_context || '[' || s.surface || ']' || s.right_context as first_context,
    f.mention_count,
    f.review_count,
    f.unique_text_count,
    f.cluster_count
from first_reviews as f
join calendar as c on c.date = f.first_date
left join review_coverage as r on r.review_id = f.first_review_id
left join text_spans as s
    on s.fingerprint = r.fingerprint and s.text_hash = r.text_hash and s.start_char = f.start_char;
