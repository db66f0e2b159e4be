"""The private folder's locks, texts and cleaning, among processes too."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support import HANG, clock_with, in_a_fork, in_processes

from airflow_provider_closeai.local_state import FileStore, lock, private_directory
from airflow_provider_closeai.local_state.cleaning import KEEP, clean


def names() -> set[str]:
    return {path.name for path in private_directory().iterdir()} - {".cleaned"}


def age(name: str, seconds: float = KEEP + 60) -> None:
    when = time.time() - seconds
    os.utime(private_directory() / name, (when, when), follow_symlinks=False)


def taken_elsewhere(name: str) -> bool:
    """Say whether another thread finds the lock held."""
    found: list[bool] = []

    def look() -> None:
        with lock(name, wait=0) as mine:
            found.append(not mine)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(HANG)
    return found[0]


def test_a_lock_is_held_by_one_thread_and_ends_with_its_holder() -> None:
    with lock("x", wait=0) as first:
        assert first
        assert taken_elsewhere("x")
        assert not taken_elsewhere("y")
    assert not taken_elsewhere("x")


def test_a_thread_that_holds_a_lock_holds_it_on() -> None:
    """It waited 15 minutes for itself."""

    def never(seconds: float) -> None:
        raise AssertionError("it waited")

    with lock("x", wait=900) as outer:
        with lock("x", wait=900, clock=clock_with(never)) as inner:
            assert outer
            assert inner
        assert taken_elsewhere("x"), "the inner end is not the outer one's"
    assert not taken_elsewhere("x")


def test_an_error_gives_the_lock_back() -> None:
    with pytest.raises(ZeroDivisionError), lock("x", wait=0):
        raise ZeroDivisionError
    assert not taken_elsewhere("x")


def test_a_lock_is_waited_for() -> None:
    held, waits = threading.Event(), threading.Event()

    def hold() -> None:
        with lock("x", wait=0):
            held.set()
            assert waits.wait(HANG)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(HANG)

    def sleep(seconds: float) -> None:
        waits.set()
        thread.join(HANG)

    with lock("x", wait=HANG, clock=clock_with(sleep)) as mine:
        assert mine


def test_a_child_does_not_hold_what_its_parent_holds() -> None:
    def is_held() -> bool:
        with lock("x", wait=0) as mine:
            return not mine

    with lock("x", wait=0):
        assert in_a_fork(is_held)


def test_what_is_old_is_removed_and_what_is_fresh_stays() -> None:
    for name in ("old.note", "fresh.note", "held.note"):
        with lock(name, wait=0):
            FileStore(name).write("text")
    (private_directory() / ".new-left-by-a-crash").write_text("half")
    for name in ("old.note.json", "old.note.lock", "fresh.note.lock", ".new-left-by-a-crash"):
        age(name)
    with lock("held.note", wait=0):
        age("held.note.json")
        age("held.note.lock")
        clean(private_directory())
        assert names() == {"fresh.note.json", "held.note.json", "held.note.lock"}
    clean(private_directory())
    assert names() == {"fresh.note.json"}
    assert FileStore("old.note").read() is None
    assert FileStore("fresh.note").read() == "text"


def test_writing_cleans_but_not_more_than_once_an_hour() -> None:
    FileStore("one").write("text")
    FileStore("old").write("text")
    age("old.json")
    FileStore("two").write("text")
    assert "old.json" in names()
    for moment in (3000, 3700):
        age(".cleaned", moment)
        FileStore("three").write("text")
        assert ("old.json" in names()) == (moment == 3000)


def test_a_folder_that_cannot_be_cleaned_stops_nothing() -> None:
    private_directory().joinpath(".cleaned").mkdir()
    FileStore("x").write("text")
    assert FileStore("x").read() == "text"


def test_a_lock_whose_file_was_removed_while_it_was_opened_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between opening the file and locking it, the cleaner removes it, and somebody else locks a new one."""
    real = fcntl.flock
    others: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        if not others:
            path = private_directory() / "x.lock"
            path.unlink()
            others.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            real(others[0], operation)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock("x", wait=0) as mine:
        assert not mine
    os.close(others[0])
    with lock("x", wait=0) as mine:
        assert mine


def _add_under_a_lock_that_is_cleaned(times: int) -> None:
    counter = Path(tempfile.gettempdir(), "counter")
    for _ in range(times):
        with lock("x", wait=HANG, clock=clock_with(lambda seconds: None)) as mine:
            assert mine
            counter.write_text(str(int(counter.read_text()) + 1))
        try:
            age("x.lock")
        except FileNotFoundError:
            continue
        clean(private_directory())


def test_a_lock_that_is_cleaned_all_the_time_still_lets_one_in_at_a_time() -> None:
    counter = Path(tempfile.gettempdir(), "counter")
    counter.write_text("0")
    in_processes(4, _add_under_a_lock_that_is_cleaned, 50)
    assert counter.read_text() == "200"


def test_readers_never_see_half_a_file() -> None:
    store, stop, broken = FileStore("x"), threading.Event(), []
    store.write("0" * 20_000)

    def read() -> None:
        while not stop.is_set():
            text = store.read() or ""
            if len(text) != 20_000 or len(set(text)) != 1:
                broken.append(text[:20])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        store.write(str(number % 10) * 20_000)
    stop.set()
    reader.join()
    assert broken == []
