"""Card fraud: is this payment fraudulent? Asked before it is approved; the truth arrives weeks later, as a chargeback.

Run `twofold check examples/fraud.py`. It shows features of several keys of one event, a ratio of two windows, a label that is late and
often missing, and an answer that always comes in time.
"""

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

import twofold as tw

# --- What happens. Each source is a stream of facts with the instant at which they became known. -------------------------------------

# A payment is known when it is asked for. `id` makes a payment that is sent twice count once.
payments = tw.Events(
    "payments",
    time="asked_at",
    id="payment_id",
    schema={
        "payment_id": str,
        "card": str,
        "merchant": str,
        "device": str,
        "country": tw.Category,  # a text that an estimator may use; a `str` identifies and finds features
        "amount": float,
        "is_online": bool,
    },
)

# What the bank answered, a moment later.
answers = tw.Events(
    "answers",
    time="answered_at",
    id="payment_id",
    schema={"payment_id": str, "card": str, "device": str, "is_approved": bool},
)

# The card's owner disputes a payment: days or weeks later, for one in a thousand.
chargebacks = tw.Events(
    "chargebacks",
    time="disputed_at",
    id="payment_id",
    schema={"payment_id": str, "card": str, "merchant": str, "amount": float, "reason": str},
)

# A table keeps the latest row of each merchant. With `time` it changes slowly, and training sees the row that was valid then.
merchants = tw.Table(
    "merchants",
    key="merchant",
    time="valid_from",
    schema={"merchant": str, "kind": tw.Category, "risk_class": int, "is_new": bool},
)

# --- What to know of it. A feature is declared once; history, stream and server compute the same bits. ---------------------------------

# A view holds the features of one kind of key. Short windows must be fresh to the event, so this one is "hybrid", the default:
# what was archived, merged with what has streamed in since.
card = tw.View(
    "card",
    payments,
    by="card",
    features={
        "payments": tw.count(over=["10m", "1d", "30d"]),
        "amount": tw.sum("amount", over=["10m", "1d"]),
        "usual": tw.mean("amount", over="30d"),
        "spread": tw.std("amount", over="30d"),
        "largest": tw.max("amount", over="30d"),
        "online": tw.mean("is_online", over="30d"),  # the mean of a condition is the share of events that meet it
        "abroad": tw.count(where=pl.col("country") != "NL", over=["1h", "30d"]),  # `where` counts only some events
        "country": tw.last("country", over="30d"),
    },
)

# One event feeds views of other keys as well: the same device behind many cards is a sign of its own.
device = tw.View(
    "device",
    payments,
    by="device",
    features={"payments": tw.count(over=["10m", "1d"]), "amount": tw.mean("amount", over="1d")},
)

refusals = tw.View(
    "refusals",
    answers.filter(~pl.col("is_approved")),  # a row-level step before anything is counted
    by="card",
    features={"refused": tw.count(over=["10m", "1d"])},
)

# Chargebacks are slow by nature, so one build a night is fresh enough, and costs the stream nothing.
disputes = tw.View(
    "disputes",
    chargebacks,
    by="merchant",
    mode="batch",
    refresh="0 2 * * *",
    features={"disputed": tw.count(over="90d"), "amount": tw.sum("amount", over="90d")},
)

# The key () holds all events: is tonight busier than usual, for everybody?
everybody = tw.View("everybody", payments, features={"payments": tw.count(over=["10m", "7d"])})

# --- What to answer. ------------------------------------------------------------------------------------------------------------------

fraud = tw.Model(
    "fraud",
    # What the caller sends. A `str` finds features and goes no further; a `tw.Category` reaches the estimator.
    request={
        "payment_id": str,
        "card": str,
        "device": str,
        "merchant": str,
        "country": tw.Category,
        "amount": float,
        "is_online": bool,
    },
    # The model's columns: card_payments_10m, device_amount_1d, refusals_refused_1d, disputes_amount_90d, merchants_risk_class, ...
    views=[card, device, refusals, disputes, everybody["payments_10m"], merchants],
    # NumPy arrays in, array out. The server compiles these from their source, so they may use their arguments, np and math, no more.
    derived={
        "amount_to_usual": lambda amount, card_usual_30d: amount / np.maximum(card_usual_30d, 1.0),
        "deviations": lambda amount, card_usual_30d, card_spread_30d: (amount - card_usual_30d) / np.maximum(card_spread_30d, 1.0),
        "burst": lambda card_payments_10m, card_payments_30d: card_payments_10m / (1.0 + card_payments_30d / 30.0),
    },
    # One row for each payment, at the instant at which it was asked for: an event never sees itself in its own features.
    rows=tw.Rows(payments, where=pl.col("amount") >= 1.0),
    # A payment without a chargeback within 45 days was honest. Younger payments have no label yet, and are left out of training.
    label=tw.Label(chargebacks, on="payment_id", value=pl.col("reason") == "fraud", within="45d", missing=False),
    estimator=HistGradientBoostingClassifier(max_iter=200),
    # When something fails or the deadline is near: what was said of the same request lately, and then a number that is always there.
    fallback=[tw.Cached(max_age="10m"), tw.Default(0.02)],
    deadline="40ms",
    retrain="0 3 * * 1",
)

# The project reaches views, sources and tables from its models.
project = tw.Project("fraud", models=[fraud])
