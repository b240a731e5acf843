-- How many reviews the counts of a week or month rest on.
--
-- A row is one week or month with at least one review.
--
-- period             week or month
-- period_start       its Monday, or its first day
-- review_count       reviews read
-- unique_text_count  different texts among them: copied reviews count once. Counted anew for each period, as a text may
--                    come again: those of shorter periods do not add up to this
-- cluster_count      the same, with texts that are nearly the same counted once
--
-- Example, the months:
--   select period_start, review_count, unique_text_count, cluster_count from coverage_periods
--   where period = 'month' order by period_start
drop view if exists coverage_periods;

create view coverage_periods as
select
    period,
    period_start,
    review_count,
    unique_text_count,
    cluster_count
from period_coverage
where model_version = '*' and period <> 'day';
