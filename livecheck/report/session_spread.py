"""What several runs of a baseline say together: repeats of a session, and several sessions. Pure.

**The model.** The logarithm of a figure varies from request to request, from repeat to repeat
within a session (the same deployment, measured again at once), and from session to session (another
day, another start, other neighbours). A comparison has one run now, and a baseline of k sessions
with one or more repeats each. Repeats show nothing of the spread between sessions, so they count as
one session, whose value is their mean: ten repeats are not ten independent runs.

**The variances** between repeats and between sessions are what the values differ by, beyond what
the level below explains (method of moments, as in DerSimonian and Laird 1986, nested). They are
estimated for each metric from all the levels together, but the degrees of freedom are those of one
level: the levels of a session are measured on the same day. A mean of k sessions and a run now
differ by S (1 + 1 / k), and the interval is Student's, with degrees of freedom by Satterthwaite
(1946): with two or three sessions that differ it is wide, as it should be.

**With one session** nobody sees the spread between sessions. The interval shows the noise within
the session alone. For the question whether the spread could explain a slowdown, a spread is
assumed: `SESSION_SPREAD`, which counts as much as `PRIOR_DF` degrees of freedom. With more
sessions, what they show is weighed against it: (d0 s0² + d s²) / (d0 + d), with Student's
distribution at d0 + d, the moderated t test of Smyth (2004). Otherwise a second session, with one
degree of freedom, would tell less than the first with its assumption. A slowdown is beyond the
spread when this test says so, or the t test on the session means alone, with k - 1 degrees of
freedom: systems that are steadier than assumed are seen to be, and the errors of both together stay
below 5 % (tests/tools/power.py). The interval that is shown is the narrower one of the moderated
one and the sessions' own.

Smyth, G. K. (2004), "Linear models and empirical Bayes methods for assessing differential
expression in microarray experiments", section 4, doi 10.2202/1544-6115.1027.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ALPHA = 0.025  # one-sided error level; that of a 95 % interval
Z = statistics.NormalDist().inv_cdf(1 - ALPHA)
# Clouds and shared machines: figures of two sessions of the same system differ by some per cent.
SESSION_SPREAD = 0.05  # standard deviation, as a share
# As if from nine sessions. With fewer, a slowdown of 30 % would not be found with one session; with
# more, systems with twice the assumed spread would give many false alarms (see power.py).
PRIOR_DF = 8.0
LEAST_ERROR = 1e-12  # of an estimate: equal values have no noise


@dataclass(frozen=True)
class Shift:
    """How far one run lies from another on the logarithms; above 0 is worse.

    tail(x) is the p of "it is x or less". var_now and var_then add up to the estimate's variance.
    """

    estimate: float
    var_now: float
    var_then: float
    low: float
    high: float
    tail: Callable[[float], float]

    @property
    def is_bounded(self) -> bool:
        return math.isfinite(self.var_now) and math.isfinite(self.var_then)


def student_shift(estimate: float, var_now: float, var_then: float, df: float) -> Shift:
    """A shift whose estimate has Student's distribution; the normal one for infinite `df`."""
    from scipy import special  # quick to import, and to compute: scipy.stats is neither

    is_normal = not math.isfinite(df)
    error = max(math.sqrt(var_now + var_then), LEAST_ERROR)
    half = (Z if is_normal else float(special.stdtrit(df, 1 - ALPHA))) * error

    def tail(x: float) -> float:
        z = (x - estimate) / error
        return float(special.ndtr(z) if is_normal else special.stdtr(df, z))

    return Shift(estimate, var_now, var_then, estimate - half, estimate + half, tail)


@dataclass(frozen=True)
class Between:
    """Variances of a metric's logarithm, between repeats of a session and between sessions, and
    their degrees of freedom; 0 of them: there is nothing that would show it."""

    repeats: float = 0.0
    repeats_df: int = 0
    sessions: float = 0.0
    sessions_df: int = 0


Sessions = Sequence[Sequence[Shift]]  # the shift from each repeat of each session


def by_session(shifts: Sequence[Shift], sessions: Sequence[int]) -> list[list[Shift]]:
    """The shifts of the runs of each session together. sessions: the number of each run's."""
    found: dict[int, list[Shift]] = {}
    for number, shift in zip(sessions, shifts, strict=True):
        found.setdefault(number, []).append(shift)
    return list(found.values())


