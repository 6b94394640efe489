"""Faults of what a gateway says about its queue: figures that cannot be true, or not together."""

from __future__ import annotations

import itertools
from typing import Any

from ..hooks import Hooks
from .answers import change_json
from .fault import Install

Fields = dict[str, Any]


def in_queue(**more: int) -> Install:
    """Add these numbers to the figures of /health's `queue`."""

    def change(content: Fields) -> None:
        for name, number in more.items():
            content["queue"][name] += number

    return change_json("health", change)


def active_never_counts(content: Fields) -> None:
    content["queue"]["active"] = 0


def keeps_highest(where: str, group: str, name: str) -> Install:
    """This figure never falls."""

    def install(hooks: Hooks) -> None:
        most = 0

        def change(content: Fields) -> None:
            nonlocal most
            most = content[group][name] = max(most, content[group][name])

        change_json(where, change)(hooks)

    return install


def active_forgets_the_first(hooks: Hooks) -> None:
    """`active` is right at first, and 0 as soon as it has been read a few times with a queue."""
    seen = itertools.count()

    def change(content: Fields) -> None:
        if content["queue"]["waiting"] and next(seen) > 3:
            content["queue"]["active"] = 0

    change_json("health", change)(hooks)


def active_below_zero(hooks: Hooks) -> None:
    """Each completion is taken off twice: at rest, `active` is minus their number."""

    def change(content: Fields) -> None:
        others = 1  # the list of models, with which a run begins
        ended = content["gateway"]["metrics"]["requests_total"] - others
        content["queue"]["active"] -= max(0, ended)

    change_json("health", change)(hooks)


def total_counts_only_errors(content: Fields) -> None:
    content["gateway"]["requests_total"] = content["gateway"]["requests_error"]


def active_metric_is_0(content: Fields) -> None:
    content["gateway"]["requests_active"] = 0


def requests_of_two_gateways(hooks: Hooks) -> None:
    """Every second answer of the JSON form comes from a gateway that has served nobody."""
    turns = itertools.cycle((False, True))

    def change(content: Fields) -> None:
        if next(turns):
            content["gateway"] |= {"requests_total": 0, "requests_success": 0, "requests_error": 0}

    change_json("metrics", change)(hooks)


def other_rejections_in_health(content: Fields) -> None:
    content["gateway"]["metrics"]["queue_rejections"] = 77


def depth_counts_the_served(content: Fields) -> None:
    """queue_depth is right while requests wait; a request that is served alone counts as well."""
    figures = content["gateway"]
    if not figures["queue_depth"] and figures["requests_active"]:
        figures["queue_depth"] = 3
