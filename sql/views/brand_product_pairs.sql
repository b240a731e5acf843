-- Which products are written about together with which brands.
--
-- A row is one pair of a brand and a product in one week in which a review mentions both.
--
-- week_start          the Monday that the week begins with
-- brand, product      canonical names
-- review_count        reviews of the week that mention both, however often
-- unique_text_count   different texts among them: copied reviews count once
-- cluster_count       the same, with texts that are nearly the same counted once
-- total_review_count  review_count over all weeks: equal in every row of a pair
--
-- Example, the twenty strongest pairs:
--   select distinct brand, product, total_review_count from brand_product_pairs
--   order by total_review_count desc, brand, product limit 20
drop view if exists brand_product_pairs;

create view brand_product_pairs as
select
    period_start as week_start,
    left_name as brand,
    right_name as product,
    review_count,
    unique_text_count,
    cluster_count,
    cast(sum(review_count) over (partition by left_name, right_name) as bigint) as total_review_count
from pair_periods
where period = 'week' and left_type = 'brand' and right_type = 'product';
