-- Names that may be one entity, for people to decide on: ecner link accept, ecner link reject.
--
-- A row is one suggested pair of names of a type on which nobody has decided. Nothing is counted by it. It is worked out
-- anew by ecner link suggest, from what was found in the texts that reviews have, each text once.
--
-- entity_type         brand, product, model_number, misc, or a label of your own
-- alias               the name that would be counted under the other: the rarer one, or the Latin one beside a Chinese one
-- canonical           the name that it would be counted under
-- kind                spelling: written alike; sound: they sound alike; together: Latin and Chinese, side by side in texts
-- score               0 to 1; not a probability
-- alias_count         texts with the alias
-- canonical_count     texts with the other name
-- together_count      texts with both
-- adjacent_count      texts in which both stand side by side
-- shared_slots        different surroundings, two characters to either side, that both stand in
-- alias_example       the alias in one of its texts; null where the context is not known
-- canonical_example   the other name in one of its texts; likewise
-- suggested_at        when it was worked out, UTC
--
-- Example, the best suggestions of brands:
--   select alias, canonical, kind, score, together_count, alias_example from link_queue
--   where entity_type = 'brand' order by score desc, alias, canonical limit 20
drop view if exists link_queue;

create view link_queue as
select
    s.entity_type,
    s.alias,
    s.canonical,
    s.kind,
    s.score,
    s.alias_count,
    s.canonical_count,
    s.together_count,
    s.adjacent_count,
    s.shared_slots,
    s.alias_example,
    s.canonical_example,
    s.suggested_at
from link_suggestions as s
where not exists (
    select 1
    from link_decisions as d
    where d.entity_type = s.entity_type
        and ((d.alias = s.alias and d.canonical = s.canonical) or (d.alias = s.canonical and d.canonical = s.alias))
);
