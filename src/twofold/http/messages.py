"""Requests and replies of HTTP as values, bodies with a limit, and which error is which status; no route is known here."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from twofold.errors import DataError, LogMismatch, NotYet, TwofoldError, UnknownName, did_you_mean
from twofold.instants import to_us
from twofold.log.base import Position

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

BODY_BYTES = 32 << 20
LONGEST_DEADLINE_MS = 600_000
JSON, TEXT, HTML = b"application/json", b"text/plain; version=0.0.4; charset=utf-8", b"text/html; charset=utf-8"

_log = logging.getLogger(__name__)


class TooLarge(DataError):
    """A body beyond the limit."""


class TooMany(TwofoldError):
    """More is under way than this process takes on; the caller tries again later."""


@dataclass(slots=True)
class Call:
    """One request: `names` are the parts of the path that a route leaves open."""

    scope: Scope
    names: tuple[str, ...]
    body: bytes = b""

    def header(self, name: bytes) -> list[bytes]:
        """The values of a header, its name in lower case."""
        return [value for key, value in self.scope["headers"] if key == name]

    def query(self, allowed: Sequence[str]) -> dict[str, list[str]]:
        """Parameters of the query. Raises DataError for one that the route does not have."""
        raw = self.scope["query_string"]
        found: dict[str, list[str]] = {}
        if raw:
            for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
                if name not in allowed:
                    known = ", ".join(allowed) or "none"
                    raise DataError(f"there is no parameter {name!r} here; there are {known}.{did_you_mean(name, allowed)}")
                found.setdefault(name, []).append(value)
        return found

    def json(self) -> Any:
        """The body's value. Raises DataError with the place where it is no JSON."""
        try:
            return decoded(self.body)
        except msgspec.DecodeError as error:
            raise malformed(error, self.body) from None


@dataclass(slots=True)
class Reply:
    """What goes back."""

    body: bytes
    status: int = 200
    kind: bytes = JSON
    headers: Headers = field(default=())


def reply(value: Any, status: int = 200, headers: Headers = ()) -> Reply:
    """A value as JSON; NaN and infinities, which JSON does not have, are null."""
    return Reply(msgspec.json.encode(value), status, JSON, headers)


_NOT_FINITE = (b"NaN", b"Infinity")


def decoded(body: bytes) -> Any:
    """The value of a JSON text. NaN and infinities, which some encoders write and JSON does not have, come as such floats.

    So the check of rows refuses them and names the field, not the byte. Raises msgspec.DecodeError.
    """
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is no UTF-8, {error.reason} (byte {error.start} of a text)") from None
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None
    except msgspec.DecodeError:
        if any(word in body for word in _NOT_FINITE):
            with contextlib.suppress(ValueError):
                return json.loads(body)
        raise


def malformed(error: msgspec.DecodeError, body: bytes) -> DataError:
    """The error for a body that is no JSON."""
    for beginning, what in _BEGINNINGS.items():
        if body.startswith(beginning):
            return DataError(f"the body is no JSON: it {what}")
    place = "" if "byte" in str(error) else f" (at its end, byte {len(body)})"
    return DataError(f"the body is no JSON: {error}{place}" if body else "the body is empty; send JSON")


_BEGINNINGS = {
    b"\x1f\x8b": "is compressed (gzip); send it plain",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); send it plain",
    b"\xef\xbb\xbf": "begins with a byte order mark; leave that out",
    b"\xff\xfe": "is UTF-16; send UTF-8",
    b"\xfe\xff": "is UTF-16; send UTF-8",
}
"""First bytes of what some clients send -> what is told of it."""


async def body_of(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None where the client went away. Raises TooLarge."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > BODY_BYTES:
            raise TooLarge(_too_large(int(value)))
    chunks, size, is_more = [], 0, True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        is_more = message.get("more_body", False)
        if size > BODY_BYTES:
            raise TooLarge(_too_large(size))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(size: int) -> str:
    return f"the body has {size} bytes or more, the limit is {BODY_BYTES}; send several requests"


async def send_reply(send: Send, answer: Reply) -> None:
    """Hand a reply to the server."""
    length = str(len(answer.body)).encode()
    headers = [(b"content-type", answer.kind), (b"content-length", length), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


RETRY: Headers = ((b"retry-after", b"1"),)


def error_reply(error: Exception) -> Reply:
    """The status of an error, and its text: 400, 404, 409, 413, 429, 503; 500 for what nobody foresaw."""
    status = status_of(error)
    text = str(error)
    if status == 500:
        _log.error("a request failed: %s", error, exc_info=error)
        text = f"internal error: {type(error).__name__}; see the server's output"
    return reply({"error": text}, status, RETRY if status in (429, 503) else ())


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, TooMany):
        return 429
    if isinstance(error, UnknownName):
        return 404
    if isinstance(error, LogMismatch):
        return 409
    if isinstance(error, DataError | NotYet):
        return 400
    return 503 if isinstance(error, TwofoldError) else 500


# What several routes read from a query.

AFTER_HEADER = b"x-twofold-after"


def at_of(values: Sequence[str] | None) -> int | None:
    """The instant of `at=`: ISO 8601 with a zone, or microseconds since 1970."""
    if not values:
        return None
    text = values[-1]
    if text.lstrip("-").isdigit():
        return to_us(int(text))
    return to_us(text.replace(" ", "+") if "T" in text else text)  # a plus sign that was not escaped arrives as a space


def after_of(call: Call, values: Sequence[str] | None) -> Position | None:
    """All positions of `after=` and of the header `X-Twofold-After`, joined; each may hold several, with `|` between them."""
    texts = [*(values or ()), *(value.decode("latin-1") for value in call.header(AFTER_HEADER))]
    joined: Position | None = None
    for text in texts:
        for part in text.split("|"):
            position = Position.parse(part.strip())
            joined = position if joined is None else joined | position
    return joined


def deadline_us_of(values: Sequence[str] | None) -> int | None:
    """The length of `deadline_ms=`."""
    if not values:
        return None
    try:
        length_ms = float(values[-1])
    except ValueError:
        length_ms = math.nan
    if not 0 < length_ms <= LONGEST_DEADLINE_MS:
        raise DataError(f"deadline_ms={values[-1]!r} is no length of time; give milliseconds above 0, up to {LONGEST_DEADLINE_MS}")
    return max(1, round(length_ms * 1000))
