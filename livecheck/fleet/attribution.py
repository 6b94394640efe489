"""Who served a request: by a response header, the request log, the fingerprint or the model.

Nothing is sent here. `attribute` tries these sources in this order, and says with the result how
far it can be trusted.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import shorten
from livecheck.fleet.api import NAME_LENGTH, LogEntry, Runner
from livecheck.fleet.request_log import RequestLog, find_requests, is_for, is_over
from livecheck.wire.answer import Answer

# Headers that name a runner.
RUNNER_HEADERS = ("x-runner-id", "x-runner", "x-worker-id", "x-worker")
# Headers that name a runner, or a proxy in front of all runners.
PROXY_HEADERS = (
    "x-served-by",
    "x-backend",
    "x-backend-server",
    "x-upstream",
    "x-instance-id",
    "x-gateway-destination-endpoint-served",
)
# Signs of a content delivery network: its machines name themselves in X-Served-By.
EDGE = late_pattern(r"via|x-cache|x-timer|cf-ray|fastly-.*", re.IGNORECASE)
MODEL_LENGTH = 300  # characters of a model's name, which is compared with what runners offer
# A header that is different on more answers than this, on each of them, numbers the requests: this
# many runners are possible. It applies to --runner-header; of the others no two may be different.
MOST_DIFFERENT = 4


# --- what is known


@dataclass
class Requests:
    """Our own requests: those sent one at a time, and those sent together after them.

    `model`: what was asked for, a model or a class.
    """

    model: str
    sent_alone: list[Answer] = field(default_factory=list)
    sent_together: list[Answer] = field(default_factory=list)

    @property
    def alone(self) -> list[Answer]:
        return [answer for answer in self.sent_alone if not answer.is_excluded]

    @property
    def measured(self) -> list[Answer]:
        return [answer for answer in self.sent_together if not answer.is_excluded]

    @property
    def answered(self) -> list[Answer]:
        """Those that succeeded, in both parts."""
        return succeeded([*self.alone, *self.measured])

    @property
    def models(self) -> set[str]:
        return {name for name in map(model_of, self.answered) if name}


def succeeded(answers: Iterable[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.completion.problem is None]


def model_of(answer: Answer) -> str | None:
    name = answer.completion.model
    return shorten(name, MODEL_LENGTH) if name else None


def fingerprint_of(answer: Answer) -> str | None:
    mark = answer.completion.fingerprint
    return shorten(mark) if mark else None


def edge_of(answer: Answer) -> str | None:
    """The name of a header that a content delivery network adds."""
    names = (name for name, _ in answer.reply.message.headers)
    found = next(filter(EDGE.fullmatch, names), None)
    return None if found is None else shorten(found, NAME_LENGTH)


def header_names(own: str | None) -> list[str]:
    """All the headers that may name a runner, the operator's own one first."""
    return [*dict.fromkeys([*([own] if own else []), *RUNNER_HEADERS, *PROXY_HEADERS])]


def naming_headers(answer: Answer, own: str | None) -> dict[str, str]:
    """Those of these headers that the answer has, with their values."""
    values = {name: answer.shown_header(name, NAME_LENGTH) for name in header_names(own)}
    return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class KnownRunners:
    """The runners that the admin API tells of: those online before and after the requests (None
    when it cannot be read), those online at neither time, and the others."""

    online: Sequence[Runner] | None = None
    offline: Sequence[Runner] = ()
    changed: Sequence[Runner] = ()

    @property
    def listed(self) -> list[Runner]:
        return [*(self.online or ()), *self.offline, *self.changed]

    def offering(self, models: Collection[str]) -> list[Runner]:
        """Those online that have any of these models."""
        return [runner for runner in self.online or () if runner.offers(models)]

    # Both are asked once for each runner, and there may be thousands.

    @cached_property
    def _names(self) -> dict[str, str]:
        """The name of each runner, by its id."""
        return {runner.id: runner.name for runner in self.listed}

    @cached_property
    def _name_counts(self) -> Counter[str]:
        return Counter(self._names.values())

    @cached_property
    def _ids_and_names(self) -> frozenset[str]:
        return frozenset([*self._names, *self._names.values()])

    def label(self, text: str) -> str:
        """What to call the runner with this id or name: its name, unless another has that too."""
        name = self._names.get(text, text)
        is_unique = self._name_counts[name] < 2
        return shorten(name if is_unique else text, NAME_LENGTH)

    def are_all(self, texts: Iterable[str]) -> bool:
        """Whether each of these is the id or the name of a runner."""
        return self._ids_and_names.issuperset(texts)


