"""Which steps of a plan are due, and when to look again. Pure.

The caller writes a due step down (messages of that step number, in the transaction that remembers
the step as sent) and asks again at `wake_us`, or whenever an answer or a failure comes in. Killed
in between, it asks again and gets the same step under the same number.

Any human answer ends the raising to further levels. What belongs to the first row goes out all the
same, but for whoever has answered: an operator who clicks after 5 s has not told the station.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from alerting.plan import Plan, Step, To
from alerting.working_days import SECOND_US

NUMBER_MAX = 32_767
"""`message.step` is a smallint: at one repeat a minute, 22 days without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one plan has come. Another device, a higher tier or a new onset begins a new one;
    an incident that is closed has none.

    `sent`: step number -> when. `unreachable`: steps that are known to have reached nobody: no
    address, or every attempt refused. An entry on the operators' list reaches nobody by itself.
    `answered`: as whom humans have answered.
    """

    begun_us: int
    sent: Mapping[int, int]
    unreachable: frozenset[int] = frozenset()
    answered: frozenset[To] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A step that is due since `due_us`, with the pages that are still wanted. In a repeat `number`
    is not the step's own.
    """

    number: int
    due_us: int
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is due, in order; `wake_us` is None when nothing will be any more."""

    due: tuple[Sending, ...]
    wake_us: int | None


def decide(plan: Plan, progress: Progress, now_us: int) -> Decision:
    """What to send now.

    What fell due while nobody looked goes at once, each level, but of the repeats only the newest:
    ten missed ones are one call.
    """
    due: list[Sending] = []
    wakes: list[int] = []
    for step, due_us in _times(plan, progress):
        if due_us > now_us:
            wakes.append(due_us)
            break
        due.append(Sending(number=step.number, due_us=due_us, step=step))
    if plan.repeat_s is not None and not progress.answered:
        each_us, last = plan.repeat_s * SECOND_US, plan.steps[-1]
        if last.number in progress.sent:
            again = _repeat(last, each_us, progress, now_us)
            due += again.due
            wakes += [] if again.wake_us is None else [again.wake_us]
        elif any(one.number == last.number for one in due):
            wakes.append(now_us + each_us)  # the first repeat counts from when it is sent
    return Decision(due=tuple(due), wake_us=min(wakes, default=None))


def _times(plan: Plan, progress: Progress) -> list[tuple[Step, int]]:
    """What is not sent yet and still wanted, with when it is due, the earliest first. A level that
    reached nobody is no reason to wait for the next one.
    """
    found: list[tuple[Step, int]] = []
    previous_us, lost = progress.begun_us, _first_lost(plan, progress)
    for step in plan.steps:
        if not step.level:
            due_us = progress.begun_us + step.after_s * SECOND_US
        else:
            due_us = previous_us if lost else previous_us + plan.raise_after_s * SECOND_US
            previous_us, lost = due_us, step.number in progress.unreachable
        wanted = _wanted(step, progress)
        if step.number not in progress.sent and wanted is not None:
            found.append((wanted, due_us))
    return sorted(found, key=lambda one: (one[1], one[0].number))


def _wanted(step: Step, progress: Progress) -> Step | None:
    if not progress.answered:
        return step
    pages = tuple(page for page in step.pages if page.to not in progress.answered)
    return None if step.level or not pages else replace(step, pages=pages)


def _first_lost(plan: Plan, progress: Progress) -> bool:
    """Whether all that was said at once reached nobody."""
    at_once = {step.number for step in plan.steps if not step.level and step.after_s == 0}
    return bool(at_once) and at_once <= progress.unreachable


def _repeat(last: Step, each_us: int, progress: Progress, now_us: int) -> Decision:
    since_us = progress.sent[last.number]
    rounds = max((now_us - since_us) // each_us, 0)
    number, due_us = last.number + rounds, since_us + rounds * each_us
    if number > NUMBER_MAX:
        return Decision(due=(), wake_us=None)
    if number in progress.sent:
        return Decision(due=(), wake_us=due_us + each_us)
    again = Sending(number=number, due_us=due_us, step=last)
    return Decision(due=(again,), wake_us=due_us + each_us)
