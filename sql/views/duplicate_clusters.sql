-- Texts that are nearly the same: templates, syndicated reviews, campaigns.
--
-- A row is one cluster that several reviews are of, by equal texts or by texts that differ little.
--
-- cluster_id     the least text_hash of its texts
-- text_count     different texts
-- review_count   reviews
-- product_count  different products that they are of; reviews without a product count for none
-- first_date     the day of the first review
-- last_date      the day of the last one
--
-- Example, the largest campaigns, which came within a week:
--   select cluster_id, review_count, text_count, product_count, first_date, last_date from duplicate_clusters
--   where text_count > 1 order by review_count desc, cluster_id limit 20
drop view if exists duplicate_clusters;

create view duplicate_clusters as
with clusters as (
    select
        coalesce(k.cluster_id, r.text_hash) as cluster_id,
        count(distinct r.text_hash) as text_count,
        count(*) as review_count,
        count(distinct r.product_id) as product_count,
        min(r.review_date) as first_date,
        max(r.review_date) as last_date
    from review_coverage as r
    left join text_clusters as k on k.text_hash = r.text_hash
    group by coalesce(k.cluster_id, r.text_hash)
    having count(*) > 1
)
select
    c.cluster_id,
    c.text_count,
    c.review_count,
    c.product_count,
    f.date as first_date,
    l.date as last_date
from clusters as c
join calendar as f on f.date = c.first_date
join calendar as l on l.date = c.last_date;