def compare(before: Sequence[Runner] | None, after: Sequence[Runner] | None) -> KnownRunners:
    """Who was online at both times, and who at neither; None: the list could not be read."""
    if before is None or after is None:
        return KnownRunners()
    online = [{runner.id for runner in listed if runner.is_online} for listed in (before, after)]
    times = {runner.id: sum(runner.id in ids for ids in online) for runner in after}
    groups = [[runner for runner in after if times[runner.id] == count] for count in (2, 0, 1)]
    return KnownRunners(*groups)


# --- who served


@dataclass(frozen=True)
class Attribution:
    """Who served each measured request, as far as `source` tells.

    runners: by request; None where it is not known. limits: what cannot be told from this source;
    None when each name stands for one runner. doubt: why even different names may be one runner's.
    others: requests of others in the same time, by runner. similar: those of them that may be
    confused with ours.
    """

    source: str
    runners: tuple[str | None, ...]
    limits: str | None = None
    others: Counter[str] = field(default_factory=Counter)
    similar: Counter[str] = field(default_factory=Counter)
    doubt: str | None = None

    @property
    def counts(self) -> Counter[str]:
        return Counter(runner for runner in self.runners if runner is not None)

    @property
    def unknown(self) -> int:
        return self.runners.count(None)

    @property
    def surely_served(self) -> int:
        """How many runners served, whichever of the similar requests are ours."""
        not_ours, served = self.similar.total(), 0
        for count in sorted((self.counts + self.similar).values()):
            served += count > not_ours
            not_ours = max(0, not_ours - count)
        return served

    def bounds(self, runner: str) -> tuple[int, int]:
        """How many requests this runner served at least and at most, whichever are ours."""
        count, same = self.counts[runner], self.similar[runner]
        least = max(0, count - (self.similar.total() - same))
        return least, min(len(self.runners), count + same + self.unknown)

    @property
    def busiest(self) -> str:
        """The runner that may have served the most."""
        names = sorted({*self.counts, *self.similar})
        return max(names, key=lambda name: (self.bounds(name)[1], self.counts[name]))


def attribute(
    requests: Requests, known: KnownRunners, log: RequestLog | None, own_header: str | None
) -> Attribution:
    """By the first source that names runners; else by the first that tells two of them apart."""
    by_the_log = by_log(requests, known, log) if log else None
    tried = [
        by_header(requests, known, own_header),
        by_the_log,
        by_fingerprint(requests, known),
        by_model(requests, known),
    ]
    found = [each for each in tried if each]
    exact = [each for each in found if each.limits is None]
    several = [each for each in found if len(each.counts) > 1]
    nothing = Attribution("nothing", (None,) * len(requests.measured), "nothing tells who served")
    best = [*exact, *several, *found, nothing][0]
    if by_the_log and best is not by_the_log and known.are_all(best.counts):
        return dataclasses.replace(best, others=by_the_log.others)
    return best


def naming_header(requests: Requests, known: KnownRunners, own: str | None) -> str | None:
    """The operator's own header, if it is there; else the one that is on the most answers."""
    headers = {answer: naming_headers(answer, own) for answer in requests.measured}
    counts = Counter(name for answer in succeeded(headers) for name in headers[answer])
    names = [name for name in header_names(own) if counts[name]]
    names = [name for name in names if may_name_runners(name, requests, known, own)]
    # of equal ones the first
    return max(names, key=lambda each: (each == own, counts[each]), default=None)


