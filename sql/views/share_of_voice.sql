-- Which brands customers write about when they review products of a kind.
--
-- A row is one brand in one category in one month in which reviews of the category's products mention it. A product's
-- category is the product that most different texts of its reviews, over all time, mention; of equals the first by name.
--
-- month_start        the first day of the month
-- category           name of a product, as in the other views
-- brand              name of a brand
-- review_count       reviews of the category's products that mention the brand
-- unique_text_count  different texts among them: copied reviews count once
-- cluster_count      the same, with texts that are nearly the same counted once
-- share_of_voice     cluster_count over its sum for all brands of the category and month: shares add up to 1
--
-- Example, the voices in one category:
--   select month_start, brand, cluster_count, share_of_voice from share_of_voice
--   where category = 'notebook' order by month_start, share_of_voice desc, brand
drop view if exists share_of_voice;

create view share_of_voice as
with said as (
    select product_id, canonical, count(distinct text_hash) as text_count
    from mentions
    where entity_type = 'product' and product_id is not null
    group by product_id, canonical
),
categories as (
    -- grouped, though it has a row a product already: SQLite then looks brands up in it, and not mentions for each product
    select product_id, min(canonical) as category
    from (
        select
            product_id,
            canonical,
            row_number() over (partition by product_id order by text_count desc, canonical) as place
        from said
    ) as ranked
    where place = 1
    group by product_id
),
voices as (
    select
        c.month_start,
        p.category,
        m.canonical as brand,
        count(distinct m.review_id) as review_count,
        count(distinct m.text_hash) as unique_text_count,
        count(distinct coalesce(k.cluster_id, m.text_hash)) as cluster_count
    from mentions as m
    join calendar as c on c.date = m.review_date
    join categories as p on p.product_id = m.product_id
    left join text_clusters as k on k.text_hash = m.text_hash
    where m.entity_type = 'brand'
    group by c.month_start, p.category, m.canonical
)
select
    month_start,
    category,
    brand,
    review_count,
    unique_text_count,
    cluster_count,
    cast(cluster_count as double precision)
        / cast(sum(cluster_count) over (partition by month_start, category) as double precision) as share_of_voice
from voices;
