-- Who decided on names, and when.
--
-- A row is one decision, in order: a later one on the same alias takes the place of an earlier one.
--
-- decision_no  1 for the first decision, and so on
-- decided_at   when, UTC
-- decided_by   who
-- action       accept: the alias is counted as the other name; reject: it is not, and what was accepted is taken back
-- entity_type  brand, product, model_number, misc, or a label of your own
-- alias        the name that was decided on, as counted without the decision
-- canonical    the other name
--
-- Example, the last ten decisions:
--   select decided_at, decided_by, action, alias, canonical from link_history order by decision_no desc limit 10
drop view if exists link_history;

create view link_history as
select
    decision_no,
    decided_at,
    decided_by,
    action,
    entity_type,
    alias,
    canonical
from link_decisions;
