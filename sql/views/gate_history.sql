-- Why each challenger was promoted, or not.
--
-- A row is one rule's decision on one version against the champion of that time. Times are UTC.
--
-- version       the challenger
-- status        of it as of now: candidate, champion or archived
-- champion      the version that it was compared with
-- decided_at    when
-- rule          the rule, as in the settings train.gate
-- outcome       passed, failed or not judged
-- value         the figure that was judged; null where there was none
-- lower, upper  ends of its interval; null where it has none
-- allowed       the bound that it was held against; null where there is none
-- detail        the same in words
-- reason        why it stayed a candidate when last compared; null if it passed the gate or was never compared
--
-- Example, what held back the challengers so far:
--   select decided_at, version, rule, value, allowed, detail from gate_history
--   where outcome = 'failed' order by decided_at desc, version, rule
drop view if exists gate_history;

create view gate_history as
select
    g.version,
    v.status,
    g.champion,
    g.decided_at,
    g.rule,
    g.outcome,
    g.value,
    g.lower,
    g.upper,
    g.allowed,
    g.detail,
    v.reason
from gate_decisions as g
join model_versions as v on v.version = g.version;
