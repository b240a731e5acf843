-- What people write about next to what, and how much more often than by chance.
--
-- A row is one pair, of a brand and a product or of a brand and a model number, in one week or month in which a review
-- mentions both. Lift is over clusters of texts, so that copies of a text are one.
--
-- period             week or month
-- period_start       its Monday, or its first day
-- brand              the brand's name
-- other_type         product or model_number
-- other              the other name
-- review_count       reviews that mention both, however often
-- unique_text_count  different texts that do
-- cluster_count      the same, with texts that are nearly the same counted once
-- lift               clusters with both, over what would be expected if brand and other had nothing to do with each other
-- lift_lower         lower end of its 90% interval: above 1, the two belong together
-- lift_upper         upper end
--
-- Example, the pairs of one month that surely belong together:
--   select brand, other, cluster_count, lift, lift_lower, lift_upper from co_mentions
--   where period = 'month' and period_start = '2024-02-01' and lift_lower > 1 order by cluster_count desc, brand, other
drop view if exists co_mentions;

create view co_mentions as
select
    period,
    period_start,
    left_name as brand,
    right_type as other_type,
    right_name as other,
    review_count,
    unique_text_count,
    cluster_count,
    lift,
    lift_lower,
    lift_upper
from pair_periods
where left_type = 'brand';
