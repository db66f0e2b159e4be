"""Every kind of fault: its name, its options, and what it does to a request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from airflow_provider_closeai.simulator.answers import HTML, TEXT, Answer, encode, error
from airflow_provider_closeai.simulator.options import (
    Options,
    anything,
    flag,
    header,
    maybe,
    one_of,
    option,
    span,
    text,
    whole_number,
)
from airflow_provider_closeai.simulator.values import dumps

KINDS: dict[str, type[Kind]] = {}
"""All kinds by name."""


class Exchange(Protocol):
    """A request that is being served, as a fault sees it."""

    def work(self, at_most: int | None = None) -> Answer:
        """Execute the request; create at most ``at_most`` accounts."""

    def send(self, answer: Answer, pause: float | None = None) -> None:
        """Answer; with a pause (seconds), send the body byte by byte."""

    def cut(self) -> None:
        """End the connection with a reset."""

    def wait(self, seconds: float | None) -> bool:
        """Wait; return False as soon as the client has gone."""

    def later(self, seconds: float) -> None:
        """Execute the request after a delay, whether or not anybody still waits for it."""


@dataclass
class Kind(Options):
    """One kind of fault; a subclass declares its options as fields."""

    name: ClassVar[str]
    calls: ClassVar[tuple[str, ...] | None] = None
    """The calls that it can affect; None is all."""
    only_reused: ClassVar[bool] = False
    """Whether it affects only connections that served an earlier request."""

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name
        KINDS[name] = cls

    def meet(self, exchange: Exchange) -> None:
        """Apply the fault to a request."""
        raise NotImplementedError


@dataclass
class Hang(Kind, name="hang"):
    """No answer until the client goes away, or for some seconds."""

    seconds: float | None = option(maybe(span))
    work: bool = option(flag, False)

    def meet(self, exchange: Exchange) -> None:
        if self.work:
            exchange.work()
        exchange.wait(self.seconds)
        exchange.cut()


class CutBefore(Kind, name="cut_before"):
    """The connection is cut before the work is done."""

    def meet(self, exchange: Exchange) -> None:
        exchange.cut()


class CutAfter(CutBefore, name="cut_after"):
    """The connection is cut after the work is done."""

    def meet(self, exchange: Exchange) -> None:
        exchange.work()
        super().meet(exchange)


class CutReused(CutBefore, name="cut_reused"):
    """As ``cut_before``, but only on connections that served an earlier request."""

    only_reused = True


@dataclass
class Late(Kind, name="late"):
    """The connection is cut at once, and the work is done some real seconds later."""

    seconds: float = option(span, 6)

    def meet(self, exchange: Exchange) -> None:
        exchange.later(self.seconds)
        exchange.cut()


@dataclass
class ErrorBefore(Kind, name="error_before"):
    """A 5xx; the work is not done."""

    status: int = option(whole_number(500, 599), 500)

    def meet(self, exchange: Exchange) -> None:
        exchange.send(broken(self.status))


class ErrorAfter(ErrorBefore, name="error_after"):
    """A 5xx after the work is done."""

    def meet(self, exchange: Exchange) -> None:
        exchange.work()
        super().meet(exchange)


@dataclass
class RateLimit(Kind, name="rate_limit"):
    """429, in the platform's form or a proxy's."""

    retry_after: str | None = option(maybe(header))
    form: str = option(one_of("platform", "html", "empty"), "platform")

    def meet(self, exchange: Exchange) -> None:
        answer = error(429, "rate_limit_error", "rate_limit_exceeded", "too many requests")
        if self.form != "platform":
            answer = _foreign(429, self.form)
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        exchange.send(replace(answer, headers=headers))


@dataclass
class Foreign(Kind, name="foreign"):
    """An intermediary answers 4xx instead of the platform."""

    status: int = option(whole_number(400, 499), 403)
    form: str = option(one_of("html", "empty", "text", "json"), "html")

    def meet(self, exchange: Exchange) -> None:
        exchange.send(_foreign(self.status, self.form))


@dataclass
class Decline(Kind, name="decline"):
    """A 200 that says no; a create still makes ``made`` accounts."""

    message: str = option(text, "the request was declined")
    form: str = option(one_of("success", "error"), "success")
    made: int = option(whole_number(0), 0)

    def meet(self, exchange: Exchange) -> None:
        if self.made:
            answer = exchange.work(at_most=self.made)
            if not answer.executed:
                return exchange.send(answer)
        body: dict[str, Any] = {"error": {"message": self.message}}
        if self.form == "success":
            body = {"success": False, "message": self.message}
        return exchange.send(Answer(200, encode(dumps(body))))


class Bom(Kind, name="bom"):
    """The correct answer, after a UTF-8 byte order mark."""

    def meet(self, exchange: Exchange) -> None:
        answer = exchange.work()
        exchange.send(replace(answer, body=b"\xef\xbb\xbf" + answer.body))


class Parked(Kind, name="parked"):
    """200 with a parked domain's page."""

    def meet(self, exchange: Exchange) -> None:
        exchange.send(Answer(200, _page("This domain is parked", "Buy it now."), HTML))


class Garbage(Kind, name="garbage"):
    """The work is done, but only half of the answer is sent."""

    def meet(self, exchange: Exchange) -> None:
        answer = exchange.work()
        exchange.send(Answer(200, answer.body[: len(answer.body) // 2], answer.content_type))


@dataclass
class Slow(Kind, name="slow"):
    """The work is done, but the answer comes late."""

    seconds: float = option(span, 1.0)

    def meet(self, exchange: Exchange) -> None:
        answer = exchange.work()
        if exchange.wait(self.seconds):
            exchange.send(answer)
        else:
            exchange.cut()


@dataclass
class Drip(Kind, name="drip"):
    """The answer comes byte by byte, with a pause in seconds before each."""

    seconds: float = option(span, 0.05)

    def meet(self, exchange: Exchange) -> None:
        exchange.send(exchange.work(), self.seconds)


@dataclass
class Status(Kind, name="status"):
    """Any status, with any JSON."""

    status: int = option(whole_number(200, 599), 500)
    body: Any = option(anything)

    def meet(self, exchange: Exchange) -> None:
        if self.body is None:
            exchange.send(broken(self.status))
        else:
            exchange.send(Answer(self.status, encode(dumps(self.body))))


@dataclass
class Redirect(Kind, name="redirect"):
    """A redirect."""

    to: str = option(header, "http://127.0.0.1:9/")

    def meet(self, exchange: Exchange) -> None:
        exchange.send(Answer(302, b"", TEXT, {"Location": self.to}))


class Unhealthy(Kind, name="unhealthy"):
    """``healthy`` answers something else."""

    calls = ("healthy",)

    def meet(self, exchange: Exchange) -> None:
        exchange.send(Answer(200, b"unhealthy", TEXT))


def broken(status: int) -> Answer:
    """Return a server error."""
    return error(status, "server_error", "internal_error", "the server had an error")


def _foreign(status: int, form: str) -> Answer:
    """Return the answer of an intermediary: a CDN, a proxy, a firewall."""
    if form == "html":
        return Answer(status, _page("Attention required", "Sorry, you have been blocked."), HTML)
    if form == "text":
        return Answer(status, b"access denied\n", TEXT)
    if form == "json":
        return Answer(status, b'{"blocked":true,"ray":"8f2c1d"}')
    return Answer(status, b"", "")


def _page(title: str, words: str) -> bytes:
    return f"<!doctype html><html><head><title>{title}</title></head><body>{words}</body></html>".encode()
