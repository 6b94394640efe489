"""The words and table cells that every form of the report shares, from text to JUnit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from livecheck.core.text import figure, plural, visible
from livecheck.report.baseline import MAX_ADVICE, Change, Finding
from livecheck.report.thresholds import Criterion, Verdict

if TYPE_CHECKING:  # verdict.py takes its words from here
    from livecheck.report.verdict import About, BaselineRun

NOT_DECIDED = "NOT DECIDED"
MAX_SHOWN = 2000  # characters of one text
ORDER = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS, Verdict.REPORTED)


def shown(raw: str, most: int = MAX_SHOWN) -> str:
    """A text as every form of the report shows it: visible, and not too long.

    Nearly all text of a report is foreign: a server's words, file names, names in result files, and
    options. So all text of each form goes through this function, whatever it is about.
    """
    text = visible(raw[:most])
    return text if len(text) + len(raw[most:]) <= most else text[: most - 3] + "..."


def shown_within(value: Any) -> Any:
    """The value with each text in it as `shown` gives it."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {key: shown_within(each) for key, each in value.items()}
    return [shown_within(each) for each in value] if isinstance(value, (list, tuple)) else value


def by_verdict(criteria: Sequence[Criterion]) -> list[Criterion]:
    """What is wrong comes first."""
    return sorted(criteria, key=lambda each: ORDER.index(each.verdict))


def verdict_word(criterion: Criterion) -> str:
    return NOT_DECIDED if criterion.verdict is Verdict.UNDECIDED else criterion.verdict.value


def facts(about: About) -> dict[str, str]:
    """What was tested, for the top of a document."""
    time = about.measured_at
    quant = f" ({about.quant})" if about.quant else ""
    return {
        "GPU": about.gpu or "not given (--gpu)",
        "Model": f"{about.model or 'not given (--model-name)'}{quant}",
        "Date": f"{time:%Y-%m-%d %H:%M} UTC" if time else "not known",
        "Endpoint": ", ".join(about.urls) or "not known",
    }


def finding_word(change: Change) -> str:
    if change.finding is Finding.UNCLEAR:
        return f"needs {change.needed}" if change.needed else "unclear"
    word: str = change.finding.value
    return word.upper() if change.finding is Finding.WORSE else word


def short_finding_word(change: Change) -> str:
    """The same in a narrow column."""
    return "+1 session" if change.finding is Finding.SESSION else finding_word(change)


def change_label(change: Change) -> str:
    """The level and the metric; for the gateway's overhead the metric alone."""
    return change.metric.label_in(change.document)


def percent(share: float | None) -> str:
    """A change with its sign; a question mark where it is not bounded."""
    return "?" if share is None else f"{share:+.1%}".replace("%", " %")


def margin_text(share: float) -> str:
    return f"{share * 100:.3g} %"


# --- the columns of the tables; the terminal's are narrower


def threshold_cells(criterion: Criterion) -> dict[str, str]:
    return {
        "Metric": criterion.name,
        "Target": criterion.target,
        "Value": criterion.value,
        "Samples": "-" if criterion.samples is None else str(criterion.samples),
        "Verdict": verdict_word(criterion),
    }


def change_cells(change: Change) -> dict[str, str]:
    return {
        "Metric": change_label(change),
        "Then": f"{figure(change.then)} {change.metric.unit}",
        "Now": f"{figure(change.now)} {change.metric.unit}",
        "Change": percent(change.change),
        "95 % interval": interval(change),
        "Verdict": finding_word(change),
    }


def interval(change: Change) -> str:
    return f"{percent(change.low)} to {percent(change.high)}"


# --- sentences about a comparison


def about_runs(changes: Sequence[Change]) -> str:
    """What the intervals contain, which depends on the number of baseline sessions and runs."""
    runs, sessions = (max(getattr(e, key) for e in changes) for key in ("runs", "sessions"))
    several = f" of {runs} runs" if runs > sessions else ""
    if sessions > 1:
        count = f"{sessions} baseline sessions{several and f' ({runs} runs)'}"
        return f"{count}: the intervals include the spread between sessions"
    return f"one baseline session{several}: the intervals show only the noise within it"


def baseline_run(run: BaselineRun) -> str:
    """A run that was compared with, in a line."""
    time = f"{run.started_at:%Y-%m-%d %H:%M} UTC" if run.started_at else "time not known"
    about = [time, run.verdict.upper(), f"session {run.session}", run.title]
    return f"{run.path}: {', '.join(filter(None, about))}"


def change_in_words(change: Change) -> str:
    """A change without its level, which is already named beside it."""
    return f"{change.metric.label} {percent(change.change)} ({interval(change)})"


def session_in_words(change: Change, assumed: float) -> str:
    """Why a change beyond the noise is not called worse, and what would decide it."""
    seen = f"{change_in_words(change)} needs another session"
    if change.sessions > 1:
        doubt = "the spread between the sessions of the baseline could explain it"
    else:
        doubt = f"sessions of the same system may differ by {margin_text(assumed)}"
    advice = "measure the baseline's release again on another day, as a further --baseline"
    return f"{seen}: {doubt}; {advice}"


def unclear_in_words(change: Change) -> str:
    """Why a change is not decided, and what would decide it."""
    seen, margin = f"{change.metric.label} {percent(change.change)}", margin_text(change.margin)
    if change.is_worse_alone:
        doubt = f"worse, but not beyond doubt among {change.comparisons} comparisons"
        return f"{seen}: {doubt}: add a baseline run"
    if not math.isfinite(change.noise):
        return f"{seen}: {plural(change.samples, 'request')} cannot tell"
    if change.needed is not None:
        advice = f"{change.needed} requests in each run would be enough"
    elif change.spread:
        advice = "the baseline runs differ too much from each other"
    else:
        advice = f"{MAX_ADVICE} requests in each run would not be enough"
    return f"{seen}: not enough data to see {margin}: {advice}"


def legend(changes: Sequence[Change], margin: float) -> list[str]:
    """What the words in the last column mean, those that are there."""
    least = margin_text(margin)
    findings = {each.finding for each in changes}
    undecided = [each for each in changes if each.finding is Finding.UNCLEAR]
    lines = []
    if Finding.WORSE in findings:
        lines.append(f"WORSE: by more than {least}, beyond doubt among {len(changes)} comparisons")
    if Finding.SESSION in findings:
        text = "needs another session (+1 session): more than the noise within a session explains"
        lines.append(f"{text}, but two sessions of the same system may differ by as much")
    if any(each.needed for each in undecided):
        text = f"needs N: not enough data to see {least}; N requests in each run would be enough"
        lines.append(text)
    if not all(each.needed for each in undecided):
        lines.append(f"unclear: too few requests, or the runs differ too much, to see {least}")
    if Finding.SAME in findings:
        lines.append(f"same: not worse by {least}")
    if Finding.BETTER in findings:
        lines.append(f"better: by at least {least}, and not by chance")
    if any(each.margin > margin for each in changes):
        lines.append("small changes of /ping and /health do not count")
    if any(each.differs_from_medians and each.metric.statistic == "p50" for each in changes):
        text = "change: the median over all pairs of requests, not the change of the medians"
        lines.append(text)
    return lines
