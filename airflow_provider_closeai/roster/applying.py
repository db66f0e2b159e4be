"""Applies a roster: one listing before, one after; keys are delivered before anything is deleted.

Creates, reprices and deletes go through provisioning's runner. After a crash anywhere, run it again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection

import msgspec

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.failures import require_keys
from airflow_provider_closeai.client.models import SubAccount, same_pricing
from airflow_provider_closeai.provisioning.delete import batches, refuse
from airflow_provider_closeai.provisioning.errors import about, foremost
from airflow_provider_closeai.provisioning.reading import listed_again
from airflow_provider_closeai.provisioning.reprice import RepricePlan, plan_targets
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.rotate import decide as decide_rotation
from airflow_provider_closeai.provisioning.runner.creating import create_all
from airflow_provider_closeai.provisioning.runner.deleting import SentDeletions, send_deletions
from airflow_provider_closeai.provisioning.runner.deployment_lock import names_to_lock_with
from airflow_provider_closeai.provisioning.runner.listings import Listings
from airflow_provider_closeai.provisioning.runner.locking import CONFIRM_WITHIN, alias_lock
from airflow_provider_closeai.provisioning.runner.repricing import SentPrices, sent_prices
from airflow_provider_closeai.provisioning.runner.rotating import Keys
from airflow_provider_closeai.provisioning.runner.tries import FIRST_TRY, Try
from airflow_provider_closeai.provisioning.texts import format_ids
from airflow_provider_closeai.roster import checks
from airflow_provider_closeai.roster.applied import Applied, changes_in, closing_line, skipped_line
from airflow_provider_closeai.roster.decide import Options
from airflow_provider_closeai.roster.look import LOCK, Books, Look
from airflow_provider_closeai.roster.matching import Matched, check_age, match
from airflow_provider_closeai.roster.models import Roster
from airflow_provider_closeai.roster.plan import CREATE, DELETE, KINDS, REPRICE, ROTATED_OUT, Action, Plan

log = logging.getLogger(__name__)

_AT_ONCE = 2.0  # seconds within which a lock was had without waiting


def apply(
    client: CloseAIClient,
    wanted: Roster | Plan,
    options: Options,
    *,
    keys: Keys | None = None,
    books: Books | None = None,
    this_try: Try = FIRST_TRY,
    dry_run: bool = False,
) -> Applied:
    """
    Apply a roster, or the part of an approved plan that is still wanted.

    :param wanted: a roster, or an approved plan.
    :param options: how; a plan's own ``prune`` applies, and its bounds unless given here.
    :param keys: where keys go.
    :param books: the cost ledger.
    :param this_try: which try of which task this is.
    :param dry_run: only log what would be done.
    :raises PlanRefused: it is beyond a bound, too old, or of another main account. Nothing was changed.
    :raises TooManySelected: it deletes more than ``max_delete``. Nothing was changed.
    :raises MaskedKeys: the listing hides keys that are needed. Nothing was changed.
    :raises CloseAIError: the foremost error, once all else was done; the others are logged.
    """
    approved = wanted if isinstance(wanted, Plan) else None
    roster = wanted.as_roster() if isinstance(wanted, Plan) else wanted
    checks.check_roster(roster, has_sink=keys is not None, has_ledger=books is not None)
    with alias_lock(client, LOCK):
        look = Look(client, roster, keys, books)
        if approved is not None:
            check_age(approved, look.seen.now)
            options = _bounded(options, approved)
        plan = look.plan(options)
        matched = Matched(todo=plan.actions) if approved is None else match(approved, plan, look.seen)
        for line in changes_in(matched, plan):
            log.info("%s", line)
        refusal = checks.refusal(msgspec.structs.replace(plan, actions=matched.todo))
        if refusal is not None:
            raise refusal
        execution = _Execution(
            client, look, plan, matched, options, this_try, is_approved=approved is not None
        )
        if not dry_run:
            execution.run()
        applied = execution.applied()
        log.info("%s", closing_line(applied, dry_run))
        if execution.errors:
            raise foremost(execution.errors)
        return applied


def _bounded(options: Options, approved: Plan) -> Options:
    return msgspec.structs.replace(
        options,
        prune=approved.prune,
        max_create=approved.max_create if options.max_create is None else options.max_create,
        max_delete=approved.max_delete if options.max_delete is None else options.max_delete,
    )


class _Execution:
    """
    Carries the changes out in this order: reprice, deliver, delete, create, deliver new keys.

    One listing at the end shows the outcome of all of them.
    """

    def __init__(
        self,
        client: CloseAIClient,
        look: Look,
        plan: Plan,
        matched: Matched,
        options: Options,
        this_try: Try,
        *,
        is_approved: bool,
    ) -> None:
        self._client, self._look, self._plan, self._options = client, look, plan, options
        self._matched, self._this_try, self._is_approved = matched, this_try, is_approved
        self._of = {kind: [each for each in matched.todo if each.kind == kind] for kind in KINDS}
        self._going = {action.id for action in self._of[DELETE]}
        self._there = {account.id: account for account in look.seen.accounts}
        # Bounded however long bases may lag: prices, and the last costs of deleted accounts, must be fresh.
        self._listings = Listings(client, look.listing, good_for=min(options.settle, CONFIRM_WITHIN))
        self._sent_prices: SentPrices | None = None
        self._sent_deletions: SentDeletions | None = None
        self._created: list[SubAccount] = []
        self._repriced: list[SubAccount] = []
        self._left: set[int] = set()  # accounts whose prices have changed since the approval
        self._deleted: list[SubAccount] = []
        self._references: dict[int, str] = {}
        self.errors: list[CloseAIError] = []

    def run(self) -> None:
        self._require_keys()
        self._record_listing()
        with contextlib.ExitStack() as lock:
            self._try(lambda: self._reprice(lock))
            if self._try(self._deliver_missing) or self._leave_refused():
                self._try(self._delete)
                self._try(self._create)
            self._listings.read_back()
            self._try(self._conclude_prices)
            self._try(self._conclude_deletions)

    def _try(self, step: Callable[[], None]) -> bool:
        """Take a step; keep an error for later, since other steps do not depend on this one."""
        try:
            step()
        except CloseAIError as error:
            self.errors.append(error)
            return False
        return True

    def applied(self) -> Applied:
        """Return the result so far."""
        return Applied(
            plan=self._plan,
            accounts=tuple(self._wanted),
            created=tuple(self._created),
            repriced=tuple(self._repriced),
            deleted=tuple(self._deleted),
            references=self._references,
            matched=self._matched,
        )

    @property
    def _wanted(self) -> list[SubAccount]:
        """The accounts of the roster's aliases, oldest id first."""
        entries = self._look.roster.entries
        wanted = [each for each in self._there.values() if each.alias in entries and not each.is_other]
        return sorted(wanted, key=lambda account: account.id)

    def _require_keys(self) -> None:
        """Refuse hidden keys that are needed, before anything is changed."""
        ids = {action.id for action in self._of[REPRICE] + self._of[DELETE]}
        if self._look.keys is not None:
            ids |= {each.id for each in self._wanted}
        require_keys(each for each in self._there.values() if each.id in ids)

    def _record_listing(self) -> None:
        books, seen = self._look.books, self._look.seen
        if books is not None and seen.unreadable:
            log.warning("This listing is not recorded in the ledger: entries of it cannot be read.")
        elif books is not None:
            books.record_listing(seen.accounts, self._look.at)

    # --- Keys ------------------------------------------------------------------------------------------

    def _deliver_missing(self) -> None:
        """Deliver keys that the sink lacks, and the remaining keys of aliases that lose some."""
        if self._look.silence is not None:
            raise self._look.silence
        missing = set(self._plan.deliver)
        aliases = {self._there[each].alias for each in missing}
        aliases |= {action.alias for action in self._of[DELETE] if action.reason == ROTATED_OUT}
        self._deliver(aliases)

    def _leave_refused(self) -> bool:
        """Skip the aliases whose secrets were refused; return False if there are none: the sink is down."""
        refused = self._look.keys.refused if self._look.keys is not None else ()
        aliases = {self._there[each].alias for each in refused}
        for kind in (DELETE, CREATE):
            self._of[kind] = [action for action in self._of[kind] if action.alias not in aliases]
        self._going = {action.id for action in self._of[DELETE]}
        return bool(aliases)

    def _deliver(self, aliases: Collection[str | None]) -> None:
        """Deliver all remaining keys of aliases: a sink may store them together."""
        keys, journal = self._look.keys, self._look.journal
        staying = [each for each in self._wanted if each.alias in aliases and each.id not in self._going]
        if keys is None or not staying:
            return
        self._references |= keys.deliver(staying)
        if journal is not None:
            # Whether other rosters' aliases are rotated is not known here.
            unrotated = {each.alias for each in self._plan.entries if not each.rotate}
            known = {*journal.held, *self._references}
            there = [each for each in self._there.values() if each.alias not in unrotated]
            journal.note((each.id for each in there if each.id in known), self._client.clock.utc_now())

    # --- Changes ---------------------------------------------------------------------------------------

    def _reprice(self, lock: contextlib.ExitStack) -> None:
        targets = {action.id or 0: action.after or {} for action in self._of[REPRICE]}
        if not targets:
            return
        accounts = [self._there[each] for each in targets]
        # With the deployment's lock, accounts are read twice; after a wait for it, anew: people edit, too.
        looks = 1 if names_to_lock_with(self._client, self._this_try.names) is None else 2
        known, now = iter([accounts] * looks), self._client.clock.monotonic
        end = now() + _AT_ONCE

        def read() -> list[SubAccount]:
            first = next(known, None) if self._listings.is_known_good and now() < end else None
            return first or listed_again(self._client, accounts)

        def decide(seen: list[SubAccount]) -> RepricePlan:
            if self._is_approved:
                self._leave_changed(seen)
            wanted = [each for each in seen if each.id not in self._left]
            theirs = {each.id: targets[each.id] for each in wanted}
            return plan_targets(wanted, theirs, self._options.batch_size)

        self._sent_prices = lock.enter_context(sent_prices(self._client, read, decide, self._this_try.names))
        self._listings.watch(self._sent_prices)

    def _leave_changed(self, seen: Collection[SubAccount]) -> None:
        """Skip accounts whose prices others have changed since the look: that was not approved."""
        now = {account.id: account.pricing for account in seen}
        for action in self._of[REPRICE]:
            pricing = now.get(action.id or 0)
            if pricing is None or action.id in self._left or same_pricing(pricing, action.before or {}):
                continue
            if not same_pricing(pricing, action.after or {}):
                self._left.add(action.id or 0)
                self._matched = self._matched.without(action, "its prices were changed meanwhile")
                log.info("%s", skipped_line(self._matched.skipped[-1]))

    def _conclude_prices(self) -> None:
        if self._sent_prices is not None:
            try:
                self._sent_prices.conclude()
            finally:
                self._repriced = self._sent_prices.confirmed
                self._there |= {each.id: each for each in self._repriced}
                self._forget(self._sent_prices.vanished, "Not repriced, since not listed any more: ids %s.")

    def _delete(self) -> None:
        accounts = [self._there[action.id or 0] for action in self._of[DELETE]]
        at = self._look.at
        if accounts and not self._listings.is_known_good:  # last costs must be fresh
            at = self._client.clock.utc_now()
            there = listed_again(self._client, accounts)
            gone = {each.id for each in accounts} - {each.id for each in there}
            self._forget(gone, "Not deleted, since not listed any more: ids %s.")
            accounts = there
        if not accounts:
            return
        refuse(accounts, max_delete=None)
        books = self._look.books
        record = None if books is None else books.record_deleted
        rotated = {action.id for action in self._of[DELETE] if action.reason == ROTATED_OUT}
        others = [each for each in accounts if each.id not in rotated]
        # Each rotated key alone: a refused deletion must not stop another's rotation.
        todo = [[each] for each in accounts if each.id in rotated] + batches(others, self._options.batch_size)
        self._sent_deletions = send_deletions(self._client, todo, at, record)
        self._listings.watch(self._sent_deletions)

    def _conclude_deletions(self) -> None:
        if self._sent_deletions is not None:
            try:
                self._sent_deletions.conclude()
            finally:
                self._deleted = self._sent_deletions.deleted
                self._forget({each.id for each in self._deleted})

    def _forget(self, ids: Collection[int], warning: str = "") -> None:
        """Forget accounts that no longer exist."""
        if ids and warning:
            log.warning(warning, format_ids(sorted(ids)))
        self._there = {key: each for key, each in self._there.items() if key not in ids}

    def _create(self) -> None:
        if self._of[CREATE] and self._sent_deletions is not None and self._sent_deletions.may_be_there:
            self._listings.read_back()  # only deleted accounts get successors
        requests = [each for each in map(self._creation, self._of[CREATE]) if each is not None]
        if not requests:
            return
        if self._sent_prices is not None:
            self._sent_prices.release()  # creates lock the same aliases
        made: set[int] = set()
        results = create_all(
            self._client,
            requests,
            self._this_try,
            needs_keys=self._look.keys is not None,
            listings=self._listings,
            made=made.update,
        )
        found = [account for result in results if isinstance(result, list) for account in result]
        new = [account for account in found if account.id not in self._there]  # perhaps some by another task
        self._created = [account for account in new if account.id in made]
        self._there |= {account.id: account for account in found}
        failed: dict[str, tuple[CloseAIError, list[str]]] = {}
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, CloseAIError):
                failed.setdefault(str(result), (result, []))[1].append(request.alias)
        for error, aliases in failed.values():
            self.errors.append(about(f"Aliases {format_ids([repr(each) for each in aliases])}", error))
        self._deliver({account.alias for account in new})

    def _creation(self, action: Action) -> CreateRequest | None:
        """Return an exact create, whatever an earlier try left behind; ``None`` if none is due."""
        entry = self._look.roster.entries[action.alias]
        accounts = [each for each in self._look.listing.of(action.alias)[0] if not each.is_other]
        sent = self._sent_deletions
        going = set() if sent is None else self._going - sent.may_be_there
        staying = [each for each in accounts if each.id not in going]
        options = self._options
        wanted = entry.creation(
            action.after or {},
            len(staying) + action.number,
            batch_size=options.batch_size,
            settle=options.settle,
        )
        is_limited = self._is_approved or options.max_create is not None
        rotation = entry.rotation(action.after or {})
        if rotation is None:
            return msgspec.structs.replace(wanted, at_most=action.number if is_limited else None)
        seen = self._look.seen
        plan = decide_rotation(rotation, accounts, seen.held or {}, seen.now, seen.replaced)
        number = min(action.number, 2 * entry.count - len(staying))  # perhaps not all deletions are approved
        if number < 1:
            return None
        return msgspec.structs.replace(wanted, count=plan.counted + number, besides=plan.old, at_most=number)
