-- The least rights that a warehouse on PostgreSQL needs, for psql, run by an administrator of the database:
--
--     psql -d DATABASE -v schema=ecner -v job=ecner_job -v reader=ecner_reader -f postgresql_rights.sql
--
-- It may be run again at any time, and takes no right away.
--   job     the nightly job. It makes its tables and views inside the schema and owns nothing else; it may not make
--           schemas, databases or roles. Name the schema in warehouse.schema.
--   reader  the analysts. It may select from what stands in the schema, and from what the job makes there later.
-- Passwords are not set here. Use \password ROLE, or how the server lets people in otherwise.
-- People who enter labels need, once ecner has made its tables: grant insert on SCHEMA.annotations to THEIR_ROLE;

\set ON_ERROR_STOP on
begin;

-- A role has none of the rights over a server unless it is given them.
select format('create role %I login', name)
from (values (:'job'), (:'reader')) as wanted (name)
where not exists (select from pg_roles where rolname = name)
\gexec

-- Who is no superuser, as in a cloud, has to be of the job's role to say what is granted on what it makes.
select format('grant %I to current_user', :'job')
where not pg_has_role(current_user, :'job', 'usage')
\gexec

-- Temporary tables are where rows wait to be merged.
select format('grant connect, temporary on database %I to %I', current_database(), :'job')
\gexec
select format('grant connect on database %I to %I', current_database(), :'reader')
\gexec

create schema if not exists :"schema";
grant usage, create on schema :"schema" to :"job";
grant usage on schema :"schema" to :"reader";

grant select on all tables in schema :"schema" to :"reader";
alter default privileges for role :"job" in schema :"schema" grant select on tables to :"reader";

commit;
