"""Decides the steps of a rotation: old keys are replaced, and there is always one that works.

A key is *old* from the age ``every`` on. It is *ready* to take over from an older one once it is ``grace``
old and the sink has held it for ``grace``: whoever reads the sink within ``grace`` has it. Keys missing of
``count`` that are not old are created; an old one is deleted once ``count`` newer ones are ready. All this
follows from one listing, the sink's answer and the time, so a run may be killed anywhere, and the next one
continues. No I/O and no clock here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.errors import ClockDisagrees
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RotateRequest
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.provisioning.texts import count_of, format_ids, ids_of, span_text

#: Since when a sink has held each of its keys, by account id; ``None``: it cannot say.
Held = Mapping[int, datetime | None]

#: How much two clocks may differ.
CLOCKS_AGREE = timedelta(minutes=10)
_MOMENT = timedelta(minutes=1)
_LATE = 1.5  # times ``every``: a key older than that was not rotated when it became old


class RotatePlan(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to do now, in this order.

    :param deliver: ids whose keys the sink does not hold.
    :param delete: old accounts to delete, oldest first.
    :param create: how many to create.
    :param succeeds: the old accounts that get one of them as a successor, oldest first; the rest of
        ``create`` fills the count.
    :param old: ids of all old accounts.
    :param counted: how many accounts count besides those to create.
    :param untouched: accounts that rotation leaves alone, since their age is unknown.
    :param reasons: why each thing is done, for people.
    """

    deliver: tuple[int, ...]
    delete: tuple[SubAccount, ...]
    create: int
    succeeds: tuple[SubAccount, ...]
    old: frozenset[int]
    counted: int
    untouched: tuple[SubAccount, ...]
    reasons: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many are created because fewer exist than wanted, old ones included."""
        return self.create - len(self.succeeds)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.deliver or self.delete or self.create)

    def creation(self, request: RotateRequest) -> CreateRequest:
        """Return the plan's create: exact, whatever an earlier try left behind."""
        count = self.counted + self.create
        return msgspec.structs.replace(request.wanted, count=count, besides=self.old)

    def deletion(self, request: RotateRequest) -> DeleteRequest:
        """Return the plan's delete."""
        return DeleteRequest(
            accounts=Selection(ids=tuple(each.id for each in self.delete), aliases=(request.wanted.alias,)),
            missing="ignore",
            max_delete=len(self.delete),
            batch_size=1,  # a refused deletion must not stop others
            dry_run=False,
        )


class _Key(msgspec.Struct, frozen=True):
    """One account as rotation sees it."""

    account: SubAccount
    created: datetime
    is_old: bool
    is_ready: bool
    is_adopted: bool  # was not rotated when it became old
    is_replaced: bool  # by a newer one in the sink: which may be all that makes it look adopted


def decide(
    request: RotateRequest,
    accounts: Sequence[SubAccount],
    held: Held,
    now: datetime,
    replaced: Collection[int] = frozenset(),
    *,
    most_deleted: int | None = None,
    most_succeeded: int | None = None,
) -> RotatePlan:
    """
    Decide what to do with the alias's accounts. Keys that ``held`` does not name are delivered.

    :param replaced: ids whose keys need no delivery: a newer key has replaced them in the sink.
    :param most_deleted: how many may be deleted now; the others can wait.
    :param most_succeeded: how many old ones may get a successor now.
    """
    keys = _keys(request, accounts, held, now, replaced)
    dated = {key.account.id for key in keys}
    untouched = tuple(account for account in accounts if account.id not in dated)
    going = _going(request, keys, len(untouched))[:most_deleted] if request.may_replace(now) else []
    missing, succeeds = _missing(request, keys, going, len(untouched), now, most_succeeded)
    gone = {key.account.id for key in going}
    kept = [account for account in accounts if account.id not in gone]
    unheld = [each.id for each in accounts if each.id not in held and each.id not in replaced]
    deliver = tuple(each for each in unheld if each not in gone)
    if going and any(held.get(account.id, now) is None for account in kept):
        # The sink cannot say since when: then a run that delivers something deletes nothing.
        missing, succeeds = _missing(request, keys, [], len(untouched), now, most_succeeded)
        if deliver or missing or succeeds:
            going, deliver = [], tuple(unheld)
    create = missing + len(succeeds)
    return RotatePlan(
        deliver=deliver,
        delete=tuple(key.account for key in going),
        create=create,
        succeeds=tuple(key.account for key in succeeds),
        old=frozenset(key.account.id for key in keys if key.is_old),
        counted=len(untouched) + sum(not key.is_old for key in keys),
        untouched=untouched,
        reasons=_reasons(request, deliver, going, create),
    )


def _keys(
    request: RotateRequest,
    accounts: Sequence[SubAccount],
    held: Held,
    now: datetime,
    replaced: Collection[int],
) -> list[_Key]:
    """Return the accounts that can be rotated, oldest first."""
    keys = []
    for account in accounts:
        created = account.created
        if created is None or not account.is_sub_account:
            continue
        age, is_held, since = now - created, account.id in held, held.get(account.id)
        is_settled = is_held and (since is None or now - since >= request.grace)
        is_late = age >= _LATE * request.every
        keys.append(
            _Key(
                account=account,
                created=created,
                is_old=age >= request.every,
                is_ready=age >= request.grace and is_settled and account.enabled is not False,
                is_replaced=account.id in replaced and not is_late,
                is_adopted=is_late or not is_held or (since or created) >= created + request.every,
            )
        )
    return sorted(keys, key=lambda key: (key.created, key.account.id))


