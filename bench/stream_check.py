"""What a peer of the stream benchmark wrote, held against Polars: every hour of every key, counts exactly, sums within 1e-9."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl


def wanted(folder: Path) -> pl.DataFrame:
    """`key`, `hour` (as `2024-01-01 07`), `n`, `amount`."""
    events, hour = pl.read_parquet(folder / "events.parquet"), pl.col("at").dt.strftime("%Y-%m-%d %H")
    return events.group_by("key", hour=hour).agg(n=pl.len().cast(pl.Int64), amount=pl.col("amount").sum())


def found(out: Path) -> pl.DataFrame:
    """The same of the lines `key,begin,n,amount` of a file or of a folder's files; of an hour that was written often the last state."""
    paths = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file() and path.name[0] not in "._"]
    files = [path for path in paths if path.stat().st_size]
    schema = {"key": pl.Int64, "begin": pl.String, "n": pl.Int64, "amount": pl.Float64}
    rows = pl.concat([pl.read_csv(file, has_header=False, schema=schema) for file in files])
    hour = pl.col("begin").str.head(13).str.replace("T", " ")
    return rows.group_by("key", hour=hour).agg(pl.col("n", "amount").get(pl.col("n").arg_max()))


def main() -> None:
    """Prints how many hours agree; exits with a text where one does not."""
    right = wanted(Path(sys.argv[1]))
    both = right.join(found(Path(sys.argv[2])), on=["key", "hour"], how="full", suffix="_got")
    near = (pl.col("amount") - pl.col("amount_got")).abs() <= 1e-9 * pl.col("amount").abs()
    bad = both.filter(~((pl.col("n") == pl.col("n_got")) & near).fill_null(False))
    if bad.height:
        raise SystemExit(f"{bad.height:,} of {both.height:,} hours are wrong, the first: {bad.row(0, named=True)}")
    print(f"{both.height:,}")


if __name__ == "__main__":
    main()
