"""A plan survives its way to a replica whole, the order of keys and columns included."""

from __future__ import annotations

import polars as pl

import twofold as tw
from twofold.plan.compile import compile_project
from twofold.plan.serving import decode_plan, encode_plan

rides = tw.Events("rides", time="began_at", id="ride", schema={"ride": str, "zone": str, "area": int, "fare": float})
zone = tw.View("zone", rides, by=("zone", "area"), features={"n": tw.count(over="1d"), "fare": tw.mean("fare", over="1d")})
towns = tw.Table("towns", key=("zone", "area"), schema={"zone": str, "area": int, "people": int, "name": str})
late = tw.Model(
    "late",
    request={"ride": str, "zone": str, "area": int},
    views=[zone, towns],
    label={"z": tw.Label(rides, on="ride", value=pl.lit(1), within="1d"), "a": tw.Label(rides, on="ride", value="fare", within="1d")},
)


def test_what_is_decoded_is_what_was_encoded_in_the_same_order() -> None:
    plan = compile_project(tw.Project("p", models=[late])).serving
    again = decode_plan(encode_plan(plan))
    assert again == plan
    assert repr(again) == repr(plan), "dicts are equal in any order; what is read by place is not"
    assert encode_plan(again) == encode_plan(plan)
    assert list(again.views["zone"].by) == ["zone", "area"]
    assert again.models["late"].labels == ("z", "a")
