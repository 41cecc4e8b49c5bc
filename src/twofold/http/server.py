"""One serving process: a replica behind uvicorn, on a socket that other processes may share. It loads no engine but the store's."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import time
from pathlib import Path

import uvicorn

from twofold.errors import NotBuilt, TwofoldError
from twofold.http.app import App
from twofold.http.pressure import Pressure
from twofold.runtime.home import Home
from twofold.runtime.replica import Replica
from twofold.settings import Settings, read_settings

_WAIT_FOR_PLAN_S = 1.0
_KEEP_ALIVE_S = 75
_GRACE_S = 5


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve the home's plan on a listening socket until SIGTERM or SIGINT; requests under way are answered first."""
    home = Home(settings)
    replica = _replica(home)
    pressure = Pressure(replica.lag, settings.home, settings.max_lag_events, settings.min_free_mb)
    config = uvicorn.Config(
        App(replica, home.bell, pressure.check, replica.facts),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
    replica.close()
    home.close()


def _replica(home: Home) -> Replica:
    """The home's replica; waits while no plan has been published yet."""
    while True:
        try:
            return Replica(home)
        except NotBuilt as error:
            logging.warning("waiting: %s", error)
            time.sleep(_WAIT_FOR_PLAN_S)


def main() -> None:
    """`python -m twofold.http.server --fd N --home HOME --clock CLOCK`: how the supervisor starts a replica."""
    parser = argparse.ArgumentParser(prog="twofold.http.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited listening socket")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--clock", default="system")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        serve(read_settings({"home": options.home, "clock": options.clock}), socket.socket(fileno=options.fd))
    except TwofoldError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
