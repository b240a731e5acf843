-- How often entities were really mentioned, by what the model is known to miss and to make up, beside what was counted.
--
-- A row is one entity in one week or month in which it was mentioned.
--
-- The corrected count is mention_count * precision / recall, by the precision and recall of the model that read, for the
-- entity's type, on labelled reviews (model.evaluated_on). The interval holds the true count in nine of ten cases: it
-- carries the luck of what was found and the uncertainty of both figures. It takes mentions as independent, and the type's
-- figures for each of its entities: a name that the model always misses is not corrected for.
--
-- period             week or month
-- period_start       its Monday, or its first day
-- entity_type        brand, product, model_number, misc, or a label of your own
-- canonical          the entity's name: normalised, aliases resolved
-- mention_count      mentions counted; one review may hold several
-- corrected_count    the estimate; null, as the next two are, where the model has no figures for the type
-- corrected_lower    lower end of its 90% interval
-- corrected_upper    upper end
-- probability_mass   sum of the mentions' probabilities, a second estimate; it knows nothing of mentions that were missed
-- review_count       reviews that mention the entity
-- unique_text_count  different texts that mention it: copied reviews count once
-- cluster_count      the same, with texts that are nearly the same counted once
-- evaluated_on       the labelled data set that precision and recall are from; several where models were mixed
-- model_version      the model that read; mixed where there were several
--
-- Example, brands of one month with their intervals:
--   select canonical, mention_count, corrected_count, corrected_lower, corrected_upper from corrected_counts
--   where period = 'month' and period_start = '2024-02-01' and entity_type = 'brand' order by corrected_count desc limit 20
drop view if exists corrected_counts;

create view corrected_counts as
select
    period,
    period_start,
    entity_type,
    canonical,
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
from entity_periods;
