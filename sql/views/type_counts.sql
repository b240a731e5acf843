-- How often brands, products and model numbers were really mentioned, all of a type together, beside what was counted.
--
-- A row is one entity type in one week or month in which one of its entities was mentioned.
--
-- The corrected count is mention_count * precision / recall, as in corrected_counts, but of the type as a whole: all its
-- entities share precision and recall, so their intervals cannot be added up. The interval holds the true count in nine of
-- ten cases, where labelled texts are like the reviews; of a type with many mentions it is as wide as the labelled texts
-- are few.
--
-- period             week or month
-- period_start       its Monday, or its first day
-- entity_type        brand, product, model_number, misc, or a label of your own
-- mention_count      mentions counted; one review may hold several
-- corrected_count    the estimate; null, as the next two are, where a model that read has no figures for the type
-- corrected_lower    lower end of its 90% interval
-- corrected_upper    upper end
-- probability_mass   sum of the mentions' probabilities, a second estimate; it knows nothing of mentions that were missed
-- review_count       reviews that mention the type, each once
-- unique_text_count  different texts that mention it: copied reviews count once
-- cluster_count      the same, with texts that are nearly the same counted once
-- evaluated_on       the labelled data set that precision and recall are from; several where models were mixed
-- model_version      the model that read; mixed where there were several
--
-- Example, the months of a type:
--   select period_start, mention_count, corrected_count, corrected_lower, corrected_upper from type_counts
--   where period = 'month' and entity_type = 'brand' order by period_start
drop view if exists type_counts;

create view type_counts as
select
    period,
    period_start,
    entity_type,
    mention_count,
    corrected_count,
    corrected_lower,
    corrected_upper,
    probability_mass,
    review_count,
    unique_text_count,
    cluster_count,
    evaluated_on,
    model_version
from type_periods;
