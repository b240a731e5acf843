-- What each night found in its new reviews, against the nights before it.
--
-- A row is one figure of one run: one metric of one entity type, or of all types. New are reviews that no run has
-- published before: edited ones and those of a backfill do not count, and a run without new reviews has no rows. A
-- figure has drifted where its change, up or down, is more than what is allowed.
--
-- run_id         the run, as in the column run_id of the other tables
-- finished_at    when it ended, UTC
-- source         what was read, without secrets
-- model_version  the model that read
-- entity_type    brand, product, model_number, misc, or a label of your own; all for all of them
-- metric         mentions_per_1000_chars, mean_confidence, never_seen_share (of the run's entities, those that no run
--                before had counted), unknown_char_share (of the characters, those that the model does not know), or
--                reviews, how many new ones the other figures rest on
-- value          the figure; null where there is nothing to take it of
-- baseline       its mean in the last runs over the same source by the same model; null if there are none
-- baseline_runs  how many those are
-- change_ratio   value / baseline - 1: 0.5 is half as much again; null if either is, or if the baseline is 0
-- allowed        the largest change_ratio, up or down, that was allowed; null where the figure was not judged, for
--                want of runs, of new reviews, or of events: mentions, new names or unknown characters
-- drifted        1 where it was more, else 0
--
-- Example, what has drifted of late:
--   select finished_at, entity_type, metric, value, baseline, change_ratio from drift
--   where drifted = 1 order by finished_at desc, entity_type, metric limit 20
drop view if exists drift;

create view drift as
select
    d.run_id,
    r.finished_at,
    r.source,
    r.model_version,
    d.entity_type,
    d.metric,
    d.value,
    d.baseline,
    d.baseline_runs,
    d.value / nullif(d.baseline, 0) - 1 as change_ratio,
    d.allowed,
    d.drifted
from drift_metrics as d
join extraction_runs as r on r.run_id = d.run_id;
