-- How many reviews the counts of a day rest on.
--
-- A row is one day with at least one review.
--
-- day                     the day
-- week_start              the Monday that its week begins with
-- month_start             the first day of its month
-- review_count            reviews read
-- unique_text_count       different texts among them: copied reviews count once
-- cluster_count           the same, with texts that are nearly the same counted once; both null where a day was counted
--                         before they were kept
-- product_count           different products reviewed; reviews without a product count for none
-- chars, chars_read       characters of the reviews, and those of them that the model saw
-- mention_count           mentions found
-- mentioning_count        reviews with a mention
-- mentioning_share        mentioning_count / review_count
-- mean_rating             over the reviews that have a rating; null if none has
--
-- Example, days whose share of reviews with a mention is unusual:
--   select day, review_count, mentioning_share from coverage_daily
--   where mentioning_share < 0.2 and review_count >= 100 order by day
drop view if exists coverage_daily;

create view coverage_daily as
select
    c.date as day,
    c.week_start,
    c.month_start,
    count(*) as review_count,
    max(p.unique_text_count) as unique_text_count,
    max(p.cluster_count) as cluster_count,
    count(distinct r.product_id) as product_count,
    cast(sum(r.chars) as bigint) as chars,
    cast(sum(r.chars_read) as bigint) as chars_read,
    cast(sum(r.mention_count) as bigint) as mention_count,
    count(case when r.mention_count > 0 then 1 end) as mentioning_count,
    cast(count(case when r.mention_count > 0 then 1 end) as double precision) / count(*) as mentioning_share,
    avg(r.rating) as mean_rating
from review_coverage as r
join calendar as c on c.date = r.review_date
left join period_coverage as p on p.period = 'day' and p.period_start = r.review_date and p.model_version = '*'
group by c.date, c.week_start, c.month_start;
