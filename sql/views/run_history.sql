-- What each night did.
--
-- A row is one run, finished or not. Times are UTC.
--
-- run_id                         the run, as in the column run_id of the other tables
-- source                         what was read, without secrets
-- status                         running, succeeded, failed or abandoned
-- started_at, finished_at        finished_at is null while it runs
-- watermark_column               the source's column that tells which rows are new
-- watermark_low, watermark_high  the rows read were newer than the one; the next run starts from the other
-- reviews_in                     rows that were looked at: of the dates asked for, and those turned away
-- reviews_rejected               those turned away; the view rejections says why
-- rejected_share                 reviews_rejected / reviews_in; null if there were none
-- reviews_deleted                reviews that the source had deleted, and so removed here; null before this was counted
-- texts_unique                   different texts among the rest
-- texts_cached                   those that had been read before by the same model
-- texts_inferred                 those that the model read
-- cached_share                   texts_cached / texts_unique; null if there were none
-- mentions_out                   mentions published
-- model_version                  the model that read
-- error                          why it failed
--
-- Example, the last ten runs:
--   select started_at, status, reviews_in, rejected_share, texts_inferred, mentions_out from run_history
--   order by started_at desc limit 10
drop view if exists run_history;

create view run_history as
select
    run_id,
    source,
    status,
    started_at,
    finished_at,
    watermark_column,
    watermark_low,
    watermark_high,
    reviews_in,
    reviews_rejected,
    cast(reviews_rejected as double precision) / nullif(reviews_in, 0) as rejected_share,
    reviews_deleted,
    texts_unique,
    texts_cached,
    texts_inferred,
    cast(texts_cached as double precision) / nullif(texts_unique, 0) as cached_share,
    mentions_out,
    model_version,
    error
from extraction_runs;
