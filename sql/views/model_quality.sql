-- How good each model version is, by its recorded evaluations.
--
-- A row is one figure: one metric of one version on one data set, overall or of one entity type.
--
-- version       the model version, as in the column model_version of the other tables
-- status        candidate, champion or archived
-- architecture  hybrid or bert-crf
-- base          what its training started from; null if from nothing
-- created_at    when it was registered, UTC
-- dataset       what it was scored on
-- metric        such as strict_f1, strict_precision, token_accuracy
-- entity_type   the type that the figure is of, or what stands for all of them
-- value         the figure
-- support       how many gold mentions it rests on; null where that has no meaning
--
-- Example, the champion's figures:
--   select dataset, metric, entity_type, value, support from model_quality
--   where status = 'champion' order by dataset, metric, entity_type
drop view if exists model_quality;

create view model_quality as
select
    v.version,
    v.status,
    v.architecture,
    v.base,
    v.created_at,
    e.dataset,
    e.metric,
    e.entity_type,
    e.value,
    e.support
from model_evaluations as e
join model_versions as v on v.version = e.version;