def by_header(requests: Requests, known: KnownRunners, own: str | None) -> Attribution | None:
    """By the header that names the runner of an answer."""
    name = naming_header(requests, known, own)
    if name is None:
        return None
    values = [naming_headers(answer, own).get(name) for answer in requests.measured]
    different = {value for value in values if value}
    is_a_runner = name in (own, *RUNNER_HEADERS) or known.are_all(different)
    limits = "the header may name something in front of the runners"
    return Attribution(
        f"the header {name.title()}",
        tuple(known.label(value) if value else None for value in values),
        None if is_a_runner or len(different) > 1 else limits,
    )


def may_name_runners(name: str, requests: Requests, known: KnownRunners, own: str | None) -> bool:
    """Whether the values of this header may be runners.

    Where the admin API lists the runners, they have to be among these, unless it is the operator's
    own header. A value that is new on each answer is a number of the request. X-Served-By beside a
    header of a content delivery network names the machines of that.
    """
    answers = requests.answered
    values = [value for answer in answers if (value := answer.shown_header(name, NAME_LENGTH))]
    if known.are_all(values):
        return True
    is_all_different = len(set(values)) == len(values)
    if is_all_different and len(values) > (MOST_DIFFERENT if name == own else 1):
        return False
    if name == own:
        return True
    if name == "x-served-by" and any(map(edge_of, answers)):
        return False
    return known.online is None


def by_log(requests: Requests, known: KnownRunners, log: RequestLog) -> Attribution | None:
    """By the entries of the request log that are about our requests."""
    if log.alone is None or not requests.alone:
        return None
    models = {requests.model, *requests.models}
    entries = [entry for entry in log.entries if is_for(entry, models) and is_over(entry)]
    found = find_requests(requests.measured, entries, requests.alone[-1], log.alone)
    if found is None:
        return None

    def label(entry: LogEntry | None) -> str | None:
        return known.label(entry.runner_id) if entry and entry.runner_id else None

    labels = tuple(label(found.entries.get(n)) for n in range(len(requests.measured)))
    if not any(labels):
        return None
    ours = {entry.id for entry in found.entries.values()}
    others = [entry for entry in log.entries if entry.id not in ours]
    return Attribution(
        "the request log",
        labels,
        others=Counter(filter(None, map(label, others))),
        similar=Counter(filter(None, (label(each) for each in others if each.id in found.similar))),
    )


def by_fingerprint(requests: Requests, known: KnownRunners) -> Attribution | None:
    """By the answers' system_fingerprint, unless it is new on each answer, as some servers do."""
    answers = requests.answered
    marks = [fingerprint_of(answer) for answer in answers]
    if None in marks or len(set(marks)) == len(marks):
        return None
    limits = "runners of the same build and settings cannot be told apart"
    pairs = {(fingerprint_of(answer), model_of(answer)) for answer in answers}
    goes_with_model = len(pairs) == len(set(marks)) == len(requests.models)
    is_one = known.online is not None and len(known.online) < 2
    doubt = one_for_all(requests, known) if goes_with_model or is_one else None
    return Attribution(
        "system_fingerprint", tuple(map(fingerprint_of, requests.measured)), limits, doubt=doubt
    )


def by_model(requests: Requests, known: KnownRunners) -> Attribution | None:
    """By the model that answered. It stands for a runner where only one offers it."""
    models = [model_of(answer) for answer in requests.measured]
    offering = {model: known.offering([model]) for model in set(models) if model}
    if not offering:
        return None
    if all(len(runners) == 1 for runners in offering.values()):
        only = {model: known.label(runners[0].id) for model, runners in offering.items()}
        labels = tuple(only[model] if model else None for model in models)
        return Attribution("the answer's model, which one runner offers", labels)
    limits = "runners with the same model cannot be told apart"
    doubt = one_for_all(requests, known)
    return Attribution("the answer's model", tuple(models), limits, doubt=doubt)


def one_for_all(requests: Requests, known: KnownRunners) -> str | None:
    """Why all the models that answered may have been one runner's."""
    if known.online is not None and len(known.online) < 2:
        return "the admin API does not show two runners online"
    runners = known.online or ()
    listed = {model for model in requests.models if known.offering([model])}
    able = [known.label(runner.id) for runner in runners if listed <= runner.models]
    return f"{able[0]} alone could have given all these answers" if able else None
