-- The entities that customers write about, by month.
--
-- A row is one entity (entity_type, canonical) in one month in which it was mentioned.
--
-- period             the first day of the month
-- entity_type        brand, product, model_number, misc, or a label of your own
-- canonical          the entity's name: normalised, aliases resolved
-- mention_count      mentions of it; one review may hold several
-- review_count       reviews that mention it
-- unique_text_count  different texts that mention it: copied reviews count once. Counted anew for each period,
--                    as a text may come again: those of shorter periods do not add up to this
-- product_count      different products whose reviews mention it; reviews without a product count for none
-- rank               place among the entities of its type in the month: by review_count, then unique_text_count, then name
--
-- Example, the ten brands of one month:
--   select rank, canonical, review_count, unique_text_count from top_entities_monthly
--   where period = '2024-03-01' and entity_type = 'brand' and rank <= 10 order by rank
drop view if exists top_entities_monthly;

create view top_entities_monthly as
with counts as (
    select
        c.month_start as period,
        m.entity_type,
        m.canonical,
        count(*) as mention_count,
        count(distinct m.review_id) as review_count,
        count(distinct m.text_hash) as unique_text_count,
        count(distinct m.product_id) as product_count
    from mentions as m
    join calendar as c on c.date = m.review_date
    group by c.month_start, m.entity_type, m.canonical
)
select
    period,
    entity_type,
    canonical,
    mention_count,
    review_count,
    unique_text_count,
    product_count,
    row_number() over (
        partition by period, entity_type
        order by review_count desc, unique_text_count desc, canonical
    ) as rank
from counts;
