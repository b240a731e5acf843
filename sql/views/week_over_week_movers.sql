-- What customers write about more, or less, than the week before.
--
-- A row is one entity in one week that it was mentioned in, or had been the week before. A week is compared only if
-- reviews were read of it and of the calendar week before, so that a gap in the source is not taken for a fall. Whether
-- a change is more than chance, copies or another model, the view movements says.
--
-- week_start             the Monday that the week begins with
-- entity_type            brand, product, model_number, misc, or a label of your own
-- canonical              the entity's name: normalised, aliases resolved
-- review_count           reviews of the week that mention it; 0 if it vanished
-- previous_review_count  reviews of the week before that mention it; 0 if it appeared
-- change                 review_count - previous_review_count
-- change_ratio           change / previous_review_count: 0.5 is half as much again; null if it appeared
-- unique_text_count, previous_unique_text_count
--                        the same two counts of different texts: copied reviews count once
-- cluster_count, previous_cluster_count
--                        the same, with texts that are nearly the same counted once
--
-- Example, the brands that moved most in one week:
--   select canonical, previous_review_count, review_count, change from week_over_week_movers
--   where week_start = '2024-02-26' and entity_type = 'brand' order by abs(change) desc, canonical limit 10
drop view if exists week_over_week_movers;

create view week_over_week_movers as
select
    period_start as week_start,
    entity_type,
    canonical,
    review_count,
    previous_review_count,
    review_count - previous_review_count as change,
    cast(review_count - previous_review_count as double precision) / nullif(previous_review_count, 0) as change_ratio,
    unique_text_count,
    previous_unique_text_count,
    cluster_count,
    previous_cluster_count
from entity_movements
where period = 'week';
