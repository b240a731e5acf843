-- Why reviews were turned away, run by run.
--
-- A row is one reason in one run that rejected reviews for it.
--
-- run_id, started_at  the run; times are UTC
-- reason              the name of the rule, as README lists them
-- review_count        rows rejected by it
-- rejected_share      review_count / all rows that the run read; null if it is not known yet
--
-- Example, the reasons of the last run:
--   select reason, review_count, rejected_share from rejections
--   where started_at = (select max(started_at) from rejections) order by review_count desc
drop view if exists rejections;

create view rejections as
select
    x.run_id,
    r.started_at,
    x.reason,
    count(*) as review_count,
    cast(count(*) as double precision) / nullif(r.reviews_in, 0) as rejected_share
from rejected_reviews as x
join extraction_runs as r on r.run_id = x.run_id
group by x.run_id, r.started_at, x.reason, r.reviews_in;
