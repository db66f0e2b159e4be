"""Decides the steps of an exact create: ``count`` accounts after any crash, cut, timeout or retry.

The API has no idempotency key, so the listing is the only witness. An account that it shows is believed at
once. If it shows none although one may have been created, that is believed once the platform can no longer
execute what was sent (``max_late``), every base would show it (``settle``), and the listing has been the same
for ``settle`` seconds; and then only of a listing without the platform's filter, which may miss some. No I/O
and no clock here: times come in as values, in seconds of one monotonic clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import refusals
from airflow_provider_closeai.provisioning.refusals import Accounts
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.steps import Done, Earlier, Fail, List, Listing, Post, Step, Wait

log = logging.getLogger(__name__)

_MAX_FRUITLESS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class _Look(msgspec.Struct, frozen=True):
    """
    The last listing.

    :param accounts: those that count, by id.
    :param since: time since which all listings have shown the same.
    """

    accounts: dict[int, SubAccount]
    began: float
    since: float
    is_whole: bool


class CreateDecision:
    """
    One try of one create. Ask :meth:`next_step`, do what it says, and report the result.

    :param max_late: seconds after sending in which the platform may still execute a post.
    :param earlier: what earlier posts left; ``None``: nothing was posted recently.
    :param needs_keys: the accounts' keys will be used.
    """

    def __init__(
        self, request: CreateRequest, *, max_late: float, earlier: Earlier | None, needs_keys: bool = False
    ) -> None:
        self._request = request
        self._max_late = max_late
        self._needs_keys = needs_keys
        self._noted_before = None if earlier is None else earlier.before
        # They may have created accounts: then the first listing does not prove what existed before.
        self._is_resumed = earlier is not None and (earlier.is_open or earlier.before is not None)
        #: Time from which absence may be believed, if something may still come.
        self.believe_from = None if earlier is None else earlier.believe_from
        # Before a post all accounts must be listed: the platform's filter may miss some.
        self._needs_whole = self._is_resumed or self.believe_from is not None
        self._needs_whole_if_empty = earlier is not None
        # What was listed.
        self._at_first: frozenset[int] = frozenset()
        self._count = request.count  # to reach; ``at_most`` may lower it
        self._look: _Look | None = None
        self._must_list = False  # the last listing is no longer enough
        #: Whether the filter missed something, or may have: all accounts are listed from now on.
        self.doubts_filter = False
        # What this try posted.
        self._made: dict[int, SubAccount] = {}
        self._may_have_made_more = False  # a post had no clear answer
        self._fruitless = 0  # posts in a row that brought nothing new
        self._last_failure: CloseAIError | None = None
        # What is next.
        self._confirm_until: float | None = None
        self._pause = _FIRST_PAUSE
        self._failure: CloseAIError | None = None

    # --- Results of steps ------------------------------------------------------------------------------

    def listed(self, listing: Listing) -> None:
        """Record a listing of the alias, and perhaps of others."""
        alias, besides, unseen, last = self._request.alias, self._request.besides, self.unseen, self._look
        accounts, unreadable = listing.of(alias)
        elsewhere = [item for item in listing.items if item.id in unseen and item.alias != alias]
        renamed = [item for item in elsewhere if isinstance(item, SubAccount)]
        unreadable = [*unreadable, *(item for item in elsewhere if not isinstance(item, SubAccount))]
        there = {each.id: each for each in accounts if not each.is_other and each.id not in besides}
        if last is None or (self._is_resumed and self.posted_nothing):
            self._at_first |= there.keys()
            if self._request.if_exists == "fail":
                self._failure = refusals.existing(self._request, self._at_first & self.before)
        elif self._request.if_exists == "fail" and self.posted_nothing:  # made by others meanwhile
            self._failure = refusals.existing(self._request, there.keys())
        if self._request.at_most is not None and self.posted_nothing:
            self._count = min(self._count, len(there) + self._request.at_most)
        if there.keys() - self._known.keys():
            self._fruitless = 0
        if last and last.accounts.keys() - there.keys() and not listing.is_whole:
            self.doubts_filter = True  # deleted, or hidden by another base's filter
        since = last.since if last and last.accounts.keys() == there.keys() else listing.ended
        self._look, self._must_list = _Look(there, listing.began, since, listing.is_whole), False
        if unreadable:
            self._failure = refusals.unreadable(self._request, unreadable, more=not self.posted_nothing)
        elif renamed:
            self._failure = refusals.other_alias(self._request, {each.id: each for each in renamed})

    def answered(self, accounts: Sequence[SubAccount], asked: int, at: float) -> None:
        """Record the answer of a post."""
        new = {account.id: account for account in accounts}
        grown = len(new.keys() - self._known.keys())
        self._made |= new
        self._failure = refusals.other_alias(self._request, new) or refusals.other_prices(self._request, new)
        if grown < asked:  # too few named: look for the others before making more
            self._doubt(at)
        self._fruitless = 0 if grown else self._fruitless + 1
        if self._fruitless >= _MAX_FRUITLESS and self._failure is None:
            self._failure = refusals.nothing_new(self._request, len(self._known))

    def unknown(self, error: OutcomeUnknown, at: float) -> None:
        """
        Record that a post may have been executed.

        :param at: now, after it was sent.
        """
        self._doubt(at)
        self._fruitless += 1
        self._last_failure = error

    def declined(self, error: Declined, at: float) -> None:
        """
        Record that the platform declined a post. It may have done a part, so the listing is read once.
        """
        self._doubt(at)
        self._last_failure = error

    def not_executed(self, error: CloseAIError) -> None:
        """Record that a post was proven not to have been executed."""
        self._failure = error

    # --- Next step -------------------------------------------------------------------------------------

    def next_step(self, now: float) -> Step:
        """Return what to do next."""
        if self._failure is not None:
            return Fail(self._failure)
        look = self._look
        if look is None or self._must_list:
            return List(is_whole=self.doubts_filter)
        present = self._known
        if self._is_surplus_of_others(present):
            return self._use_oldest(present)
        refusal = self._refusal(present)
        if refusal is not None:
            return Fail(refusal)
        if self._confirm_until is not None:
            return self._confirm(look, self._confirm_until)
        if len(present) >= self._count:
            if not self._made:
                return _done(present)
            self._confirm_until, self._pause = now + self._request.settle, _FIRST_PAUSE
            # Read until a listing shows the new accounts, so that the next task finds them.
            return List(is_whole=self.doubts_filter)
        if isinstance(self._last_failure, Declined):
            return Fail(refusals.still_missing(self._request, self._last_failure, present))
        if self._last_failure is not None and self._fruitless >= _MAX_FRUITLESS:
            return Fail(self._last_failure)
        if self.believe_from is not None:
            left = max(self.believe_from, look.since + self._request.settle) - look.began
            if left > 0:
                return self._wait(left)
        needs_whole = self._needs_whole or self.doubts_filter or (self._needs_whole_if_empty and not present)
        if needs_whole and not look.is_whole:
            return List(is_whole=True)
        self.believe_from = None
        return Post(min(self._count - len(present), self._request.batch_size))

    def others_posted(self, earlier: Earlier | None, now: float) -> None:
        """
        Record what posts of others left, who send nothing any more; list again, unless every base listed all
        of that when the last listing began.
        """
        since = now - self._request.settle
        until = since if earlier is None or earlier.believe_from is None else earlier.believe_from
        self._needs_whole_if_empty |= earlier is not None
        if self._look and not self._must_list and self._look.began >= max(since, until):
            return
        self.look_again()
        if earlier is not None and earlier.is_open:
            self._is_resumed = self._needs_whole = True
        if until > now:
            self.believe_from = max(until, self.believe_from or until)

    def look_again(self) -> None:
        """Require a new listing: others may have posted since the last."""
        self._must_list = True
        self._pause = _FIRST_PAUSE

    def unconfirmed(self) -> Done | Fail:
        """Return the result although no listing has confirmed the new accounts."""
        present = self._known
        if len(present) < self._count:
            return Fail(refusals.vanished(self._request, present))
        return _done(present)

    def doubt_until(self, moment: float) -> None:
        """Believe absence no earlier than the creates that run beside this one: then all go on at once."""
        if self.believe_from is not None:
            self.believe_from = max(self.believe_from, moment)

    @property
    def doubt(self) -> CloseAIError | None:
        """The failure of a post whose outcome no listing has settled yet."""
        is_open = self.believe_from is not None and self._confirm_until is None
        is_seen = isinstance(self._last_failure, Declined) and not self._must_list  # a no is checked once
        return self._last_failure if is_open and not is_seen else None

    @property
    def before(self) -> frozenset[int]:
        """Ids that existed before the task's first post; none before the first listing."""
        return self._at_first if self._noted_before is None else frozenset(self._noted_before)

    @property
    def posted_nothing(self) -> bool:
        """Whether it is proven that no post of this try was executed."""
        return not self._made and not self._may_have_made_more

    @property
    def is_confirming(self) -> bool:
        """Whether all accounts exist, and only a listing has yet to show them."""
        return self._confirm_until is not None

    @property
    def is_settled(self) -> bool:
        """Whether a listing has shown all that this try posted."""
        return bool(self._made) and not self._may_have_made_more and not self.unseen

    @property
    def created(self) -> frozenset[int]:
        """Ids that this try made: those in its posts' answers; if an answer is missing, all that appeared."""
        appeared = self._known if self._may_have_made_more else self._made
        return frozenset(appeared.keys() - self._at_first)

    @property
    def shown(self) -> frozenset[int] | None:
        """The alias's ids in the last listing; ``None`` before the first."""
        return None if self._look is None else frozenset(self._look.accounts)

    @property
    def unseen(self) -> frozenset[int]:
        """Ids in the answers of this try's posts that the last listing of the alias does not show."""
        return frozenset(self._made.keys() - (self.shown or ()))

    @property
    def _known(self) -> dict[int, SubAccount]:
        return {**(self._look.accounts if self._look else {}), **self._made}

    def kept(self, accounts: Iterable[SubAccount]) -> list[SubAccount]:
        """Return the accounts that this try's answers did not name: their prices may differ."""
        return [account for account in accounts if account.id not in self._made]

    def _doubt(self, at: float) -> None:
        self.believe_from = at + self._max_late + self._request.settle
        self._may_have_made_more = self._needs_whole = True
        self.look_again()

    def _wait(self, left: float) -> Wait:
        seconds, self._pause = min(self._pause, left), min(self._pause * 2, _LONGEST_PAUSE)
        self._must_list = True
        return Wait(seconds)

    def _confirm(self, look: _Look, until: float) -> Step:
        unseen = sorted(self.unseen)
        if unseen and look.began < until:
            return self._wait(until - look.began)
        if unseen and not look.is_whole:
            return List(is_whole=True)
        end = self.unconfirmed()
        if unseen and isinstance(end, Done):
            log.warning(
                "The listing does not show the new accounts %s yet, %g s after they were created.",
                unseen,
                self._request.settle,
            )
        return end

    def _is_surplus_of_others(self, present: Accounts) -> bool:
        """Return whether others made too many meanwhile; too many at first are refused instead."""
        # A rotation was decided before the first listing here.
        is_later = len(self._at_first) <= self._request.count or bool(self._request.besides)
        is_surplus = is_later and len(present) > self._request.count
        return is_surplus and self.posted_nothing and not self._is_resumed

    def _use_oldest(self, present: Accounts) -> Done | Fail:
        log.warning(
            "Alias %r has %d sub-accounts by now, %d were asked for: other tasks created some at the "
            "same time, and name them in their logs. This task created none, and uses the oldest.",
            self._request.alias,
            len(present),
            self._request.count,
        )
        oldest = tuple(present[key] for key in sorted(present)[: self._request.count])
        is_match = self._request.if_exists == "match"
        refusal = refusals.prices_to_match(self._request, oldest) if is_match else None
        return Done(oldest) if refusal is None else Fail(refusal)

    def _refusal(self, present: Accounts) -> CloseAIError | None:
        if self._may_have_made_more and self._confirm_until is None:
            # What appeared was made here, although no answer says so.
            appeared = {key: each for key, each in present.items() if key not in self._at_first}
            refusal = refusals.other_prices(self._request, appeared)
            if refusal is not None:
                return refusal
        refusal = refusals.surplus(self._request, present, self._made)
        kept = self.kept(present.values())
        if refusal is None and self._request.if_exists == "match":
            refusal = refusals.prices_to_match(self._request, kept)
        if refusal is None and self.posted_nothing:  # keys in an answer must get out
            refusal = refusals.hidden_keys(self._request, kept, self._needs_keys)
        return refusal


def _done(present: Accounts) -> Done:
    return Done(tuple(present[key] for key in sorted(present)))
