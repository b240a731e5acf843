-- Daily counts of each entity, with the days marked on which another model took over: is a step in a trend one of what
-- customers write, or of who reads?
--
-- A row is one entity (entity_type, canonical) in one day in which it was mentioned.
--
-- A day with reviews read by several models is mixed and passed over: the break is the first day that the new model read
-- alone. The bridge is what both models found in the same sample of recent reviews when one took over from the other;
-- it is null on other days, where that was not by a promotion or a rollback, and for what neither found.
--
-- review_date             the day
-- entity_type             brand, product, model_number, misc, or a label of your own
-- canonical               the entity's name: normalised, aliases resolved
-- review_count            reviews that mention it
-- unique_text_count       different texts among them: copied reviews count once
-- cluster_count           the same, with texts that are nearly the same counted once; null where a day was counted before
--                         they were known
-- mention_count           mentions of it; one review may hold several
-- model_version           the model that read the day's reviews; mixed where there were several
-- previous_model_version  the model of the last day before that one model read alone; null if there is none, or if mixed
-- is_break                1 on a day whose model_version is another than previous_model_version, else 0
-- bridge_old_count        mentions of the entity in the sample, as previous_model_version read it
-- bridge_new_count        the same, as model_version read it
-- type_old_count          mentions of all entities of the type in the sample, as previous_model_version read it
-- type_new_count          the same, as model_version read it
-- bridge_reviews          reviews in the sample
--
-- Example, brands at each break, with what the change of model alone would do to their counts:
--   select review_date, canonical, mention_count, bridge_old_count, bridge_new_count from entity_trends
--   where entity_type = 'brand' and is_break = 1 order by review_date, mention_count desc, canonical
drop view if exists entity_trends;

create view entity_trends as
with days as (
    select
        review_date,
        case when min(model_version) = max(model_version) then min(model_version) else 'mixed' end as model_version
    from review_coverage
    group by review_date
),
unmixed as (
    select review_date, model_version, lag(model_version) over (order by review_date) as previous_model_version
    from days
    where model_version <> 'mixed'
)
select
    e.review_date,
    e.entity_type,
    e.canonical,
    e.review_count,
    e.unique_text_count,
    e.cluster_count,
    e.mention_count,
    d.model_version,
    u.previous_model_version,
    case when u.previous_model_version <> u.model_version then 1 else 0 end as is_break,
    b.old_count as bridge_old_count,
    b.new_count as bridge_new_count,
    t.old_count as type_old_count,
    t.new_count as type_new_count,
    t.reviews as bridge_reviews
from entity_daily as e
join days as d on d.review_date = e.review_date
left join unmixed as u on u.review_date = e.review_date
left join model_bridge as b
    on b.old_version = u.previous_model_version
    and b.new_version = u.model_version
    and b.entity_type = e.entity_type
    and b.canonical = e.canonical
    and b.canonical <> '*'
left join model_bridge as t
    on t.old_version = u.previous_model_version
    and t.new_version = u.model_version
    and t.entity_type = e.entity_type
    and t.canonical = '*';
