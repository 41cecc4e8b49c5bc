"""A real broker for tests: one node of KRaft on free loopback ports, with little memory; its data live as long as the caller says."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from ports import free_port

HERE = Path(__file__).parent
_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m", "-Xshare:auto")
_CLUSTER = "dHdvZm9sZHR3b2ZvbGR0dw"
_CONFIG = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=1
num.io.threads=2
background.threads=1
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=2097152
log.retention.ms=-1
"""


def jars() -> Path:
    """Where `provide` puts the jars."""
    version = ElementTree.parse(HERE / "kafka" / "pom.xml").findtext(".//{*}dependency/{*}version")
    return Path(os.environ.get("TWOFOLD_ENGINES", Path(sys.prefix) / "engines")) / f"kafka-{version}"


def why_missing() -> str:
    """Why no broker can be started; empty where one can."""
    if shutil.which("java") is None:
        return "there is no Java"
    return "" if jars().is_dir() else f"there are no jars of Kafka in {jars()}; run `make setup` with Maven"


def _die_with_parent() -> None:
    """In the child: have the kernel kill it when the tests are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class KafkaBroker:
    """A broker with its data in a folder. It can be killed and started again, on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        config = _CONFIG.format(port=self.port, controller=free_port(), data=folder / "data")
        (folder / "server.properties").write_text(config)
        self._run("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(folder / "server.properties")).wait(60)
        self.start()

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as out:
            command = [*_JAVA, "-cp", f"{jars()}/*", *arguments]
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder, preexec_fn=_die_with_parent)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        self.process = self._run("kafka.Kafka", str(self.folder / "server.properties"))
        deadline = time.monotonic() + 60
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0, "reconnect.backoff.max.ms": 50, "reconnect.backoff.ms": 20})
        while True:
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {(self.folder / 'output').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
