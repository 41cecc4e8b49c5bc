"""The rows that events take along when they are appended: read online, once for all events of a call. No engine is loaded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twofold.errors import NotBuilt
from twofold.plan.canonical import Values, canonical_values
from twofold.plan.serving import JoinPlan, SourcePlan
from twofold.serve.features import FeatureReader


def joined_values(source: SourcePlan, columns: Mapping[str, Sequence[object]], reader: FeatureReader) -> dict[str, Values]:
    """Canonical values of the joined columns of events, by stored column and in the order of the events.

    Of each table the latest row that has been applied when this is called, whatever its instant; null where the key has none, has been
    deleted or has a null part. `columns` are the events' own; instants are aware datetimes or microseconds. Raises NotBuilt for a table
    that was never built, StoreUnavailable: nothing has been appended then.
    """
    found: dict[str, Values] = {}
    for join in source.joins:
        found |= _of_table(source, join, columns, reader)
    return found


def _of_table(source: SourcePlan, join: JoinPlan, columns: Mapping[str, Sequence[object]], reader: FeatureReader) -> dict[str, Values]:
    keys = list(zip(*(columns[name] for name in join.keys), strict=True))
    wanted = list(dict.fromkeys(keys))
    try:
        rows = reader.features(join.table, wanted)
    except NotBuilt as error:
        raise NotBuilt(
            f"source {source.name!r} joins the table {join.table!r}, so its events cannot be taken before that table is built: {error}"
        ) from None
    place_of = {key: place for place, key in enumerate(wanted)}
    places = [place_of[key] for key in keys]
    number_of = {feature.name: number for number, feature in enumerate(reader.plan.views[join.table].features)}
    found = {}
    for column, stored in join.stored.items():
        number = number_of[column]
        values = canonical_values(join.types[stored], [row.values[number] for row in rows])
        found[stored] = [values[place] for place in places]
    return found
