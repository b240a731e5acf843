-- How far the two estimates of true counts agree: corrected by precision and recall, and the sum of probabilities.
--
-- A row is one entity type in one week or month with mentions that can be corrected.
--
-- period            week or month
-- period_start      its Monday, or its first day
-- entity_type       brand, product, model_number, misc, or a label of your own
-- entity_count      entities of the type that could be corrected
-- mention_count     mentions of them
-- corrected_count   sum of their corrected counts
-- probability_mass  sum of the mentions' probabilities
-- mass_ratio        probability_mass / corrected_count: below 1 where the model misses more than it makes up
-- inside_count      entities whose probability_mass lies in the interval of their corrected count
-- inside_share      inside_count / entity_count
--
-- Example, the types by month:
--   select period_start, entity_type, mass_ratio, inside_share from count_agreement
--   where period = 'month' order by period_start, entity_type
drop view if exists count_agreement;

create view count_agreement as
select
    period,
    period_start,
    entity_type,
    count(*) as entity_count,
    cast(sum(mention_count) as bigint) as mention_count,
    sum(corrected_count) as corrected_count,
    sum(probability_mass) as probability_mass,
    sum(probability_mass) / sum(corrected_count) as mass_ratio,
    count(case when probability_mass between corrected_lower and corrected_upper then 1 end) as inside_count,
    cast(count(case when probability_mass between corrected_lower and corrected_upper then 1 end) as double precision)
        / count(*) as inside_share
from entity_periods
where corrected_count is not null
group by period, period_start, entity_type;
