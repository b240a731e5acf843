-- Which model numbers are written about together with which brands.
--
-- A row is one pair of a brand and a model number in one week in which a review mentions both.
--
-- week_start          the Monday that the week begins with
-- brand, model_number canonical names
-- review_count        reviews of the week that mention both, however often
-- total_review_count  the same over all weeks: equal in every row of a pair
--
-- Example, the twenty strongest pairs:
--   select distinct brand, model_number, total_review_count from brand_model_pairs
--   order by total_review_count desc, brand, model_number limit 20
drop view if exists brand_model_pairs;

create view brand_model_pairs as
with weekly as (
    select
        c.week_start,
        p.left_name as brand,
        p.right_name as model_number,
        cast(sum(p.review_count) as bigint) as review_count
    from entity_pairs_daily as p
    join calendar as c on c.date = p.review_date
    where p.left_type = 'brand' and p.right_type = 'model_number'
    group by c.week_start, p.left_name, p.right_name
)
select
    week_start,
    brand,
    model_number,
    review_count,
    cast(sum(review_count) over (partition by brand, model_number) as bigint) as total_review_count
from weekly;
