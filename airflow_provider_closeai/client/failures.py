"""Makes the errors of failed calls: what was tried, where, what it proves, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.cache import PoolState
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem


def masked_keys(accounts: Iterable[SubAccount]) -> errors.MaskedKeys | None:
    """Return the error for accounts whose keys the listing hides; ``None`` if there are none."""
    listed = list(accounts)
    keys = Counter(account.token for account in {each.id: each for each in listed}.values())
    # Accounts never share a key: a shared one is what the listing shows in place of theirs.
    masked = [str(each.id) for each in listed if each.token.is_masked or keys[each.token] > 1]
    if not masked:
        return None
    return errors.MaskedKeys(
        f"The listing hides the keys of its sub-accounts (seen at ids {', '.join(masked[:20])}), and this "
        "needs the keys themselves. Nothing was sent. Ask the platform to list keys in full: until then "
        "accounts can be listed and created, but not repriced, deleted or delivered again.",
        call="list",
    )


def require_keys(accounts: Iterable[SubAccount]) -> None:
    """Raise if the listing hides the keys of some accounts."""
    hidden = masked_keys(accounts)
    if hidden is not None:
        raise hidden


def unreadable(items: Sequence[UnreadableItem]) -> errors.UnreadableAccount:
    """Return the error for selected accounts that cannot be read."""
    shown = "; ".join(str(item) for item in items[:20])
    is_or_are = "is" if len(items) == 1 else "are"
    return errors.UnreadableAccount(
        f"{len(items)} of the selected sub-accounts {is_or_are} listed in a form that cannot be read "
        f"({shown}). "
        "Nothing was changed. Look at them in the platform's console; other accounts are not affected.",
        call="list",
    )


def shut_out(call: str, attempts: Sequence[Attempt]) -> errors.AuthenticationFailed:
    """Return the error for a key that all bases, healthy, refuse in a form that is not the platform's."""
    last = attempts[-1]
    return errors.AuthenticationFailed(
        f"{_tried(call, attempts)} Every base is healthy and refuses this key, but not in the platform's "
        "own form. Either the key is wrong (put the main account's sk into the connection's API key), or "
        "something on the way, a firewall or a CDN, blocks these calls from this worker: try from another "
        "network.",
        call=call,
        base=last.base,
        status=last.status,
    )


def no_bases(origin: str, known: PoolState, now: float) -> errors.CloseAIError:
    """Return the error for a discovery that refuses the key or leaves no base known."""
    why = known.why or "another process is still asking"
    if known.refused:
        return errors.AuthenticationFailed(
            f"Discovery at {origin} refuses the key ({why}). Put the main account's sk into the "
            "connection's API key; a sub-account's sk has no access.",
            call="links",
            base=origin,
        )
    wait = max(0.0, known.ask_again_at - now)
    return errors.DiscoveryError(
        f"No base is known: discovery at {origin} failed ({why}), and is asked again in {wait:.0f} s at "
        "the earliest. If you know a base that works, list it in the connection's extra 'api_bases': "
        "then discovery is not needed.",
        call="links",
        base=origin,
        retry_after=wait,
    )


def failed_call(call: str, attempts: Sequence[Attempt], *, writes: bool) -> errors.CloseAIError:
    """Return the error for a call, from its attempts."""
    last = attempts[-1]
    sent = [attempt for attempt in attempts if attempt.outcome is Outcome.UNKNOWN]
    kind: type[errors.CloseAIError]
    if sent and writes:  # whatever came last, an earlier attempt may have changed something
        kind = errors.OutcomeUnknown
        next_step = "It was sent and may have been executed. A retry of the task looks before it sends again."
    elif last.outcome is Outcome.DECLINED:
        kind, next_step = errors.Declined, "The platform says so itself. Try again later."
    elif last.outcome is Outcome.REJECTED:
        kind, next_step = _REJECTIONS.get(last.status, _OTHER_REJECTION)
        if writes and kind is errors.Rejected:
            next_step += " If it was too many at once, or one of several is the reason, lower batch_size."
    elif sent:
        kind = errors.OutcomeUnknown
        next_step = "Nothing was changed: it only reads. Try again later."
    else:
        kind = errors.NotSent
        next_step = "Nothing was sent, nothing was changed. Check the network from this worker to the bases."
        if any(attempt.is_late for attempt in attempts):
            next_step = (
                "Nothing was sent, nothing was changed. What comes before it took too long: discovery, the "
                "probe of a base, a note at Airflow's API server, or the connection. Mend what is slow, or "
                "raise the connection's 'deadline'."
            )
    return kind(
        f"{_tried(call, attempts)} {next_step}",
        call=call,
        base=last.base,
        status=last.status,
        retry_after=last.retry_after,
    )


def _tried(call: str, attempts: Sequence[Attempt]) -> str:
    shown = "; ".join(dict.fromkeys(f"{attempt.base}: {attempt.detail}" for attempt in attempts[-4:]))
    return f"{call!r} failed after {len(attempts)} attempt{'s' * (len(attempts) > 1)} ({shown})."


_OTHER_REJECTION: tuple[type[errors.CloseAIError], str] = (
    errors.Rejected,
    "The platform refused it and changed nothing; sent again it would be refused again. Correct the request.",
)
_REJECTIONS: dict[int | None, tuple[type[errors.CloseAIError], str]] = {
    401: (
        errors.AuthenticationFailed,
        "The key is not known there: put the main account's sk into the connection's API key.",
    ),
    403: (
        errors.PermissionDenied,
        "The key may not do this: a sub-account's sk has no access, use the main account's.",
    ),
    408: (
        errors.RequestTimedOut,
        "The platform did not read it in time and changed nothing. Try again later.",
    ),
    429: (
        errors.RateLimited,
        "The platform asks to wait longer than the connection's 'deadline' and 'max_attempts' allow; "
        "nothing was changed.",
    ),
}
