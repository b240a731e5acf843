-- Which products are written about together with which brands.
--
-- A row is one pair of a brand and a product in one week in which a review mentions both.
--
-- week_start          the Monday that the week begins with
-- brand, product      canonical names
-- review_count        reviews of the week that mention both, however often
-- total_review_count  the same over all weeks: equal in every row of a pair
--
-- Example, the twenty strongest pairs:
--   select distinct brand, product, total_review_count from brand_product_pairs
--   order by total_review_count desc, brand, product limit 20
drop view if exists brand_product_pairs;

create view brand_product_pairs as
with weekly as (
    select
        c.week_start,
        p.left_name as brand,
        p.right_name as product,
        cast(sum(p.review_count) as bigint) as review_count
    from entity_pairs_daily as p
    join calendar as c on c.date = p.review_date
    where p.left_type = 'brand' and p.right_type = 'product'
    group by c.week_start, p.left_name, p.right_name
)
select
    week_start,
    brand,
    product,
    review_count,
    cast(sum(review_count) over (partition by brand, product) as bigint) as total_review_count
from weekly;
