"""A small shop, whole and in memory: log, worker, batch layer, store and a replica over them, with a clock that tests move by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

import twofold as tw
from twofold.batch.generation import Builder
from twofold.batch.roll import history_versions, roll
from twofold.batch.spill import Scratch
from twofold.bell import Bell
from twofold.clocks import ManualClock
from twofold.instants import to_us
from twofold.log.base import Append, Position
from twofold.log.memory import MemoryLog
from twofold.log.records import encode_records
from twofold.plan.compile import compile_project
from twofold.plan.ingest import check_rows, partition_rows
from twofold.plan.inputs import POLARS_TYPES, stamped
from twofold.plan.served import Served
from twofold.plan.serving import PredictorPlan, ServingPlan
from twofold.serve.features import FeatureReader
from twofold.serve.predict import ModelServer
from twofold.store.base import Store
from twofold.store.lmdb import LmdbStore
from twofold.store.memory import MemoryStore
from twofold.stream.worker import Worker
from twofold.tables.memory import MemoryTables

NOON = "2024-05-01T12:00:00Z"

sales = tw.Events("sales", time="sold_at", schema={"shop": str, "item": int, "amount": float, "kind": str, "paid_at": datetime})
visits = tw.Events("visits", time="seen_at", schema={"shop": str, "day": datetime})
owners = tw.Table("owners", key="shop", schema={"shop": str, "owner": str, "since": int, "share": float})

shop = tw.View(
    "shop",
    sales,
    by="shop",
    max_age="2h",
    features={
        "sales": tw.count(over=["10m", "1d"]),
        "amount": tw.mean("amount", over=["1h", "1d"]),
        "kind": tw.last("kind"),
        "paid_at": tw.max("paid_at"),
    },
)
item = tw.View("item", sales, by=("shop", "item"), mode="stream", features={"sold": tw.count(over="1d")})
nightly = tw.View("nightly", sales, by="shop", mode="batch", refresh="0 2 * * *", features={"total": tw.sum("amount")})
frozen = tw.View("frozen", sales, by="shop", mode="batch", refresh="0 2 * * *", as_of="build", features={"sales": tw.count(over="1h")})
everybody = tw.View("everybody", visits, features={"visits": tw.count(over="1h")})
by_day = tw.View("by_day", visits, by="day", features={"visits": tw.count()})

MODEL_VIEWS: list[Any] = [shop, shop.on(shop="rival", prefix="rival_"), item, nightly, everybody["visits_1h"], owners]

NO_SPILL = Scratch(Path("unused"), 1 << 40)


def project_of(fallback: Sequence[Any] = (), deadline: str = "5s") -> tw.Project:
    model = tw.Model(
        "buy",
        request={"shop": str, "rival": str, "item": int, "kind": tw.Category, "price": float, "is_new": bool, "asked_at": datetime},
        views=MODEL_VIEWS,
        derived={"ratio": lambda price, shop_amount_1d: price / shop_amount_1d, "twice": lambda ratio: 2 * ratio},
        drop=["rival_kind_all"],
        fallback=list(fallback),
        deadline=deadline,
    )
    return tw.Project("shops", models=[model, tw.Model("empty", request={"x": float})], views=[frozen, by_day])


class Weighted:
    """A predictor: price, plus a hundredth of the shop's mean; NaN as 0."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.seen: list[np.ndarray] = []
        self.error: Exception | None = None
        self.before: Callable[[], None] = lambda: None

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        self.before()
        if self.error is not None:
            raise self.error
        self.seen.append(matrix)
        known = np.nan_to_num(matrix)
        return known[:, self.columns.index("price")] + known[:, self.columns.index("shop_amount_1d")] / 100

    def predict_one(self, row: np.ndarray) -> float:
        return float(self.predict(row[np.newaxis])[0])


