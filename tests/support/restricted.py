"""What a restricted lake is asked that it must refuse, and a lake to ask."""

from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from queries.lake.lake import SqlLake
from queries.lake.state import Macro, Relation

SECRET = "the secret of another folder"
OUTSIDE = pa.table({"secret": [SECRET]})
"""A table that a query might find as a name of Python's."""


class OurLake(SqlLake):
    """With a relation of rows, and a macro whose body names a table."""

    relations: ClassVar = (
        *SqlLake.relations,
        Relation("answers", lambda *_: pa.table({"answer": [42], "symbol": ["NSE:INFY"]})),
    )
    macros: ClassVar = (
        Macro("above", lambda: [("price", "SELECT seq, last_price FROM ticks WHERE last_price > price ORDER BY seq")]),
    )


def files_of(*folders: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for folder in folders for path in folder.rglob("*")
    }


STATEMENTS = [
    "copy (select 1) to '{out}/new.csv'",
    "copy (select 1) to '{root}/ticks/new.csv' (use_tmp_file false)",
    "copy ticks to '{out}/secret.parquet' (format parquet, use_tmp_file false)",
    "copy (select 1 as a) to '{out}/new' (format parquet, partition_by (a))",
    "attach '{out}/secret.db' as other",
    "attach '{root}/ticks/secret.db' as other (read_only)",
    "export database '{out}/new'",
    "import database '{out}'",
    "install httpfs",
    "load httpfs",
    "force install spatial from community",
    "set memory_limit = '100GB'",
    "set variable x = 1",
    "reset lock_configuration",
    "use memory.kitelake",
    "pragma version",
    "pragma enable_profiling",
    "call pragma_version()",
    "call enable_logging(storage_path = '{out}/new')",
    "checkpoint",
    "vacuum",
    "begin",
    "create table mine as from ticks",
    "create or replace view ticks as select 1",
    "create macro getenv2(a) as a",
    "create secret (type s3)",
    "drop view ticks",
    "insert into ticks select 1",
    "prepare p as select 1",
    "execute p",
    "explain copy (select 1) to '{out}/new.csv'",
    "explain analyze copy (select 1) to '{out}/new.csv'",
    "explain analyze create table mine as from ticks",
    "select 1; select 2",
    "select 1; copy (select 1) to '{out}/new.csv'",
    "pivot ticks on exchange using count(*)",
    "with x as (insert into ticks select 1 returning *) from x",
    "show databases",
    "show variables",
    "show all tables",
    "describe '{out}/secret.csv'",
    "summarize '{out}/secret.parquet'",
]
SOURCES = [
    "read_text('/etc/passwd')",
    "read_text('{out}/secret.csv')",
    "read_blob('{out}/secret.csv')",
    "read_csv('{out}/secret.csv')",
    "read_json('{out}/secret.json')",
    "read_parquet('{out}/secret.parquet')",
    "read_parquet('{root}/ticks/secret.parquet')",
    "read_csv('{root}/ticks/out/secret.csv')",
    "parquet_scan(['{out}/secret.parquet'])",
    "parquet_metadata('{out}/secret.parquet')",
    "read_duckdb('{out}/secret.db')",
    "sniff_csv('{out}/secret.csv')",
    "glob('{out}/*')",
    "glob('{root}/*')",
    "'{out}/secret.csv'",
    '"{out}/secret.parquet"',
    "'{root}/ticks/secret.csv'",
    "OUTSIDE",
    "outside",
    "query('select 1')",
    "query_table('{out}/secret.csv')",
    "query_table('ticks')",
    "json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "histogram('{out}/secret.csv', secret)",
    "python_arrow_scan(1, 2, 3)",
    "kitelake.ticks_1",
    "information_schema.tables",
    "pg_catalog.pg_class",
    "sqlite_master",
    "duckdb_settings()",
    "duckdb_views()",
    "duckdb_variables()",
    "duckdb_secrets()",
    "pragma_version()",
    "main.read_text('/etc/passwd')",
    "system.main.read_text('/etc/passwd')",
]
EXPRESSIONS = [
    "getenv('HOME')",
    "'HOME'.getenv()",
    "getvariable('ticks_files_1')",
    "GetVariable('x')",
    "current_setting('allowed_directories')",
    "write_log('x')",
    "json_serialize_plan('select 1')",
    "nextval('x')",
    "system.main.getvariable('x')",
    "pg_get_viewdef(1)",
    "__internal_compress_string_ubigint('x')",
    "sleep_ms(1)",
    "list_transform([1], lambda x: getenv('HOME'))",
    "(select count(*) from read_text('/etc/passwd'))",
    "exists (from '{out}/secret.csv')",
]
AROUND = [
    "from {0}",
    "select * from ticks where seq in (select 1 from {0})",
    "with a as (from {0}) from a",
    "with recursive a as (select 1 as i union all select i + 1 from a, {0} where i < 3) from a",
    "select (select count(*) from {0})",
    "from ticks, lateral (from {0})",
    "from ticks a left join {0} b on true",
    "from above((select count(*) from {0}))",
    "select 1 union all select 2 from {0}",
    "from (pivot {0} on a in (1) using count(*))",
    "explain from {0}",
    "explain analyze select * from {0}",
    "explain (analyze, format json) from {0}",
    "describe from {0}",
    "summarize from {0}",
    "select list_transform([1], lambda x: (select count(*) from {0}))",
    "select count(*) over (order by (select 1 from {0})) from ticks limit (select 1 from {0})",
    "from ticks qualify row_number() over () = (select 1 from {0})",
    "from (values ((select 1 from {0})))",
    "from unnest([(select 1 from {0})])",
]
