"""A format of one's own whose decoder hangs: as long as there is a file that the environment of its process names."""

import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "HANGS_WHILE"


def decode(payload: bytes) -> dict[str, Any]:
    """JSON, in its time."""
    while VARIABLE in os.environ and Path(os.environ[VARIABLE]).exists():
        time.sleep(0.02)
    return dict(json.loads(payload))
