"""What a request may hold, and what a bad one is told; what the estimator sees of a good one."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from twofold.errors import SchemaMismatch
from twofold.instants import to_us
from twofold.plan.serving import ModelPlan
from twofold.serve.matrix import ModelInputs
from twofold.serve.requests import RequestCheck

NOON = to_us("2024-05-01T12:00:00Z")
FIELDS = {"user": "str", "kind": "category", "count": "int", "price": "float", "is_new": "bool", "at": "datetime"}
GOOD = {"user": "u", "kind": "k", "count": 3, "price": 2.5, "is_new": False, "at": "2024-05-01T12:00:00Z"}
CHECK = RequestCheck(ModelPlan("m", None, FIELDS, (), (), (), (), 1))


def test_a_request_becomes_canonical_values_in_the_order_of_the_fields() -> None:
    [row] = CHECK.rows([dict(reversed(GOOD.items()))])
    assert row == {"user": "u", "kind": "k", "count": 3, "price": 2.5, "is_new": False, "at": NOON}
    assert list(row) == list(FIELDS)


@pytest.mark.parametrize(
    ("field", "given", "taken"),
    [
        ("price", 2, 2.0),
        ("price", np.float64(2), 2.0),
        ("price", -0.0, 0.0),
        ("count", np.int32(2), 2),
        ("count", -(2**63), -(2**63)),
        ("is_new", np.bool_(True), True),
        ("at", NOON, NOON),
        ("at", datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
        ("at", datetime(2024, 5, 1, 12, tzinfo=UTC), NOON),
        ("user", "", ""),
        *((field, None, None) for field in FIELDS),
    ],
)
def test_what_a_field_takes(field: str, given: Any, taken: Any) -> None:
    [row] = CHECK.rows([{**GOOD, field: given}])
    assert (row[field], type(row[field])) == (taken, type(taken))
    assert field != "price" or taken is None or math.copysign(1, row[field]) == 1
    assert CHECK.columns({name: [{**GOOD, field: given}[name]] * 2 for name in FIELDS}) == [row, row]


BAD = [
    ("price", "2.5", "price is '2.5', not a float; send a number without quotes"),
    ("price", True, "price is True, not a float"),
    ("price", math.nan, "price is nan"),
    ("price", math.inf, "price is inf"),
    ("price", 2**53 + 1, "beyond 2^53"),
    ("price", [1.0], "price is [1.0], not a float"),
    ("count", True, "count is True, not an int"),
    ("count", 1.5, "count is 1.5, not an int"),
    ("count", "1", "count is '1', not an int"),
    ("count", 2**63, "does not fit 64 bits"),
    ("user", 7, "user is 7, not a text; send it as text, as in '7'"),
    ("kind", False, "kind is False, not a text"),
    ("user", "\ud800", "half of a surrogate pair"),
    ("is_new", 1, "is_new is 1, not a bool"),
    ("is_new", "true", "is_new is 'true', not a bool"),
    ("at", "2024-05-01T12:00:00", "at is 2024-05-01T12:00:00, which has no zone"),
    ("at", datetime(2024, 5, 1, 12), "which has no zone"),
    ("at", "yesterday", "at is 'yesterday', not an instant"),
    ("at", {}, "at is {}, not an instant"),
]


@pytest.mark.parametrize(("field", "given", "told"), BAD)
def test_what_a_field_refuses(field: str, given: Any, told: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        CHECK.rows([GOOD, GOOD, {**GOOD, field: given}])
    assert "model 'm' refuses request 2:\n" in str(refused.value)
    assert told in str(refused.value)
    with pytest.raises(SchemaMismatch) as refused:
        CHECK.columns({**{name: [value] * 3 for name, value in GOOD.items()}, field: [GOOD[field], GOOD[field], given]})
    assert "model 'm' refuses request 2:\n" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({name: value for name, value in GOOD.items() if name != "price"}, "price is absent; where nothing is known give null"),
        ({**{name: value for name, value in GOOD.items() if name != "price"}, "prise": 1}, "price is absent; where nothing is known give"),
        ({**GOOD, "prise": 1}, "prise is no field of this model, whose requests have user, kind, count, price, is_new, at; leave it out."),
        ({**GOOD, "prise": 1}, "Did you mean 'price'?"),
        ({**{name: value for name, value in GOOD.items() if name != "price"}, "prise": 1}, "Did you mean 'prise'?"),
        ("text", "it is 'text'; give an object with the fields"),
        (None, "it is None"),
        ([1, 2, 3, 4, 5, 6], "it is [1, 2, 3, 4, 5, 6]; give an object"),
        ({**GOOD, "price": "x", "count": 1.5}, "count is 1.5"),
        ({**GOOD, "price": "x", "count": 1.5}, "price is 'x'"),
    ],
)
def test_a_request_of_another_shape_is_told_all_that_is_wrong(row: Any, told: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        CHECK.rows([row])
    assert "refuses request 0" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("rows", [GOOD, "text", None, 3])
def test_requests_come_in_a_list(rows: Any) -> None:
    with pytest.raises(SchemaMismatch, match="takes a list of requests"):
        CHECK.rows(rows)


def test_single_values_stand_for_all_rows() -> None:
    rows = CHECK.columns({**GOOD, "user": ["a", "b", "c"], "price": [1, None, 2.5]})
    assert [row["user"] for row in rows] == ["a", "b", "c"]
    assert [row["price"] for row in rows] == [1.0, None, 2.5]
    assert [list(row) for row in rows] == [list(FIELDS)] * 3
    assert {(row["kind"], row["at"]) for row in rows} == {("k", NOON)}
    assert CHECK.columns({**GOOD, "user": []}) == []


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({**GOOD, "user": ["a"], "kind": ["b", "c"]}, "user has 1, kind has 2"),
        (GOOD, "there is none"),
        ({"user": ["a"], "kind": "k"}, "count is absent"),
        ({**GOOD, "user": ["a"], "prise": 1}, "prise is no field"),
        ({"user": []}, "count is absent"),
        ({**GOOD, "price": "x", "user": ["a"]}, "price is 'x'"),
        ({**GOOD, "price": "x", "user": []}, "price is 'x'"),
    ],
)
def test_columns_of_another_shape_are_refused(columns: Any, told: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        CHECK.columns(columns)
    assert told in str(refused.value)


# What the estimator sees


def test_the_matrix_has_codes_numbers_and_nan_in_the_order_of_the_columns(make_shop: Any, helpers: Any) -> None:
    shop = make_shop()
    model = shop.plan.models["buy"]
    requests = shop.server().check("buy").rows(
        [
            helpers.request(),
            helpers.request(kind="c", is_new=False, price=None, item=None),
            helpers.request(kind=None, shop=None, is_new=None, asked_at=None),
        ]
    )  # fmt: skip
    vectors = shop.reader().read("buy", requests)
    inputs = ModelInputs(model, shop.plan)
    matrix = inputs.matrix(requests, vectors)
    assert matrix.dtype == np.float64
    assert matrix.shape == (3, len(model.columns))
    seen = {name: [None if value != value else value for value in matrix[:, i].tolist()] for i, name in enumerate(model.columns)}
    assert seen["kind"] == [1.0, None, None], "a frozen code; unseen and null are NaN"
    assert seen["is_new"] == [1.0, 0.0, None]
    assert seen["item"] == [1.0, None, 1.0]
    assert seen["asked_at"] == [float(NOON), float(NOON), None]
    assert seen["shop_kind_all"] == [1.0, 1.0, None]
    assert seen["owners_owner"] == [0.0, 0.0, None]
    assert seen["ratio"] == [1.0, None, None]
    assert seen["twice"] == [2.0, None, None], "a derived column may use an earlier one"
    assert "rival_kind_all" not in seen
    for number in range(3):
        assert np.array_equal(inputs.row(requests[number], vectors[number]), matrix[number], equal_nan=True)


def test_instants_of_features_are_microseconds(make_shop: Any, helpers: Any) -> None:
    shop = make_shop()
    shop.append("sales", {**helpers.sale(at="11:58:00"), "paid_at": "2024-05-01T11:59:00Z"})
    shop.worker.catch_up()
    requests = shop.server().check("buy").rows([helpers.request()])
    vectors = shop.reader().read("buy", requests)
    row = ModelInputs(shop.plan.models["buy"], shop.plan).row(requests[0], vectors[0])
    assert row[shop.predictor.columns.index("shop_paid_at_all")] == to_us("2024-05-01T11:59:00Z")
    [columns] = ModelInputs(shop.plan.models["buy"], shop.plan).columns(requests, vectors)
    assert columns["shop_paid_at_all"] == datetime(2024, 5, 1, 11, 59, tzinfo=UTC)
    assert columns["asked_at"] == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert list(columns) == list(shop.plan.models["buy"].columns)
    assert (columns["kind"], columns["ratio"]) == ("b", 20.0 / columns["shop_amount_1d"])


def test_a_model_without_a_predictor_has_columns_and_no_matrix_columns(make_shop: Any) -> None:
    shop = make_shop()
    requests = [{"x": 1.0}, {"x": None}]
    inputs = ModelInputs(shop.plan.models["empty"], shop.plan)
    assert inputs.columns(requests, shop.reader().read("empty", requests)) == requests
    assert inputs.matrix([], []).shape == (0, 0)
