"""The registry of node types, and the functions by which requests reach it."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import function_for_api

revision = "node_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE = """
create table node.node_type (
    type text not null,
    version text not null,
    ordinal integer[] not null,
    category text not null,
    words text not null,
    manifest json not null,
    digest text not null,
    primary key (type, version)
)
"""

NEWEST = """
create view node.newest with (security_barrier) as
    select distinct on (t.type) t.type, t.category, t.words, t.manifest,
           (select array_agg(v.version order by v.ordinal desc) from node.node_type v where v.type = t.type) as versions
    from node.node_type t order by t.type, t.ordinal desc
"""

REPLACE = """
create function node.replace_types(given_digest text, given_rows json) returns void
language sql security definer set search_path = pg_catalog as $$
    with given as (
        select * from json_to_recordset(given_rows)
            as r(type text, version text, ordinal integer[], category text, words text, manifest json)
    ), gone as (
        delete from node.node_type t
        where not exists (select 1 from given g where g.type = t.type and g.version = t.version)
    )
    insert into node.node_type (type, version, ordinal, category, words, manifest, digest)
    select g.type, g.version, g.ordinal, g.category, g.words, g.manifest, given_digest from given g
    on conflict (type, version) do update
        set ordinal = excluded.ordinal, category = excluded.category, words = excluded.words,
            manifest = excluded.manifest, digest = excluded.digest
$$
"""

FIND = """
create function node.find_types(patterns text[], wanted text, after_type text, most integer)
returns table (manifest json, versions text[])
language sql stable security definer set search_path = pg_catalog as $$
    select n.manifest, n.versions from node.newest n
    where n.words like all (patterns) and (wanted is null or n.category = wanted)
      and (after_type is null or n.type > after_type)
    order by n.type limit most
$$
"""

COUNT = """
create function node.count_types(patterns text[]) returns table (category text, types bigint)
language sql stable security definer set search_path = pg_catalog as $$
    select n.category, count(*) from node.newest n
    where n.words like all (patterns) group by n.category order by n.category
$$
"""

READ = """
create function node.read_type(wanted text, wanted_version text) returns table (manifest json, versions text[])
language sql stable security definer set search_path = pg_catalog as $$
    select t.manifest,
           (select array_agg(v.version order by v.ordinal desc) from node.node_type v where v.type = wanted)
    from node.node_type t where t.type = wanted and (wanted_version is null or t.version = wanted_version)
    order by t.ordinal desc limit 1
$$
"""

DIGEST = """
create function node.catalogue_digest() returns text
language sql stable security definer set search_path = pg_catalog as $$
    select digest from node.node_type limit 1
$$
"""

FUNCTIONS = {
    "node.replace_types(text, json)": REPLACE,
    "node.find_types(text[], text, text, integer)": FIND,
    "node.count_types(text[])": COUNT,
    "node.read_type(text, text)": READ,
    "node.catalogue_digest()": DIGEST,
}


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(NEWEST)
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        for grant in function_for_api(signature):
            op.execute(grant)
