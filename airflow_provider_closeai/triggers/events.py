"""Event triggers for ``AssetWatcher`` (Airflow 3.0 and later). See docs/events.md."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Variable
from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_closeai.client.errors import CloseAIError, InvalidParameter
from airflow_provider_closeai.hooks.stores import read_variable
from airflow_provider_closeai.local_state.folder import reason, warn_once
from airflow_provider_closeai.operators._fields import connection_id
from airflow_provider_closeai.paths import folder, is_template, path_text
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.triggers.health import check_together, in_thread

if TYPE_CHECKING:
    from airflow_provider_closeai.costs.store.ledger import LedgerFile

log = logging.getLogger(__name__)

_UNREAD = object()
_SECONDS_TO_STORE = 5.0  # until Airflow has surely stored an event; it takes one or two
_KNOWN = re.compile(r"\d{4}-\d\d/")  # an alert file's month, before its digest


class _Watch(BaseEventTrigger):
    """
    Look repeatedly, and fire when there is news.

    Never raises: Airflow would restart the watcher every two seconds, without end. A problem is logged once,
    and the next look comes after the usual interval.

    What was reported is kept in a Variable, so that a restarted triggerer, or another one, continues where
    this one stopped. An event is noted as reported at a later look, once Airflow has stored it. So none is
    lost, but one is reported twice if the watch stops in between.
    """

    _parameters: ClassVar[tuple[str, ...]]

    def __init__(self, poke_interval: float | timedelta) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if isinstance(poke_interval, timedelta):
            poke_interval = poke_interval.total_seconds()
        self.poke_interval = float(inputs.amount("poke_interval", poke_interval))
        if not 0 < self.poke_interval < math.inf:
            raise InvalidParameter(f"poke_interval: {poke_interval!r}. Give seconds, more than 0.")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments."""
        arguments = {name: getattr(self, name) for name in self._parameters}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    @classmethod
    async def _look(cls, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    @staticmethod
    def _is_known(noted: Any) -> bool:
        """Return whether ``noted`` has the form that :meth:`_compare` returns as known."""
        raise NotImplementedError

    async def _compare(self, known: Any, seen: Any) -> tuple[Any, dict[str, Any] | None]:
        """Return what is known now, and what to report; ``known`` is ``None`` at the very first look."""
        raise NotImplementedError

    def _while_telling(self, noted: Any, news: dict[str, Any]) -> Any:
        """Return what to note while it is not certain that Airflow has stored the event."""
        return noted

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch without a shared stream, as on Airflow before 3.3."""
        async for event in self.filter_shared_stream(self.open_shared_stream(self.serialize()[1])):
            yield event

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Yield each look's result, for all watchers of the same thing."""
        trouble = None
        while True:
            try:
                seen = await cls._look(kwargs)
            except Exception as error:  # any error may be temporary
                trouble = _warn(cls, kwargs, error, trouble)
            else:
                trouble = None
                yield seen
            await asyncio.sleep(kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each piece of news."""
        path, arguments = self.serialize()
        digest = hashlib.sha256(json.dumps([path, arguments], sort_keys=True).encode()).hexdigest()
        name, trouble = f"closeai_event_{digest[:16]}", None
        # What was seen and reported; what of it to keep if the watch stops now; what the Variable says.
        known = stored = noted = _UNREAD
        told_at = -math.inf
        async for seen in shared_stream:
            try:
                if known is _UNREAD:
                    known = noted = await in_thread(_noted, name, type(self)._is_known)
                is_stored = monotonic() - told_at >= _SECONDS_TO_STORE
                if is_stored:
                    stored = known
                now, news = await self._compare(known, seen)
                holds = stored
                if news is not None:
                    holds = self._while_telling(stored, news)
                elif is_stored:
                    holds = now
                if holds != noted and await in_thread(_note, name, holds):
                    noted = holds
                if news is not None and holds != noted:
                    continue  # no note would say that it may have been reported: put off
                known, stored = now, holds
            except Exception as error:  # the next look tries again
                trouble = _warn(type(self), arguments, error, trouble)
            else:
                trouble = None
                if news is not None:
                    yield TriggerEvent(news)
                    told_at = monotonic()


class ApiBaseChangedTrigger(_Watch):
    """
    Fire when the base to use has changed.

    The payload: ``closeai_conn_id``, ``base`` (``None``: no base is healthy) and the ``previous`` one. The
    first check fires no event.

    :param closeai_conn_id: the connection; only its id is stored, never its key.
    :param poke_interval: seconds between looks.
    :param looks: how many looks in a row must agree before a change is reported, >= 1.
    """

    _parameters = ("closeai_conn_id", "poke_interval", "looks")

    def __init__(
        self, closeai_conn_id: str = "closeai_default", poke_interval: float | timedelta = 300, looks: int = 2
    ) -> None:
        super().__init__(poke_interval)
        self.closeai_conn_id = connection_id(closeai_conn_id)
        if not self.closeai_conn_id or is_template(self.closeai_conn_id):
            raise InvalidParameter(
                f"closeai_conn_id: {closeai_conn_id!r} is not the id of a connection. Airflow renders no "
                "templates for a watcher."
            )
        self.looks = inputs.whole_number("looks", looks, 1)
        self._candidate: str | None = None
        self._agreed = 0  # looks in a row that saw the candidate

    def shared_stream_key(self) -> Hashable:
        """Share looks with all watchers of the same connection and interval."""
        return type(self).__name__, self.closeai_conn_id, self.poke_interval

    @staticmethod
    def _is_known(noted: Any) -> bool:
        return isinstance(noted, dict) and "base" in noted

    @classmethod
    async def _look(cls, arguments: dict[str, Any]) -> str | None:
        found = await check_together(arguments["closeai_conn_id"], "any")
        if found.unknown:  # not the same as "none is healthy"
            raise CloseAIError(found.unknown)
        return found.base

    async def _compare(self, known: Any, seen: str | None) -> tuple[Any, dict[str, Any] | None]:
        now = {"base": seen}  # plus "telling", if the watch stopped before it noted an event
        if known is None or known == now:
            self._agreed = 0
            return now, None
        self._agreed = self._agreed + 1 if seen == self._candidate else 1
        self._candidate = seen
        if self._agreed < self.looks:
            return known, None
        self._agreed = 0
        # Airflow may or may not have stored the last event: report the current base, whatever it is.
        previous = known["base"] if known.get("telling", seen) == seen else known["telling"]
        return now, {"closeai_conn_id": self.closeai_conn_id, **now, "previous": previous}

    def _while_telling(self, noted: Any, news: dict[str, Any]) -> Any:
        return {"base": news["previous"], "telling": news["base"]}


class CostAlertTrigger(_Watch):
    """
    Fire when a report has found a team over budget, or any other of its ``thresholds`` exceeded.

    The payload: ``ledger`` and ``alerts``, each with ``billing_month``, ``team`` and ``threshold``. Alerts
    that exist at the first check fire no event, nor do those of months before the newest two with alerts.

    :param ledger: the ledger's folder, as CostReportOperator takes it; the triggerer must reach it.
    :param poke_interval: seconds between looks.
    """

    _parameters = ("ledger", "poke_interval")

    def __init__(self, ledger: str | os.PathLike[str], poke_interval: float | timedelta = 300) -> None:
        super().__init__(poke_interval)
        self.ledger = path_text(ledger)
        if is_template(self.ledger) or not self.ledger.strip():
            raise InvalidParameter(
                f"ledger: {self.ledger!r} is not a folder. Give the folder itself, as text or a path: "
                "Airflow renders no templates for a watcher."
            )

    def shared_stream_key(self) -> Hashable:
        """Share looks with all watchers of the same ledger and interval."""
        return type(self).__name__, self.ledger, self.poke_interval

    @staticmethod
    def _is_known(noted: Any) -> bool:
        return isinstance(noted, list) and all(_KNOWN.match(str(each)) for each in noted)

    @classmethod
    async def _look(cls, arguments: dict[str, Any]) -> list[LedgerFile]:
        return await in_thread(_alert_files, arguments["ledger"])

    async def _compare(self, known: Any, seen: list[LedgerFile]) -> tuple[Any, dict[str, Any] | None]:
        if not seen and (known or not await in_thread(_is_there, self.ledger)):
            warn_once(
                f"CostAlertTrigger sees no alerts in {self.ledger}, and tells none. Is the folder there, and "
                "does this triggerer reach it?"
            )
        files = {f"{file.month}/{file.digest}": file for file in seen}
        both = {*(known or ()), *files}
        # Alerts that vanished stay known. Otherwise they would be news when they come back, and so would an
        # older month that takes the place of one that vanished.
        months = sorted({each.partition("/")[0] for each in both})[-2:]
        now = sorted(each for each in both if each.startswith(tuple(months)))
        old = now if known is None else known
        new = [file for each, file in files.items() if each in now and each not in old]
        if not new:
            return now, None
        alerts, read = await in_thread(_read_alerts, self.ledger, new)
        # Other files may be complete at a later look.
        now = [each for each in now if each in old or files[each] in read]
        return now, {"ledger": self.ledger, "alerts": alerts} if alerts else None


def _is_there(ledger: str) -> bool:
    return bool(folder("ledger", ledger).exists())


def _alert_files(ledger: str) -> list[LedgerFile]:
    # Imported here, as in health.py: these imports are slow.
    from airflow_provider_closeai.costs.store.booked import alert_files
    from airflow_provider_closeai.costs.store.ledger import Ledger

    return alert_files(Ledger(folder("ledger", ledger)))


def _read_alerts(ledger: str, files: Sequence[LedgerFile]) -> tuple[list[dict[str, str]], set[LedgerFile]]:
    from airflow_provider_closeai.costs.store.booked import read_alerts
    from airflow_provider_closeai.costs.store.ledger import Ledger

    return read_alerts(Ledger(folder("ledger", ledger)), files)


def _noted(name: str, is_known: Callable[[Any], bool]) -> Any:
    """Return what the Variable says; ``None`` if there is none. Raise if it cannot be read."""
    text = read_variable(name)
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        noted = json.loads(text)
        if is_known(noted):
            return noted
    log.warning("The Variable %s is not what a watcher wrote: the watch begins anew.", name)
    return None


def _note(name: str, known: Any) -> bool:
    """Write the Variable; return whether that worked."""
    try:
        Variable.set(name, json.dumps(known), description="CloseAI: what an AssetWatcher has told")
    except Exception as error:
        warn_once(
            f"The Variable {name} cannot be written ({reason(error)}): events are put off, and a watcher "
            "that starts anew may tell one again."
        )
        return False
    return True


def _warn(watch: type[_Watch], arguments: dict[str, Any], error: Exception, last: str | None) -> str:
    """Log a problem, unless it was the last one logged; return it without its numbers."""
    is_safe = isinstance(error, (CloseAIError, AirflowNotFoundException, ImportError))
    text = str(error) if is_safe else reason(error)
    trouble = re.sub(r"\d+", "", text)  # such as the seconds until discovery is asked again
    if trouble != last:
        what = arguments.get("ledger", arguments.get("closeai_conn_id"))
        log.warning("%s of %s cannot look, and goes on trying: %s", watch.__name__, what, text)
    return trouble
