"""A TCP proxy on loopback that loses, at a chosen request, the request or its answer, or keeps it waiting."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class LossyProxy:
    """Passes everything on, but for the first request that holds `word` after each `at`.

    `lose_request`: its connection breaks before it is passed on. `lose_answer`: the server gets it, and the connection breaks when the
    server has answered. `hold`: it is never passed on and its connection stays.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._rule: tuple[bytes, str] | None = None
        self.met = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def before(self, url: str) -> str:
        """The same URL of the server, by way of this proxy."""
        return url.replace(f":{self._server_port}", f":{self.port}")

    def at(self, word: bytes, what: str, then: Callable[[], object] = lambda: None) -> None:
        """Lose the next request that holds `word`; `met` is set when it has come. `then` is done before the client can notice."""
        self.met.clear()
        self._then = then
        self._rule = (word, what)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                answers_are_lost = threading.Event()
                threading.Thread(target=self._requests, args=(client, server, answers_are_lost), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server, answers_are_lost), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, answers_are_lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                if self._rule is not None and self._rule[0] in data:
                    what, self._rule = self._rule[1], None
                    if what != "lose_answer":
                        self.met.set()
                        if what == "lose_request":
                            break
                        continue
                    answers_are_lost.set()
                server.sendall(data)
        self._end(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, are_lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if are_lost.is_set():
                    self._then()
                    self.met.set()
                    break
                client.sendall(data)
        self._end(client, server)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> LossyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self._listener, *self._sockets]:
            self._end(end)
            end.close()
