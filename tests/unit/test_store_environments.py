"""Environments of a process: one file is one environment, and a file replaced under the same name is another."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from twofold.errors import StoreUnavailable
from twofold.store.environments import open_environment


def write(path: Path, value: bytes) -> Path:
    with lmdb.open(str(path), subdir=False, lock=False) as inner, inner.begin(write=True) as transaction:
        transaction.put(b"a", value)
    return path


def opened(path: Path) -> lmdb.Environment:
    return lmdb.open(str(path), map_size=1, subdir=False, readonly=True, lock=False)


def test_a_file_is_opened_once_and_closed_by_its_last_user(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"1")
    one = open_environment("file", path, lambda: opened(path))
    two = open_environment("file", path, lambda: opened(path))
    assert one is two
    one.release()
    with two.read() as transaction:
        assert transaction.get(b"a") == b"1"
    two.release()
    with pytest.raises(StoreUnavailable, match="closed"):
        two.read()
    write(path, b"2")
    three = open_environment("file", path, lambda: opened(path))
    with three.read() as transaction:
        assert transaction.get(b"a") == b"2"
    three.release()


def test_a_file_replaced_while_it_is_opened_is_opened_again(tmp_path: Path) -> None:
    path, replacement = write(tmp_path / "file", b"old"), write(tmp_path / "other", b"new")

    def replaced_once() -> lmdb.Environment:
        inner = opened(path)
        if replacement.exists():
            replacement.replace(path)
        return inner

    environment = open_environment("file", path, replaced_once)
    with environment.read() as transaction:
        assert transaction.get(b"a") == b"new"
    environment.release()


def test_what_is_not_there_is_an_error_of_absence(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file") as caught:
        open_environment("file", tmp_path / "file", lambda: opened(tmp_path / "file"))
    assert isinstance(caught.value.__cause__, lmdb.Error)