def spread_between(levels: Sequence[Sessions]) -> Between:
    """The spreads of one metric, from all levels that show them."""
    levels = [one for one in levels if all(e.is_bounded for each in one for e in each)]
    repeated = [each for one in levels for each in one if len(each) > 1]
    repeats = weighted_excess((excess_of_repeats(each), len(each) - 1) for each in repeated)
    several = [one for one in levels if len(one) > 1]
    sessions = weighted_excess((excess_of_sessions(e, repeats), len(e) - 1) for e in several)
    return Between(
        repeats,
        max((sum(len(each) - 1 for each in one) for one in levels), default=0),
        sessions,
        max((len(one) - 1 for one in several), default=0),
    )


def weighted_excess(found: Iterable[tuple[float, int]]) -> float:
    """The mean of variances by their degrees of freedom; a negative one is none."""
    pairs = list(found)
    df = sum(own for _, own in pairs)
    return max(0.0, sum(excess * own for excess, own in pairs) / df) if df else 0.0


def excess_of_repeats(repeats: Sequence[Shift]) -> float:
    """By how much the repeats of one session differ beyond the noise within them."""
    spread = statistics.variance(each.estimate for each in repeats)
    return spread - statistics.fmean(each.var_then for each in repeats)


def excess_of_sessions(sessions: Sessions, repeats: float) -> float:
    """By how much the sessions differ beyond what the noise and the repeats explain."""
    spread = statistics.variance(map(mean_estimate, sessions))
    explained = [
        (statistics.fmean(each.var_then for each in one) + repeats) / len(one) for one in sessions
    ]
    return spread - statistics.fmean(explained)


def mean_estimate(repeats: Sequence[Shift]) -> float:
    return statistics.fmean(each.estimate for each in repeats)


# --- all runs together


@dataclass(frozen=True)
class Combined:
    """The shift of this run from all sessions of the baseline together.

    within: with the noise of requests and repeats alone. whole: the one that is shown, with the
    spread between sessions where there are several. tests: those that allow for this spread.
    spread: the variance in `whole` that more requests would not make smaller.
    """

    within: Shift
    whole: Shift
    tests: Sequence[Shift]
    spread: float

    def p_sessions(self, x: float) -> float:
        """The p of "it is x or less", when sessions differ."""
        return min(each.tail(x) for each in self.tests)


def combined(sessions: Sessions, between: Between, assumed: float) -> Combined:
    """assumed: the variance between sessions that is assumed while nothing shows it."""
    shifts = [each for one in sessions for each in one]
    if not all(each.is_bounded for each in shifts):
        return Combined(shifts[0], shifts[0], shifts[:1], 0.0)
    k, weights = len(sessions), [1 / (len(sessions) * len(one)) for one in sessions for _ in one]
    shares = sum(weight**2 for weight in weights)
    estimate = statistics.fmean(map(mean_estimate, sessions))
    repeats, repeats_df = between.repeats, between.repeats_df
    var_now = statistics.fmean(each.var_now for each in shifts) + repeats
    var_then = sum(w**2 * each.var_then for w, each in zip(weights, shifts, strict=True))
    var_then += repeats * shares

    def with_spread(variance: float, df: float) -> Shift:
        now, then = var_now + variance, var_then + variance / k
        parts = ((repeats * (1 + shares), repeats_df), (variance * (1 + 1 / k), df))
        return student_shift(estimate, now, then, satterthwaite(now + then, parts))

    within = shifts[0] if len(shifts) == 1 else with_spread(0.0, math.inf)
    df = between.sessions_df if k > 1 else 0
    moderated = (PRIOR_DF * assumed + df * between.sessions) / (PRIOR_DF + df)
    whole, tests = within, [with_spread(moderated, PRIOR_DF + df)]
    if df:
        own = with_spread(between.sessions, df)
        whole = min(own, *tests, key=lambda each: each.high)
        tests.append(student_shift(estimate, own.var_now, own.var_then, df))
    requests = var_now - repeats + var_then - repeats * shares
    return Combined(within, whole, tests, max(0.0, whole.var_now + whole.var_then - requests))


def satterthwaite(total: float, parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, of which only these parts are estimates of few."""
    squares = sum(variance**2 / df for variance, df in parts if variance and df)
    return total**2 / squares if squares else math.inf
