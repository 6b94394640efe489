"""Where the API of a deployment is: what may be given as --url, and which base URLs it may mean.

An operator gives the host alone, a prefix, the `base_url` of an SDK, or the whole endpoint from
somebody's example. OpenAI's own paths begin with /v1, those of others with another version
(`/api/paas/v4`), with `/v1beta/openai`, or with none at all.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from livecheck.core.late_pattern import late_pattern
from livecheck.core.settings import check_url

API = "/v1"  # how the API's paths begin in the rest of the program, wherever the API is
VERSION = late_pattern(r"v\d+([a-z]+\d*)?")  # a part of a path: v1, v4, v1beta
COMPLETIONS = ["chat", "completions"]
OLLAMA = (["api", "chat"], ["api", "generate"], ["api", "tags"])  # its own, beside /v1
# the last part of an endpoint's path; behind anything but a version it may be a prefix as well
ENDPOINTS = {"models", "completions", "embeddings", "responses", "messages"}
ENDPOINTS |= {"completion", "generate", "invocations"}  # other APIs of engines
ENDPOINTS |= {"health", "ping", "metrics", "docs"}  # those of the deployment itself


@dataclass
class Address:
    """Where a deployment is, as far as it is known.

    `given`: the URL of the operator, without a slash at its end. `root`: the URL below which are
    the endpoints of the deployment itself, such as /health. `bases`: the base URLs that its API may
    have, the likeliest first. `base`: the one that is used; the first, until another is found.
    """

    given: str
    root: str
    bases: tuple[str, ...]
    base: str

    def __str__(self) -> str:
        return self.root

    @property
    def is_usual(self) -> bool:
        """Whether the base is what the given URL says: the URL itself, or /v1 below it."""
        usual = (self.given, self.given + API)
        return self.base in usual and self.base == self.bases[0]

    @property
    def other_root(self) -> str | None:
        """Another place where the deployment's own endpoints may be: at the host itself, when the
        prefix that was given is the API's. Behind a prefix with the usual /v1 there is no other:
        the host may have many deployments."""
        origin = "/".join(self.root.split("/")[:3])
        is_of_api = self.base != self.root + API and self.root != origin
        return origin if is_of_api else None


def read_address(text: str) -> Address:
    """What a URL may mean. ValueError says what is wrong with it, without repeating it."""
    given = check_url(text)
    parts = urllib.parse.urlsplit(given)
    origin = f"{parts.scheme}://{parts.netloc}"
    names = [name for name in parts.path.split("/") if name]
    root, *found = (origin + "".join(f"/{name}" for name in path) for path in places(names))
    bases = tuple(dict.fromkeys(found))
    return Address(given, root, bases, bases[0])


def places(names: list[str]) -> list[list[str]]:
    """The parts of the path of the root, and of each base, for the path that was given."""
    path = without_endpoint(names)
    # a single name behind no version may be that of a prefix
    may_be_prefix = len(names) == len(path) + 1 and not is_version(path[-1:])
    others = [[*names, "v1"]] if may_be_prefix else []
    if path[-1:] == ["v1"]:  # as SDKs want it
        return [path[:-1], path, path[:-1], *others]
    if is_version(path[-1:]):
        return [path[:-1], path, [*path, "v1"], *others]
    if path[-1:] == ["openai"] and is_version(path[-2:-1]):
        return [path[:-2], path, [*path, "v1"], *others]
    return [path, [*path, "v1"], path, *others]


def is_version(names: list[str]) -> bool:
    """Whether this is one part of a path, and the name of a version."""
    return len(names) == 1 and VERSION.fullmatch(names[0]) is not None


def without_endpoint(names: list[str]) -> list[str]:
    """The path without the name of an endpoint at its end."""
    if names[-2:] == COMPLETIONS or names[-2:] in OLLAMA:
        return names[:-2]
    half = names[-1:] == COMPLETIONS[:1] and is_version(names[-2:-1])
    return names[:-1] if half or ENDPOINTS.intersection(names[-1:]) else names
