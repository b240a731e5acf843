-- Who was champion from when on.
--
-- A row is one change of champion. Times are UTC.
--
-- promotion_no            1 for the first change, and so on
-- promoted_at             when it was made
-- action                  promotion, or rollback to what was champion before the promotion that it takes back
-- version                 the model that became champion
-- previous_version        the one that was champion until then
-- status                  of version as of now: champion, archived or candidate
-- architecture            hybrid or bert-crf
-- base                    what its training started from; null if from nothing, or not known
-- parent                  the version that it is an adapter of or was trained on from; null if none
-- created_at              when it was registered
-- reason                  why it stayed a candidate when last compared; null if it passed the gate or was never compared
--
-- Example, the last ten changes:
--   select promoted_at, action, version, previous_version from promotion_history order by promotion_no desc limit 10
drop view if exists promotion_history;

create view promotion_history as
select
    p.promotion_no,
    p.promoted_at,
    p.action,
    p.version,
    p.previous_version,
    v.status,
    v.architecture,
    v.base,
    v.parent,
    v.created_at,
    v.reason
from model_promotions as p
join model_versions as v on v.version = p.version;
