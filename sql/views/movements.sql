-- What is written about more, or less, than the week or month before, and whether that can be chance or another model.
--
-- A row is one entity in one week or month that it was mentioned in, or had been the one before. A period is compared only
-- if reviews of both were read. Clusters of texts are counted, so that copies of a text are one, and as a share of the
-- clusters read, so that a period with more reviews is no rise.
--
-- The test is an exact one of two Poisson rates. Where another model took over, an unchanged market is not expected to
-- give a ratio of 1, but that of what both models find in the same reviews, between expected_lower and expected_upper, as
-- the bridge between them has measured; the p-value is the largest over that range.
--
-- period                   week or month
-- period_start             its Monday, or its first day
-- entity_type              brand, product, model_number, misc, or a label of your own
-- canonical                the entity's name: normalised, aliases resolved
-- movement                 rise or fall: q_value is at most 0.05; steady: it is not; not judged: another model read, and
--                          no bridges join it to those before
-- review_count             reviews of the period that mention it; 0 if it vanished
-- unique_text_count        different texts that do
-- cluster_count            the same, with texts that are nearly the same counted once
-- previous_review_count, previous_unique_text_count, previous_cluster_count
--                          the same of the period before; 0 if it appeared
-- ratio                    of the two shares of clusters: 1.5 is half as much again; null if one of them is 0
-- ratio_lower              lower end of its 90% interval
-- ratio_upper              upper end; null if it has none
-- is_break                 1 if several models read the two periods, else 0
-- expected_lower           lower end of what the change of model alone would give; 1 without one, null without a bridge
-- expected_upper           upper end; null, too, if it has none
-- p_value                  probability of as large a movement by chance; null if not judged
-- q_value                  the same, for as many entities of the type as moved (Benjamini and Hochberg)
--
-- Example, brands that rise, the surest first:
--   select period_start, canonical, previous_cluster_count, cluster_count, ratio, ratio_lower, ratio_upper from movements
--   where period = 'week' and entity_type = 'brand' and movement = 'rise' order by period_start desc, q_value, canonical
drop view if exists movements;

create view movements as
select
    period,
    period_start,
    entity_type,
    canonical,
    case
        when q_value is null then 'not judged'
        when q_value > 0.05 then 'steady'
        when previous_cluster_count = 0 or ratio > expected_lower then 'rise'
        else 'fall'
    end as movement,
    review_count,
    previous_review_count,
    unique_text_count,
    previous_unique_text_count,
    cluster_count,
    previous_cluster_count,
    ratio,
    ratio_lower,
    ratio_upper,
    is_break,
    expected_lower,
    expected_upper,
    p_value,
    q_value
from entity_movements;
