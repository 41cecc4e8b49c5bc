"""Spark on two local cores: window functions with range frames over the union of events and spine rows."""

from __future__ import annotations

from pathlib import Path

from measured import WINDOWS_S, measured
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as f

AGGREGATES = {"count": f.count, "sum": f.sum, "mean": f.avg, "min": f.min, "max": f.max, "std": f.stddev_samp}


def compute(spark: SparkSession, events: Path, spine: Path, out: Path) -> None:
    """From file to folder of files."""
    union = spark.read.parquet(str(events)).select("key", "at", "amount", f.lit(False).alias("is_row"))
    union = union.unionByName(
        spark.read.parquet(str(spine)).select("key", "at", f.lit(None).cast("double").alias("amount"), f.lit(True).alias("is_row"))
    )
    rows = union.withColumn("t", f.unix_micros("at"))
    by_key = Window.partitionBy("key").orderBy("t")
    columns = [
        function("amount").over(by_key.rangeBetween(-seconds * 1_000_000, -1)).alias(f"{name}_{width}")
        for width, seconds in WINDOWS_S.items()
        for name, function in AGGREGATES.items()
    ]
    found = rows.select("key", "at", "is_row", *columns).where("is_row").drop("is_row")
    found.write.mode("overwrite").parquet(str(out))


def main() -> None:
    """A session before the clock runs, and the JVM waited for after it, so that its memory is this process's."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", "8")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    measured(lambda events, spine, out: compute(spark, events, spine, out))
    jvm = spark.sparkContext._gateway.proc
    spark.stop()
    jvm.stdin.close()
    jvm.wait()


if __name__ == "__main__":
    main()
