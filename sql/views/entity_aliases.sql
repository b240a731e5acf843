-- How customers write the names of entities.
--
-- A row is one written form of one entity.
--
-- entity_type    brand, product, model_number, misc, or a label of your own
-- alias          the form, as it stands in reviews
-- canonical      the entity that it is counted as: by rules, by the lexicon, or because somebody decided so
-- mention_count  mentions in this form
--
-- Example, the forms of brands:
--   select canonical, alias, mention_count from entity_aliases
--   where entity_type = 'brand' order by mention_count desc, alias
drop view if exists entity_aliases;

create view entity_aliases as
select
    entity_type,
    surface as alias,
    canonical,
    count(*) as mention_count
from mentions
group by entity_type, canonical, surface;
