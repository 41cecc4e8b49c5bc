"""Recommendations: candidates are found by night for every user and ranked anew with fresh features whenever the user looks.

Run `twofold check examples/recommend.py`. One request has one user and many items; `check` also lists what is declared here and not carried
out yet.
"""

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier

import twofold as tw

# --- What happens. --------------------------------------------------------------------------------------------------------------------

# An item is shown to a user, as part of a list. `list_id` says which items competed for the same look.
impressions = tw.Events(
    "impressions",
    time="shown_at",
    id="impression_id",
    schema={"impression_id": str, "list_id": str, "user": str, "item": str, "shelf": str, "place": int, "score": float},
)

clicks = tw.Events(
    "clicks",
    time="clicked_at",
    id="impression_id",
    schema={"impression_id": str, "user": str, "item": str, "shelf": str, "stayed_s": float},
)

purchases = tw.Events(
    "purchases",
    time="bought_at",
    id="order_line",
    schema={"order_line": str, "user": str, "item": str, "shelf": str, "price": float, "pieces": int},
)

# Static tables have no time: the last loaded row of a key holds for ever.
items = tw.Table("items", key="item", schema={"item": str, "brand": tw.Category, "price": float, "is_novelty": bool})

# The nightly job of another team writes what it thinks of each pair of user and item. Snapshots load as they are, night by night;
# a training row sees the score of the night before it, never a later one.
candidates = tw.Table(
    "candidates",
    key=("user", "item"),
    time="computed_at",
    schema={"user": str, "item": str, "affinity": float, "rank": int},
    max_age="36h",  # older values are still served, and marked as stale
)

# --- What to know of it. --------------------------------------------------------------------------------------------------------------

# A column that is made before anything is counted. A look of less than five seconds was a mistake.
looks = clicks.with_columns(is_serious=pl.col("stayed_s") >= 5.0)

user = tw.View(
    "user",
    looks,
    by="user",
    features={
        "clicks": tw.count(over=["30m", "1d", "30d"]),
        "serious": tw.mean("is_serious", over=["1d", "30d"]),
        "stayed": tw.mean("stayed_s", over="30d"),
    },
)

# Keys have any number of columns. This is what makes a list feel alive: three clicks on shoes a minute ago count in the next look.
taste = tw.View(
    "taste",
    looks,
    by=("user", "shelf"),
    features={"clicks": tw.count(over=["10m", "1d", "30d"])},
)

item = tw.View(
    "item",
    clicks,
    by="item",
    features={"clicks": tw.count(over=["1h", "1d", "7d"]), "stayed": tw.mean("stayed_s", over="7d")},
)

shown = tw.View(
    "shown", impressions, by="item", features={"times": tw.count(over=["1h", "1d", "7d"]), "place": tw.mean("place", over="7d")}
)

# What this user has been shown again and again tires; what was bought yesterday is not needed today.
pair = tw.View("pair", impressions, by=("user", "item"), features={"shown": tw.count(over=["1d", "30d"])})
bought = tw.View("bought", purchases, by=("user", "item"), features={"pieces": tw.sum("pieces", over=["1d", "365d"])})

# A shelf's turnover moves slowly: a build each night is enough.
turnover = tw.View(
    "turnover",
    purchases.with_columns(value=pl.col("price") * pl.col("pieces")),
    by="shelf",
    mode="batch",
    refresh="30 1 * * *",
    features={"value": tw.sum("value", over="28d")},
)

# --- What to answer. ------------------------------------------------------------------------------------------------------------------

rank = tw.Model(
    "rank",
    # Five hundred items for one user are one request of columns, where a single value stands for all rows:
    #   {"user": "u7", "item": ["i1", "i2", ...], "shelf": ["shoes", "hats", ...], "place": 0}
    request={"user": str, "item": str, "shelf": tw.Category, "place": int},
    # Features of the user, of the item, and of both together, each found by the fields that it needs.
    views=[user, taste, item["clicks_1h", "clicks_7d"], shown, pair, bought, turnover, items, candidates["affinity"]],
    derived={
        "click_rate": lambda item_clicks_7d, shown_times_7d: item_clicks_7d / np.maximum(shown_times_7d, 20),
        "rising": lambda item_clicks_1h, item_clicks_7d: np.log1p(item_clicks_1h) - np.log1p(item_clicks_7d / 168),
        "own_shelf": lambda taste_clicks_30d, user_clicks_30d: taste_clicks_30d / np.maximum(user_clicks_30d, 1),
    },
    drop=["item_clicks_1h"],  # it is in "rising", and the estimator need not see it twice
    # What was shown, at the instant at which it was shown. `group` keeps the rows of one list together: in the split of train and test,
    # and for estimators that learn to order a list.
    rows=tw.Rows(impressions, group="list_id"),
    label=tw.Label(clicks, on="impression_id", value=pl.col("stayed_s") >= 5.0, within="30m", missing=False),
    estimator=LGBMClassifier(n_estimators=300, num_leaves=63),
    # Without fresh features the night's order is still a good one; a constant keeps the order in which the caller sent them.
    fallback=[tw.Cached(max_age="5m"), tw.Default(0.0)],
    deadline="80ms",
    retrain="0 4 * * *",
)

project = tw.Project("recommend", models=[rank])
