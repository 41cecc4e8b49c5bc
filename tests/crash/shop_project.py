"""The project of the fault tests: two sources, hybrid, batch and stream views, a table that changes, a model."""

import polars as pl
from lightgbm import LGBMClassifier

import twofold as tw

payments = tw.Events(
    "payments", time="paid_at", id="payment_id", dedupe="30d", schema={"payment_id": str, "card": str, "amount": float, "shop": str}
)
limits = tw.Table("limits", key="card", time="set_at", schema={"card": str, "limit": float})

card = tw.View(
    "card",
    payments,
    by="card",
    features={
        "n": tw.count(over=["10m", "1d"]),
        "n_all": tw.count(),
        "amount": tw.mean("amount", over=["1h", "30d"]),
        "sum": tw.sum("amount"),
        "place": tw.last("shop"),
    },
)
shop = tw.View("shop", payments, by="shop", mode="batch", refresh="0 * * * *", features={"n": tw.count(), "amount": tw.sum("amount")})
everything = tw.View("everything", payments, mode="stream", features={"n": tw.count(), "largest": tw.max("amount", over="1h")})

risk = tw.Model(
    "risk",
    request={"card": str, "shop": tw.Category, "amount": float},
    views=[card, shop, everything, limits],
    drop=["card_place_all"],
    rows=tw.Rows(payments),
    label=tw.Label(payments, on="card", value=pl.col("amount") > 100, within="1d", missing=False),
    estimator=LGBMClassifier(n_estimators=2, min_child_samples=5, num_threads=1, verbosity=-1),
    deadline="20s",
)
project = tw.Project("shop", models=[risk])
