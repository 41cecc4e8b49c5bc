"""What a worker remembers of its last commits: always the latest, and not more than it may."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from twofold.stream.recent import RecentBlobs


@pytest.mark.parametrize(("most_bytes", "most_asked"), [(40_000, 4_000), (1_000_000, 2_500)])
def test_what_was_noted_last_is_known_and_the_rest_is_read(most_bytes: int, most_asked: int) -> None:
    rng, recent, store = random.Random(1), RecentBlobs(most_bytes), dict[bytes, bytes]()
    asked: list[bytes] = []

    def stored(keys: Sequence[bytes]) -> list[bytes | None]:
        asked.extend(keys)
        return [store.get(key) for key in keys]

    most = 0
    for _ in range(300):
        keys = [b"%d" % number for number in rng.sample(range(200), rng.randrange(1, 30))]
        assert [blob or None for blob in recent.read(keys, stored)] == [store.get(key) for key in keys]
        blobs = [rng.randbytes(rng.choice([0, 10, 500])) for _ in keys]
        store |= dict(zip(keys, blobs, strict=True))
        store = {key: blob for key, blob in store.items() if blob}
        recent.note(keys, blobs)
        most = max(most, sum(len(blob) + 200 for blob in (recent._young | recent._old).values()))
        if rng.random() < 0.02:
            recent.forget()
            assert recent.read(keys, stored) == [store.get(key) for key in keys]
    assert len(asked) < most_asked
    assert most < 1.5 * most_bytes
