-- Which brands customers write about when they review products of a kind.
--
-- A row is one brand in one category in one month in which reviews of the category's products mention it. A product's
-- category is the product that most of its reviews, over all time, mention; of equals the first by name.
--
-- month_start        the first day of the month
-- category           name of a product, as in the other views
-- brand              name of a brand
-- review_count       reviews of the category's products that mention the brand
-- unique_text_count  different texts among them: copied reviews count once, for the product among theirs that is first by id
-- cluster_count      the same, with texts that are nearly the same counted once
-- share_of_voice     cluster_count over its sum for all brands of the category and month: shares add up to 1; null if that
--                    is 0, as all texts are copies of others
--
-- Example, the voices in one category:
--   select month_start, brand, cluster_count, share_of_voice from share_of_voice
--   where category = 'notebook' order by month_start, share_of_voice desc, brand
drop view if exists share_of_voice;

create view share_of_voice as
with said as (
    select product_id, canonical, sum(review_count) as review_count
    from product_entities
    where entity_type = 'product'
    group by product_id, canonical
),
-- Grouped for SQLite alone, which would not index it for the join below.
categories as (
    select product_id, min(canonical) as category
    from (
        select
            product_id,
            canonical,
            row_number() over (partition by product_id order by review_count desc, canonical) as place
        from said
    ) as ranked
    where place = 1
    group by product_id
),
voices as (
    select
        v.month_start,
        p.category,
        v.canonical as brand,
        cast(sum(v.review_count) as bigint) as review_count,
        cast(sum(v.unique_text_count) as bigint) as unique_text_count,
        cast(sum(v.cluster_count) as bigint) as cluster_count
    from product_entities as v
    join categories as p on p.product_id = v.product_id
    where v.entity_type = 'brand'
    group by v.month_start, p.category, v.canonical
)
select
    month_start,
    category,
    brand,
    review_count,
    unique_text_count,
    cluster_count,
    cast(cluster_count as double precision)
        / nullif(sum(cluster_count) over (partition by month_start, category), 0) as share_of_voice
from voices;
