"""The error tree, split by who has to act. Every text says what, got, nearest, where and what to do.

TwofoldError
├── DefinitionError      the author of the project file acts
│   ├── UnknownFeature
│   ├── UnknownColumn
│   └── NotYet           a declared thing that this version does not carry out
├── DataError            the producer of events, tables or requests acts
│   ├── SchemaMismatch   a field is absent, of the wrong type, NaN, a naive datetime
│   └── UnknownName      a request names a model, view or source that does not exist
├── Unavailable          the operator acts, or the caller retries
│   ├── NotBuilt         the view has never been built; zeros would be a lie
│   ├── StoreUnavailable
│   ├── LogUnavailable
│   ├── Conflict         another writer has committed to the same shard; a new transaction may succeed
│   ├── DeadlineExceeded
│   └── Busy             another worker or supervisor owns this home
└── VersionError         the deployer acts
    ├── LogMismatch      another log's UUID, or offsets outside the log
    ├── Fenced           a newer writer has taken over
    └── Corrupt          a checksum does not fit
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class TwofoldError(Exception):
    """Root of all errors that Twofold raises on purpose."""


class DefinitionError(TwofoldError):
    """The project file says something that cannot be carried out."""


class UnknownFeature(DefinitionError):
    """A feature name that the view does not have."""


class UnknownColumn(DefinitionError):
    """A column name that the source does not have."""


class NotYet(DefinitionError, NotImplementedError):
    """A part of the language that this version does not carry out yet; the text names it."""


class DataError(TwofoldError, ValueError):
    """Events, tables or requests that break their declared schema."""


class SchemaMismatch(DataError):
    """A field is absent, has the wrong type, is NaN or infinite, or is a datetime without a zone."""


class UnknownName(DataError, LookupError):
    """A request names a model, view or source that the project does not have."""


class Unavailable(TwofoldError):
    """Something that should answer does not; a retry may succeed."""


class NotBuilt(Unavailable):
    """The view has no generation yet; run `twofold build`."""


class StoreUnavailable(Unavailable):
    """The online store does not answer."""


class LogUnavailable(Unavailable):
    """The event log does not answer."""


class Conflict(Unavailable):
    """Another writer has committed to a shard of the store since this transaction first touched it; try again from the beginning."""


class DeadlineExceeded(Unavailable):
    """The deadline passed before the answer was ready."""


class Busy(Unavailable):
    """Another process owns this home for the same task."""


class VersionError(TwofoldError):
    """Parts that do not belong together."""


class LogMismatch(VersionError):
    """The store belongs to another log, or its offset lies outside the log."""


class Fenced(VersionError):
    """A newer writer has taken over; this one must stop."""


class Corrupt(VersionError):
    """Stored bytes fail their checksum."""


ANOTHER_STORE = (
    "open the home that both come from, or give each project on one server a name= of its own in the URL of `store`, "
    "or remove the store (HOME/store; on a server the keys tw:<name>:*) and run `twofold build`"
)
"""What to do where a store and a log do not belong together."""


def of_another_log(store: str, log: str) -> str:
    """What is told of a store that was made for the log `store`, where the log is `log`."""
    return f"the store belongs to the log {store}, this log is {log}; {ANOTHER_STORE}"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name, or an empty string where none is near."""
    nearest = difflib.get_close_matches(got, list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def known(items: Mapping[str, T], name: str, what: str) -> T:
    """The item of that name; raises UnknownName with the nearest."""
    if name not in items:
        raise UnknownName(f"there is no {what} {name!r}; there are {', '.join(sorted(items)) or 'none'}.{did_you_mean(name, items)}")
    return items[name]