class Shop:
    """Everything of one home, each part real."""

    def __init__(self, store: Store, bell: Bell, partitions: int = 2, **model: Any) -> None:
        self.project = compile_project(project_of(**model))
        self.clock = ManualClock(NOON)
        self.store, self.bell = store, bell
        self.log, self.tables = MemoryLog(partitions), MemoryTables()
        self.served: list[Served] = []
        self.plan = self._with_predictor()
        self.predictor = Weighted(self.plan.models["buy"].columns)
        self.worker = Worker(self.project, self.log, store, bell)
        self.worker.take_over()

    def _with_predictor(self) -> ServingPlan:
        buy = self.project.serving.models["buy"]
        categories = {"kind": ("a", "b"), "shop_kind_all": ("a", "b"), "owners_owner": ("Ann",)}
        predictor = PredictorPlan("test", "-", buy.columns, categories, "probability")
        served = msgspec.structs.replace(buy, version="0123456789abcdef", predictor=predictor)
        return msgspec.structs.replace(self.project.serving, models={**self.project.serving.models, "buy": served})

    def append(self, source: str, *rows: Mapping[str, Any]) -> Position:
        plan = self.project.source(source)
        columns = check_rows(plan, list(rows))
        parts = partition_rows(plan, columns, self.log.partitions)
        batches = [
            Append(source, i, len(mine), encode_records(plan.columns, {k: [v[n] for n in mine] for k, v in columns.items()}))
            for i, mine in enumerate(parts)
            if len(mine)
        ]
        return self.log.append(batches, self.clock.now_us())

    def load(self, source: str, *rows: Mapping[str, Any]) -> None:
        plan = self.project.source(source)
        schema = {name: POLARS_TYPES[kind] for name, kind in plan.columns.items()}
        frame = pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=kind) for name, kind in schema.items()})
        self.tables.load(source, stamped(plan, frame), str(rows))

    def build(self, *views: str, at: str = NOON) -> None:
        self.worker.catch_up()
        Builder(self.project, self.log, self.store, self.tables, NO_SPILL).build(to_us(at), views or None)

    def roll(self, view: str) -> None:
        """Begin a build of a view and leave it there: its delta is closed, and another one open."""
        plan = self.plan.views[view]
        roll(self.store, plan, self.log.partitions, history_versions(self.tables, plan))

    def reader(self, store: Store | None = None) -> FeatureReader:
        return FeatureReader(self.plan, store or self.store, self.log.uuid, self.log.partitions, self.clock)

    def server(self, store: Store | None = None, plan: ServingPlan | None = None, **options: Any) -> ModelServer:
        load = options.pop("load", lambda _: self.predictor)
        record = options.pop("record", self.served.extend)
        plan = plan or self.plan
        reader = FeatureReader(plan, store or self.store, self.log.uuid, self.log.partitions, self.clock)
        return ModelServer(plan, reader, load, record, self.bell, **options)


def sale(shop: str = "north", at: str = "11:30:00", amount: float | None = 10.0, item: int = 1, kind: str = "a") -> dict[str, Any]:
    return {"shop": shop, "item": item, "amount": amount, "kind": kind, "paid_at": None, "sold_at": f"2024-05-01T{at}Z"}


def request(**other: Any) -> dict[str, Any]:
    plain = {"shop": "north", "rival": "south", "item": 1, "kind": "b", "price": 20.0, "is_new": True, "asked_at": NOON}
    return {**plain, **other}


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """The store of a shop, of each kind."""
    made: Store = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path / "store", map_size=64 << 20)
    yield made
    made.close()


@pytest.fixture
def bell(tmp_path: Path) -> Bell:
    return Bell(tmp_path / "run")


@pytest.fixture(scope="module")
def module_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A filled shop for the tests of a file that change nothing in it."""
    return filled(Shop(MemoryStore(), Bell(tmp_path_factory.mktemp("run")), fallback=[tw.Default(0.25)]))


@pytest.fixture
def make_shop(bell: Bell) -> Callable[..., Shop]:
    """A shop in memory with events in history, log and delta, built; models as the keyword arguments say."""

    def make(store: Store | None = None, **options: Any) -> Shop:
        return filled(Shop(store or MemoryStore(), bell, **options))

    return make


def filled(shop: Shop) -> Shop:
    shop.load("sales", sale(at="09:00:00", amount=30.0), sale("south", at="10:00:00", amount=5.0, kind="b"))
    shop.load("owners", {"shop": "north", "owner": "Ann", "since": 1990, "share": 0.5})
    shop.append("sales", sale(at="11:00:00", amount=20.0), sale("south", at="11:10:00", amount=None))
    shop.append("visits", {"shop": "north", "day": NOON, "seen_at": "2024-05-01T11:50:00Z"})
    shop.build()
    shop.append("sales", sale(at="11:55:00", amount=10.0, kind="b"))
    shop.worker.catch_up()
    return shop


@pytest.fixture
def lively(store: Store, make_shop: Callable[..., Shop]) -> Shop:
    """A filled shop on each kind of store."""
    return make_shop(store)


@pytest.fixture
def helpers() -> Any:
    """The functions that make rows, for tests (a test file cannot import this one)."""

    class Helpers:
        sale = staticmethod(sale)
        request = staticmethod(request)
        filled = staticmethod(filled)

    return Helpers
