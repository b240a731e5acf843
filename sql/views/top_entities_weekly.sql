-- The entities that customers write about, by week.
--
-- A row is one entity (entity_type, canonical) in one week in which it was mentioned.
--
-- period             the Monday that the week begins with
-- entity_type        brand, product, model_number, misc, or a label of your own
-- canonical          the entity's name: normalised, aliases resolved
-- mention_count      mentions of it; one review may hold several
-- review_count       reviews that mention it
-- unique_text_count  different texts that mention it: copied reviews count once. Counted anew for each period,
--                    as a text may come again: those of shorter periods do not add up to this
-- cluster_count      the same, with texts that are nearly the same counted once
-- product_count      different products whose reviews mention it; reviews without a product count for none
-- rank               place among the entities of its type in the week: by review_count, then unique_text_count, then name
--
-- Example, the ten brands of one week:
--   select rank, canonical, review_count, unique_text_count from top_entities_weekly
--   where period = '2024-02-26' and entity_type = 'brand' and rank <= 10 order by rank
drop view if exists top_entities_weekly;

create view top_entities_weekly as
select
    period_start as period,
    entity_type,
    canonical,
    mention_count,
    review_count,
    unique_text_count,
    cluster_count,
    product_count,
    row_number() over (
        partition by period_start, entity_type
        order by review_count desc, unique_text_count desc, canonical
    ) as rank
from entity_periods
where period = 'week';
