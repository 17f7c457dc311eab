#!/usr/bin/env bash
# A filter on a Parquet file gives other rows than the same filter on the same table in memory, if a column has NaN:
# Parquet's statistics leave NaN out, and pyarrow and DuckDB conclude from them that there is none. polars does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6 duckdb==2.0.1 polars==2.1.0
venv/bin/python - <<'PYTHON'
import duckdb
import numpy as np
import polars
import pyarrow
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet

print("pyarrow", pyarrow.__version__, "duckdb", duckdb.__version__, "polars", polars.__version__)
table = pyarrow.table({"score": np.array([0.1, 0.9, np.nan, 0.3], "float32")})
pyarrow.parquet.write_table(table, "scores.parquet", row_group_size=2)
file, score = pyarrow.dataset.dataset("scores.parquet"), pc.field("score")
rules = {"is_nan(score)": pc.is_nan(score), "not (score <= 0.95)": ~(score <= 0.95)}
print("given:   scores 0.1, 0.9, NaN, 0.3 in float32, written by pyarrow in row groups of 2")
print("guessed: the same count of rows from the file as from memory; 1 for both filters")
seen = {}
for name, rule in rules.items():
    seen[f"pyarrow, {name}"] = (table.filter(rule).num_rows, file.to_table(filter=rule).num_rows)
duckdb.sql("create table scores as from 'scores.parquet'")
for rule in ("isnan(score)", "score > 0.95"):  # in DuckDB, NaN is the greatest number
    query = f"select count(*) from {{}} where {rule}"
    places = ("scores", "'scores.parquet'")
    seen[f"duckdb, {rule}"] = tuple(duckdb.sql(query.format(place)).fetchall()[0][0] for place in places)
rule = polars.col("score").is_nan()
rows = polars.scan_parquet("scores.parquet").filter(rule).collect().height
seen["polars, is_nan()"] = (polars.read_parquet("scores.parquet").filter(rule).height, rows)
for name, (memory, stored) in seen.items():
    print(f"seen:    {memory} from memory, {stored} from the file: {name}")
assert seen.pop("polars, is_nan()") == (1, 1), "changed: polars"
assert set(seen.values()) == {(1, 0)}, "changed"
PYTHON
