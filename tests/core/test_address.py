"""What a URL may mean: where the deployment is, and the base URLs that its API may have."""

from __future__ import annotations

import pytest

from livecheck.core.address import read_address

HOST = "https://host:8000"


@pytest.mark.parametrize(
    ("path", "root", "bases"),
    [
        ("", "", ("/v1", "")),
        ("/v1/", "", ("/v1", "")),
        ("/openai/v1", "/openai", ("/openai/v1", "/openai")),
        ("/v2/ID/openai/v1", "/v2/ID/openai", ("/v2/ID/openai/v1", "/v2/ID/openai")),
        ("/llm", "/llm", ("/llm/v1", "/llm")),
        ("/api/paas/v4", "/api/paas", ("/api/paas/v4", "/api/paas/v4/v1")),
        ("/v1beta/openai/", "", ("/v1beta/openai", "/v1beta/openai/v1")),
        ("/api/paas/v4/v1", "/api/paas/v4", ("/api/paas/v4/v1", "/api/paas/v4")),
        ("/v1/chat/completions", "", ("/v1", "")),
        ("/v1/chat/completions/", "", ("/v1", "")),
        ("/v1/completions", "", ("/v1", "")),
        ("/v1/models", "", ("/v1", "")),
        ("/v1/chat", "", ("/v1", "")),
        ("/chat/completions", "", ("/v1", "")),
        ("/llm/v1/embeddings", "/llm", ("/llm/v1", "/llm")),
        ("/api/paas/v4/chat/completions", "/api/paas", ("/api/paas/v4", "/api/paas/v4/v1")),
        ("/models", "", ("/v1", "", "/models/v1")),  # an endpoint, or a prefix
        ("/api/generate", "", ("/v1", "")),
        ("/docs", "", ("/v1", "", "/docs/v1")),
        ("/health", "", ("/v1", "", "/health/v1")),
        ("/chat", "/chat", ("/chat/v1", "/chat")),  # more often a prefix
        ("/rev1", "/rev1", ("/rev1/v1", "/rev1")),
    ],
)
def test_a_url_may_mean_these_bases(path: str, root: str, bases: tuple[str, ...]) -> None:
    address = read_address(HOST + path)
    assert address.root == HOST + root
    assert address.bases == tuple(HOST + base for base in bases)
    assert address.base == address.bases[0]


@pytest.mark.parametrize(
    ("path", "is_usual"),
    [("", True), ("/v1/", True), ("/llm", True), ("/api/v4", True), ("/v1/models", False)],
)
def test_a_cut_endpoint_is_not_what_was_given(path: str, is_usual: bool) -> None:
    assert read_address(HOST + path).is_usual is is_usual


@pytest.mark.parametrize(
    ("path", "other"),
    [("", None), ("/llm/v1", None), ("/v2/ID/openai/v1", None), ("/api/v4", HOST)],
)
def test_only_behind_the_prefix_of_an_api_there_is_another_root(
    path: str, other: str | None
) -> None:
    assert read_address(HOST + path).other_root == other


def test_a_prefix_without_a_version_is_the_apis_once_the_api_is_found_there() -> None:
    address = read_address(f"{HOST}/llm")
    assert address.other_root is None
    address.base = f"{HOST}/llm"
    assert address.other_root == HOST
