"""Views: the features of one source for one kind of key, and their use in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from twofold.definitions.base import Place, caller_place
from twofold.definitions.concat import Concat
from twofold.definitions.events import Events
from twofold.definitions.features import Feature
from twofold.definitions.use import ViewUse

Mode = Literal["hybrid", "batch", "stream"]


@dataclass(frozen=True, eq=False)
class View:
    """Features of `source` (or of several, `tw.concat([...])`) for each key of the columns `by` (none: one key `()` for all events).

    `mode` says how fresh: "hybrid" (generation + delta), "batch" (generation only, rebuilt on the cron expression `refresh`, UTC),
    "stream" (delta only). `max_age` marks values older than this as `stale`. `as_of="build"` ends a batch view's window at the build.
    `delay` says how long events take to arrive, so that history and training sets show them that much later; online it changes nothing.
    """

    name: str
    source: Events | Concat
    by: str | tuple[str, ...] | list[str] = ()
    features: Mapping[str, Feature] = field(default_factory=dict)
    mode: Mode = "hybrid"
    refresh: str | None = None
    max_age: str | None = None
    as_of: Literal["request", "build"] = "request"
    delay: str | timedelta | None = None
    place: Place = field(default_factory=caller_place, repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)

    def on(self, prefix: str | None = None, **keys: str) -> ViewUse:
        """Read by other request fields: `airport.on(origin="dest", prefix="dest_")` takes the key `origin` from the field `dest`."""
        return ViewUse(self, dict(keys), prefix, None, caller_place())

    def __getitem__(self, features: str | tuple[str, ...]) -> ViewUse:
        """Only some features of the view, for a model: `aircraft["delay_12h"]`."""
        chosen = (features,) if isinstance(features, str) else tuple(features)
        return ViewUse(self, {}, None, chosen, caller_place())
