"""How long events take from accepted (durable in the log) to visible (committed in the store): counts on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

_BASE = 1.1
_UNIT_US = 100


def bucket_of(age_us: int) -> int:
    """Bucket i holds times up to 100 us * 1.1^i: at most 10 % wide."""
    return max(0, math.ceil(math.log(max(age_us, 1) / _UNIT_US, _BASE)))


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Upper bound in milliseconds of the bucket below which `share` of the events lie; None of no events."""
    wanted = share * sum(counts.values())
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed >= wanted and passed:
            return _UNIT_US * _BASE**bucket / 1000
    return None


def encode_counts(counts: Mapping[int, int]) -> bytes:
    """JSON of the counts."""
    return msgspec.json.encode({str(bucket): count for bucket, count in counts.items()})


def decode_counts(raw: bytes | None) -> dict[int, int]:
    """The counts that `encode_counts` wrote; none where nothing is stored."""
    return {} if raw is None else {int(k): v for k, v in msgspec.json.decode(raw, type=dict[str, int]).items()}
