"""A small project for tests of the whole: payments, a hybrid, a batch and a stream view, a static and a changing table, a model."""

import polars as pl
from lightgbm import LGBMClassifier

import twofold as tw

payments = tw.Events("payments", time="paid_at", id="payment_id", schema={"payment_id": str, "card": str, "amount": float, "shop": str})
frauds = tw.Events("frauds", time="reported_at", id="payment_id", schema={"payment_id": str})
shops = tw.Table("shops", key="shop", schema={"shop": str, "kind": str, "floor_m2": int})
limits = tw.Table("limits", key="card", time="set_at", deleted="ended", schema={"card": str, "limit": float})

card = tw.View(
    "card",
    payments,
    by="card",
    features={
        "n": tw.count(over=["10m", "1d"]),
        "amount": tw.mean("amount", over=["1d", "30d"]),
        "spread": tw.std("amount"),
        "place": tw.last("shop"),
    },
)
shop = tw.View("shop", payments, by="shop", mode="batch", refresh="0 * * * *", features={"amount": tw.sum("amount", over="7d")})
all_payments = tw.View("all_payments", payments, mode="stream", features={"largest": tw.max("amount", over="1h")})

risk = tw.Model(
    "risk",
    request={"payment_id": str, "card": str, "shop": tw.Category, "amount": float},
    views=[card, shop, all_payments, shops["floor_m2"], limits],
    derived={"ratio": lambda amount, card_amount_1d: amount / card_amount_1d},
    drop=["card_place_all"],
    rows=tw.Rows(payments),
    label=tw.Label(frauds, on="payment_id", value=pl.col("payment_id").is_not_null(), within="1d", missing=False),
    estimator=LGBMClassifier(n_estimators=5, min_child_samples=5, num_threads=1, verbosity=-1),
    fallback=[tw.Cached(max_age="1h"), tw.Default(0.5)],
    deadline="5s",
)
project = tw.Project("shop", models=[risk])