def _going(request: RotateRequest, keys: Sequence[_Key], untouched: int) -> list[_Key]:
    """Return the old keys that have enough newer ones to replace them, oldest first."""
    needed = max(request.wanted.count - untouched, 1)
    left = sum(key.is_ready for key in keys)
    going: list[_Key] = []
    for key in keys:
        left -= key.is_ready  # now the number of newer ones that are ready
        if not key.is_old or left < needed:
            break
        going.append(key)
    is_crowd = len(keys) + untouched > 2 * request.wanted.count  # others must have made some of them
    return going[: request.max_rotate] if is_crowd else going


def _missing(
    request: RotateRequest,
    keys: Sequence[_Key],
    going: Collection[_Key],
    untouched: int,
    now: datetime,
    most: int | None,
) -> tuple[int, Sequence[_Key]]:
    """Return how many are missing once ``going`` are gone, and which old ones also get a successor."""
    count = request.wanted.count
    wanted = max(count - untouched, 0)
    gone = {key.account.id for key in going}
    left = [key for key in keys if key.account.id not in gone]
    old = [key for key in left if key.is_old]
    if len(left) - len(old) >= wanted:
        return 0, []
    missing = max(wanted - len(left), 0)
    if not request.may_replace(now):
        return missing, []
    under_way = max(len(left) - wanted, 0)  # this many of the oldest have successors already
    room = max(2 * count - untouched - len(left) - missing, 0)
    return missing, _next_in_turn(request, old, under_way)[:room][:most]


def _next_in_turn(request: RotateRequest, old: Sequence[_Key], under_way: int) -> Sequence[_Key]:
    """Return the old keys whose turn is next after those under way, always oldest first."""
    before, after = old[:under_way], old[under_way:]
    free = max(request.max_rotate - sum(key.is_adopted for key in before), 0)
    # More are under way if older keys took the successors of those that were rotated in time.
    taken = max(sum(key.is_adopted and not key.is_replaced for key in before) - request.max_rotate, 0)
    adopted = sum(key.is_adopted for key in after)
    return after[: max(len(after) - adopted - taken, 0) + min(adopted, free)]


def _reasons(
    request: RotateRequest, deliver: Collection[int], going: Sequence[_Key], create: int
) -> tuple[str, ...]:
    count, every, grace = request.wanted.count, span_text(request.every), span_text(request.grace)
    reasons = []
    if deliver:
        reasons.append(f"Deliver the keys of {format_ids(deliver)}: the sink does not hold them.")
    if going:
        reasons.append(
            f"Delete {ids_of([key.account for key in going])}: older than {every}, and enough newer keys "
            f"({count}) have been in the sink for {grace}."
        )
    if create:
        reasons.append(f"Create {create}: fewer keys than wanted ({count}) are younger than {every}.")
    return tuple(reasons)


def next_due(
    request: RotateRequest,
    accounts: Sequence[SubAccount],
    held: Held,
    now: datetime,
    replaced: Collection[int] = frozenset(),
) -> tuple[datetime, RotatePlan] | None:
    """Return when something is due next, and what, if nothing changes until then."""
    begins = request.begins
    moments = {now} | ({begins} if begins and begins.year < datetime.max.year else set())  # else never
    for account in accounts:
        created = account.created
        if created is not None:
            moments |= {
                created + request.every,
                created + _LATE * request.every,
                created + request.grace,
            }
        since = held.get(account.id)
        if since is not None:
            moments.add(since + request.grace)
    later = {moment + _MOMENT - (moment - datetime.min.replace(tzinfo=UTC)) % _MOMENT for moment in moments}
    for moment in sorted(each for each in later if each > now):
        plan = decide(request, accounts, held, moment, replaced)
        if not plan.is_idle:
            return moment, plan
    return None


def check_clock(accounts: Sequence[SubAccount], platform_time: float | None, now: datetime) -> None:
    """Refuse to judge keys' ages if clocks differ by more than 10 minutes."""
    cure = "Nothing was changed. Set this worker's clock right (NTP), and run the task again."
    if platform_time is None:
        raise ClockDisagrees(
            "The listing has no Date header, so nobody can tell whether this worker's clock is right, and "
            "how old keys are. Nothing was changed. Does a proxy or a gateway take that header away?",
            call="list",
        )
    theirs = datetime.fromtimestamp(platform_time, UTC)
    if abs(theirs - now) > CLOCKS_AGREE:
        raise ClockDisagrees(
            f"This worker's clock says {time_text(now)}, and the platform's says {time_text(theirs)}: they "
            f"differ by more than 10 minutes. {cure}",
            call="list",
        )
    newest = max(((each.created, each.id) for each in accounts if each.created), default=None)
    if newest is not None and newest[0] - now > CLOCKS_AGREE:
        raise ClockDisagrees(
            f"Sub-account {newest[1]} was created at {time_text(newest[0])}, and this worker's clock says "
            f"{time_text(now)}: more than 10 minutes before. {cure}",
            call="list",
        )


def time_text(moment: datetime) -> str:
    """Write a time for people."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def closing_line(
    request: RotateRequest,
    accounts: Sequence[SubAccount],
    done: tuple[int, int, int],
    due: tuple[datetime, RotatePlan] | None,
    now: datetime,
) -> str:
    """Return the result and what is due next, in one line."""
    plan = decide(request, accounts, {}, now)
    old = f", {len(plan.old)} of them older than {span_text(request.every)}" if plan.old else ""
    created, delivered, deleted = done
    line = (
        f"Alias {request.wanted.alias!r} has {count_of(accounts)}{old} ({request.wanted.count} wanted; "
        f"{created} created, {delivered} delivered, {deleted} deleted now): ids {ids_of(accounts)}."
    )
    if due is None:
        return f"{line} Nothing is due."
    return f"{line} Next, at {time_text(due[0])}: {' '.join(due[1].reasons)}"
