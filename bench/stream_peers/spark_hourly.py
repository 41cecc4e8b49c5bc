"""Spark Structured Streaming: one tumbling window by key over Parquet files, one a micro-batch, `local[1]`, state checkpointed."""

from __future__ import annotations

import sys
import tempfile

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f


def main() -> None:
    """All files that are there, then the end."""
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    files = spark.readStream.schema("key long, at timestamp, amount double").option("maxFilesPerTrigger", 1)
    hourly = (
        files.parquet(f"{sys.argv[1]}/parts")
        .withWatermark("at", "1 minute")
        .groupBy("key", f.window("at", "1 hour"))
        .agg(f.count("amount").alias("n"), f.sum("amount").alias("amount"))
    )
    with tempfile.TemporaryDirectory() as checkpoint:
        query = hourly.writeStream.outputMode("update").option("checkpointLocation", checkpoint).trigger(availableNow=True)
        query = query.format("noop") if len(sys.argv) < 4 else query.foreachBatch(written)
        query.start().awaitTermination()
    spark.stop()


def written(rows: DataFrame, number: int) -> None:
    """A micro-batch's changes as lines of CSV, for the check."""
    rows.select("key", f.col("window.start").cast("string"), "n", "amount").write.mode("append").csv(sys.argv[3])


if __name__ == "__main__":
    main()
