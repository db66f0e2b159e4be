"""Decides what an exact create does next: after any crash, cut, timeout or retry, exactly ``count`` accounts.

The API has no idempotency key, so the listing is the only witness. It is believed at once when it shows an
account. When it shows none although one may have been asked for, it is believed once the platform can no
longer execute what was sent (``max_late``), every base would show it (``settle``), and the listing has been
the same for ``settle`` seconds; and then only of a listing without the platform's filter, which may miss
some. No I/O and no clock here: times come in as values, in seconds of one monotonic clock.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import refusals
from airflow_provider_closeai.provisioning.refusals import Accounts
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.steps import Done, Fail, List, Listing, Post, Step, Wait

log = logging.getLogger(__name__)

_MAX_FRUITLESS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class CreateDecision:
    """
    One try of one create. Ask :meth:`next_step`, do what it says, and report what came of it.

    :param max_late: seconds after it was sent in which the platform may still execute a post.
    :param believe_from: the time from which absence may be believed, where an earlier post may have been
        executed; ``None``: there was none.
    :param before: ids that were there before the task's first post; ``None``: not known.
    :param is_open: no listing has shown yet what an earlier post made, however long ago it was.
    :param posted_lately: there was a post under the alias: where the filter shows no account, all is listed.
    :param needs_keys: the accounts' keys will be used.
    """

    def __init__(
        self,
        request: CreateRequest,
        *,
        max_late: float,
        believe_from: float | None = None,
        before: Collection[int] | None = None,
        is_open: bool = False,
        posted_lately: bool = False,
        needs_keys: bool = False,
    ) -> None:
        self._request = request
        self._max_late = max_late
        #: The time from which absence may be believed, where something may still come.
        self.believe_from = believe_from
        self._needs_keys = needs_keys
        #: Ids that were there before the task's first post; none before the first listing.
        self.before = frozenset(before or ())
        self._at_first: frozenset[int] = frozenset()
        self._listed: Accounts | None = None
        self._listed_at = 0.0
        self._unchanged_since = 0.0
        self._made: dict[int, SubAccount] = {}
        self._posted_before = before is not None  # an earlier try did
        self._may_have_made_more = False  # a post of this try had no clear answer
        self._fruitless = 0  # posts in a row after which nothing new was there
        self._last_failure: CloseAIError | None = None
        self._must_list = True
        # Something may be there that an earlier post made: no first listing proves what was there before.
        self._is_resumed = is_open or self._posted_before
        # Before a post: the platform's filter may miss something.
        self._must_read_all = self._is_resumed or believe_from is not None
        #: Whether the filter missed something, or may have: all is listed from now on.
        self.doubts_filter = False
        self._posted_lately = posted_lately
        self._has_read_all = False  # to confirm
        self._may_confirm = True
        self._confirm_until: float | None = None
        self._pause = _FIRST_PAUSE
        self._failure: CloseAIError | None = None

    # --- What came of a step ---------------------------------------------------------------------------

    def listed(self, listing: Listing) -> None:
        """Record a listing of the alias, and perhaps of others."""
        alias, besides, unseen = self._request.alias, self._request.besides, self.unseen
        accounts, unreadable = listing.of(alias)
        elsewhere = [item for item in listing.items if item.id in unseen and item.alias != alias]
        renamed = [item for item in elsewhere if isinstance(item, SubAccount)]
        unreadable = [*unreadable, *(item for item in elsewhere if not isinstance(item, SubAccount))]
        there = {each.id: each for each in accounts if not each.is_other and each.id not in besides}
        if self._listed is None or (self._is_resumed and self.posted_nothing):
            self._at_first |= there.keys()
            if not self._posted_before:
                self.before = self._at_first
            if self._request.if_exists == "fail":
                self._failure = refusals.existing(self._request, self._at_first & self.before)
        elif self._request.if_exists == "fail" and self.posted_nothing:  # others made it meanwhile
            self._failure = refusals.existing(self._request, there.keys())
        if self._listed is None or there.keys() != self._listed.keys():
            self._unchanged_since = listing.ended
        if there.keys() - self._known.keys():
            self._fruitless = 0
        if not listing.is_whole and self._listed is not None and self._listed.keys() - there.keys():
            self.doubts_filter = self._must_read_all = True  # deleted, or hidden by another base's filter
        self._listed, self._listed_at, self._must_list = there, listing.began, False
        if listing.is_whole and (self.believe_from is None or listing.began >= self.believe_from):
            self._must_read_all = self._posted_lately = False
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
        if grown < asked:  # it names fewer: they are looked for before more are made
            self._doubt(at)
        self._fruitless = 0 if grown else self._fruitless + 1
        if self._fruitless >= _MAX_FRUITLESS and self._failure is None:
            self._failure = refusals.nothing_new(self._request, len(self._known))

    def unknown(self, error: OutcomeUnknown, at: float) -> None:
        """
        Record that a post may have been executed.

        :param at: when; it was sent before.
        """
        self._doubt(at)
        self._fruitless += 1
        self._last_failure = error

    def declined(self, error: Declined, at: float) -> None:
        """
        Record that the platform said no to a post. It may have done a part, so the listing is read once.
        """
        self._doubt(at)
        self._last_failure = error

    def not_executed(self, error: CloseAIError) -> None:
        """Record that a post was proven not to have been executed."""
        self._failure = error

    # --- What to do next -------------------------------------------------------------------------------

    def next_step(self, now: float) -> Step:
        """Say what to do next."""
        if self._failure is not None:
            return Fail(self._failure)
        if self._must_list:
            return List(is_whole=self.doubts_filter)
        present = self._known
        if self._is_surplus_of_others(present):
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
        refusal = self._refusal(present)
        if refusal is not None:
            return Fail(refusal)
        if self._confirm_until is not None:
            return self._confirm(present, self._confirm_until)
        if len(present) >= self._request.count:
            if not self._made:
                return _done(present)
            self._confirm_until, self._pause = now + self._request.settle, _FIRST_PAUSE
            # Until a listing shows what was made, so that the next task finds it.
            return List(is_whole=self.doubts_filter)
        if isinstance(self._last_failure, Declined):
            return Fail(refusals.still_missing(self._request, self._last_failure, present))
        if self._last_failure is not None and self._fruitless >= _MAX_FRUITLESS:
            return Fail(self._last_failure)
        if self.believe_from is not None:
            left = max(self.believe_from, self._unchanged_since + self._request.settle) - self._listed_at
            if left > 0:
                return self._look_again(left)
        if self._must_read_all or (self._posted_lately and not present):
            return List(is_whole=True)
        self.believe_from = None
        return Post(min(self._request.count - len(present), self._request.batch_size))

    def others_posted(self) -> None:
        """Record that others posted under the alias lately."""
        self._posted_lately = True

    def look_again(self, believe_from: float | None = None, *, is_open: bool = False) -> None:
        """
        Believe nothing of what was listed so far: others may have posted since.

        :param believe_from: the time from which absence may be believed, where something may still come.
        :param is_open: no listing has shown yet what they posted.
        """
        self._must_list = True
        if is_open:
            self._is_resumed = self._must_read_all = True
        if believe_from is not None:
            self.believe_from = max(believe_from, self.believe_from or believe_from)
        self._pause = _FIRST_PAUSE

    def not_confirmed(self) -> None:
        """Record that nobody can look now whether a listing shows what was made: it is not waited for."""
        self._must_list = self._may_confirm = False

    def doubt_until(self, moment: float) -> None:
        """Believe absence no earlier than others do that run beside it: then all go on at once."""
        if self.believe_from is not None:
            self.believe_from = max(self.believe_from, moment)

    def is_listed_since(self, moment: float) -> bool:
        """Whether the last listing was begun at ``moment`` or later, and still counts."""
        return not self._must_list and self._listed_at >= moment

    @property
    def doubt(self) -> CloseAIError | None:
        """The failure of a post that no listing has settled yet."""
        is_open = self.believe_from is not None and self._confirm_until is None
        is_seen = isinstance(self._last_failure, Declined) and not self._must_list  # a no is looked into once
        return self._last_failure if is_open and not is_seen else None

    @property
    def posted_nothing(self) -> bool:
        """Whether it is proven that nothing was executed in this try."""
        return not self._made and not self._may_have_made_more

    @property
    def is_confirming(self) -> bool:
        """Whether all is there, and only to be seen in a listing."""
        return self._confirm_until is not None

    @property
    def is_settled(self) -> bool:
        """Whether a listing has shown all that this try posted."""
        shown = self._listed or {}
        return bool(self._made) and not self._may_have_made_more and self._made.keys() <= shown.keys()

    @property
    def created(self) -> frozenset[int]:
        """Ids that this try made: what its posts were answered; without an answer, all that appeared."""
        appeared = self._known if self._may_have_made_more else self._made
        return frozenset(appeared.keys() - self._at_first)

    @property
    def shown(self) -> frozenset[int] | None:
        """Ids that the last listing of the alias shows; ``None`` before the first."""
        return None if self._listed is None else frozenset(self._listed)

    @property
    def unseen(self) -> frozenset[int]:
        """Ids that this try's posts were answered, and that no listing of the alias shows."""
        return frozenset(self._made.keys() - (self._listed or {}).keys())

    @property
    def _known(self) -> dict[int, SubAccount]:
        return {**(self._listed or {}), **self._made}

    def kept(self, accounts: Iterable[SubAccount]) -> list[SubAccount]:
        """Return the accounts that no answer of this try named: those whose prices may differ."""
        return [account for account in accounts if account.id not in self._made]

    def _doubt(self, at: float) -> None:
        self.believe_from = at + self._max_late + self._request.settle
        self._may_have_made_more = self._must_list = self._must_read_all = True
        self._pause = _FIRST_PAUSE

    def _look_again(self, left: float) -> Wait:
        seconds, self._pause = min(self._pause, left), min(self._pause * 2, _LONGEST_PAUSE)
        self._must_list = True
        return Wait(seconds)

    def _confirm(self, present: Accounts, until: float) -> Step:
        unseen = sorted(self.unseen) if self._may_confirm else []
        if unseen and self._listed_at < until:
            return self._look_again(until - self._listed_at)
        if unseen and not self._has_read_all:
            self._has_read_all = True
            return List(is_whole=True)
        if len(present) < self._request.count:
            return Fail(refusals.vanished(self._request, present))
        if unseen:
            log.warning(
                "The listing does not show the new accounts %s yet, %g s after they were created.",
                unseen,
                self._request.settle,
            )
        return _done(present)

    def _is_surplus_of_others(self, present: Accounts) -> bool:
        """Whether others made too many while this task looked; what was there at first is refused."""
        # A rotation was decided by an older look than the first one here.
        is_later = len(self._at_first) <= self._request.count or bool(self._request.besides)
        is_surplus = is_later and len(present) > self._request.count
        return is_surplus and self.posted_nothing and not self._is_resumed

    def _refusal(self, present: Accounts) -> CloseAIError | None:
        if self._may_have_made_more and self._confirm_until is None:
            # What has appeared was made here, though no answer says so.
            appeared = {key: each for key, each in present.items() if key not in self._at_first}
            refusal = refusals.other_prices(self._request, appeared)
            if refusal is not None:
                return refusal
        refusal = refusals.surplus(self._request, present, self._made)
        kept = self.kept(present.values())
        if refusal is None and self._request.if_exists == "match":
            refusal = refusals.prices_to_match(self._request, kept)
        if refusal is None and self.posted_nothing:  # keys in an answer must get out, whatever is hidden
            refusal = refusals.hidden_keys(self._request, kept, self._needs_keys)
        return refusal


def _done(present: Accounts) -> Done:
    return Done(tuple(present[key] for key in sorted(present)))
