"""Round trips to Redis or Valkey: one server or a cluster, its checks, its functions, its errors in our words; keys are the store's affair.

Nothing here is sent twice unless the caller says that it may be.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from twofold.errors import DefinitionError, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.settings import REDIS_SCHEMES

Command = Sequence[bytes | str | int]

OLDEST = (7, 0)

_CODE = files("twofold.store").joinpath("redis_functions.lua").read_text()
LIBRARY = "twofold_" + sha256(_CODE.encode()).hexdigest()[:12]
"""Name of the functions' library and beginning of the functions' names: another text has another name."""

_LIBRARY_CODE = _CODE.replace("LIBRARY", LIBRARY)
_NAME_MARKS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@")
_log = logging.getLogger(__name__)


class AnswerLost(StoreUnavailable):
    """A command was perhaps sent, and no answer has come: it may have been carried out, or may still be."""


@dataclass(frozen=True)
class Address:
    """What the URL of a store says: servers (`url` is redis-py's), the name of the store there, and how texts name it."""

    url: str
    name: str
    is_cluster: bool
    what: str


def address_of(url: str) -> Address:
    """The address in a URL such as `redis://user:password@host:6379/0?name=flights`. Raises DefinitionError."""
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES:
        raise DefinitionError(f"the store's URL begins with {parts.scheme or url!r}; it is one of {', '.join(REDIS_SCHEMES)}")
    options = parse_qsl(parts.query, keep_blank_values=True)
    name = dict(options).get("name", "twofold")
    if not name or len(name) > 100 or not set(name) <= _NAME_MARKS:
        raise DefinitionError(f"name={name!r} in the store's URL; it has 1 to 100 letters, digits and -_.@")
    scheme = parts.scheme.removesuffix("+cluster")
    query = urlencode([(option, value) for option, value in options if option != "name"])
    host = parts.netloc.rpartition("@")[2]
    return Address(
        f"{scheme}://{parts.netloc}{parts.path}" + (query and f"?{query}"),
        name,
        parts.scheme != scheme,
        f"store {name!r} on {parts.scheme}://{host}{parts.path}",
    )


class Servers(Protocol):
    """Where commands are carried out; threads may share it."""

    what: str

    def ask(self, commands: Sequence[Command], is_repeatable: bool = False) -> list[Any]:
        """The answers to `commands`, each of the form (name, key, ...), in one round trip to each server; not atomic together.

        All are carried out even where one fails; then the first failure is raised. Where a connection breaks, `is_repeatable` ones are
        sent again, once, on a new one. Raises AnswerLost, StoreUnavailable, `redis.ResponseError` for what the server refuses.
        """
        ...

    def call(self, function: str, keys: Sequence[bytes], arguments: Sequence[bytes | int], is_repeatable: bool = False) -> Any:
        """What a function of our library answers; it is loaded where it is missing. Sent again, and errors, as `ask`."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


def connect(address: Address, timeout_s: float) -> Servers:
    """Servers that are fit for a store and have our functions, or that do not answer yet: then each call tries anew.

    Raises StoreUnavailable where they answer and are not fit, with what to do; DefinitionError for options in the URL that there are not.
    """
    kwargs: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    with errors_of(address.what):
        try:
            servers = _Cluster(address, kwargs) if address.is_cluster else _OneServer(address, kwargs)
            servers.try_out()
        except (TypeError, ValueError) as error:
            raise DefinitionError(f"{address.what}: {error}; options in its URL are `name` and those of redis-py's from_url") from error
    return servers


class _Calls:
    """What one server and a cluster share: they may come later, functions may be missing, and there is no use after a fork."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._is_open, self._is_ready = True, False
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def try_out(self) -> None:
        """Look at the servers if they answer: whoever serves must be able to start without them. Raises what redis-py raises."""
        try:
            self._get_ready()
        except (AuthenticationError, AuthorizationError):
            raise
        except (redis.ConnectionError, redis.TimeoutError, RedisClusterException) as error:
            _log.warning("%s does not answer yet: %s", self.what, error)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise StoreUnavailable(f"{self.what} was opened before this process was forked; open it in the child")
        if not self._is_ready:
            if not self._is_open:
                raise StoreUnavailable(f"{self.what} is closed; open it again")
            with errors_of(self.what):
                self._get_ready()

    def _get_ready(self) -> None:
        with self._lock:
            self._prepare()
            self._is_ready = True

    def ask(self, commands: Sequence[Command], is_repeatable: bool = False) -> list[Any]:
        raise NotImplementedError

    def _prepare(self) -> None:
        raise NotImplementedError

    def call(self, function: str, keys: Sequence[bytes], arguments: Sequence[bytes | int], is_repeatable: bool = False) -> Any:
        command = ("FCALL_RO" if function == "scan" else "FCALL", f"{LIBRARY}_{function}", len(keys), *keys, *arguments)
        try:
            return self.ask([command], is_repeatable)[0]
        except ResponseError as error:
            if "unction not found" not in str(error):
                raise StoreUnavailable(f"{self.what} refuses {function}: {error}") from error
        with errors_of(self.what):
            self._get_ready()  # a new server, or one whose functions were flushed
        return self.ask([command], is_repeatable)[0]


class _OneServer(_Calls):
    """One server; as many connections as there are threads that ask at once."""

    def __init__(self, address: Address, kwargs: dict[str, Any]) -> None:
        super().__init__(address.what)
        self._kwargs = kwargs | parse_url(address.url)
        self._connection_class: type[Connection] = self._kwargs.pop("connection_class", Connection)
        self._idle: list[Connection] = [self._connection_class(**self._kwargs)]
        self._client = redis.Redis.from_url(address.url, **kwargs)

    def _prepare(self) -> None:
        try:
            prepare(self._client, self.what)
        finally:
            self._client.close()

    def ask(self, commands: Sequence[Command], is_repeatable: bool = False) -> list[Any]:
        """See `Servers`."""
        self._check()
        try:
            connection = self._idle.pop()  # atomic, as append is: threads need no lock
        except IndexError:
            connection = self._connection_class(**self._kwargs)
        try:
            try:
                return self._ask(connection, commands, is_repeatable)
            except redis.ConnectionError:
                if not is_repeatable:
                    raise
            return self._ask(self._connection_class(**self._kwargs), commands, is_repeatable)
        except RedisError as error:
            _raise(error, self.what)
            raise

    def _ask(self, connection: Connection, commands: Sequence[Command], is_repeatable: bool) -> list[Any]:
        answers: list[Any] = []
        failure: ResponseError | None = None
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            if not is_repeatable:
                fail_point("redis.sent")
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except ResponseError as error:
                    failure = failure or error
        except redis.ConnectionError:
            connection.disconnect()
            self._forget_idle()  # they go to the same server, which has probably gone away
            raise
        except BaseException:
            connection.disconnect()  # what it would still answer must not be taken for the answer to another question
            raise
        self._idle.append(connection)
        if failure is not None:
            raise failure
        return answers

    def _forget_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().disconnect()

    def close(self) -> None:
        """See `Servers`; a second close does nothing."""
        self._is_open = self._is_ready = False
        self._forget_idle()


class _Cluster(_Calls):
    """A cluster: redis-py finds each key's server and follows keys that move."""

    def __init__(self, address: Address, kwargs: dict[str, Any]) -> None:
        super().__init__(address.what)
        self._url, self._kwargs = address.url, kwargs
        self._client: RedisCluster | None = None

    def _prepare(self) -> None:
        if self._client is None:
            self._client = RedisCluster.from_url(self._url, **self._kwargs)
        for node in self._client.get_primaries():
            prepare(self._client.get_redis_connection(node), self.what)

    def ask(self, commands: Sequence[Command], is_repeatable: bool = False) -> list[Any]:
        """See `Servers`."""
        self._check()
        try:
            try:
                return self._ask(commands)
            except redis.ConnectionError:
                if not is_repeatable:
                    raise
            return self._ask(commands)
        except (RedisError, RedisClusterException) as error:
            _raise(error, self.what)
            raise

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        assert self._client is not None
        if len(commands) == 1:
            [command] = commands
            key = command[3] if str(command[0]).startswith("FCALL") else command[1]
            node = self._client.get_node_from_key(key)
            return [self._client.execute_command(*command, target_nodes=node)]
        with self._client.pipeline() as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
        return answers

    def close(self) -> None:
        """See `Servers`; a second close does nothing."""
        self._is_open = self._is_ready = False
        if self._client is not None:
            self._client.close()


def prepare(client: redis.Redis, what: str) -> None:
    """Make sure that a server is fit for a store, and has our functions."""
    try:
        info: dict[str, Any] = client.info()
    except NoPermissionError:
        _log.warning("%s does not permit INFO: whether it evicts entries, and its version, cannot be seen", what)
        info = {}
    version = str(info.get("redis_version", "7.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreUnavailable(f"{what} is Redis {version}; Twofold needs Redis 7.0 or newer, or Valkey, for its functions")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailable(
            f"{what} has maxmemory-policy {policy}: it would drop states when its memory is full, and features would silently be wrong; "
            "set `maxmemory-policy noeviction`"
        )
    try:
        client.function_load(_LIBRARY_CODE)
    except NoPermissionError:
        _log.warning("%s does not permit FUNCTION LOAD: the functions %s must have been loaded by somebody else", what, LIBRARY)
    except ReadOnlyError:
        raise
    except ResponseError as error:
        if "already exists" not in str(error):
            raise


@contextlib.contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Errors of redis-py as ours."""
    try:
        yield
    except ResponseError as error:
        _raise(error, what)
        raise StoreUnavailable(f"{what}: {error}; see whether it is what its URL says") from error
    except (RedisError, RedisClusterException) as error:
        _raise(error, what)


_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "look at user and password in its URL"),
    (AuthorizationError, "look at user and password in its URL"),
    (NoPermissionError, "give its user the commands @read @write @connection @scripting and INFO, for all keys tw:*"),
    (BusyLoadingError, "it is loading its data; try again in a moment"),
    (ReadOnlyError, "it is a replica, or was just made one; name the primary in its URL"),
    (OutOfMemoryError, "its memory is full (maxmemory): give it more, nothing was changed"),
    (ClusterDownError, "the cluster does not serve all its slots; look at `CLUSTER INFO`"),
    (ClusterError, "a slot is on its way from one server to another, and nothing was changed; try again in a moment"),
)
_FOR_NOW = ("BUSY", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF")


def _raise(error: Exception, what: str) -> None:
    """Raise what the error means for the caller; the rest of ResponseErrors is left to him."""
    text = str(error)
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            raise StoreUnavailable(f"{what}: {text}; {advice}") from error
    if isinstance(error, ResponseError):
        if text.startswith(_FOR_NOW):
            raise StoreUnavailable(f"{what}: {text}; look at the server, then try again") from error
        return
    raise AnswerLost(f"{what} does not answer: {text}; see whether it runs, can be reached and is what its URL says") from error
