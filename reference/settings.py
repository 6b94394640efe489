"""Settings: each is an environment variable and an option of the same name; the option wins.

A settings class is a frozen dataclass whose fields are made with ``setting()``. The field
``max_queue_size`` is the variable ``MAX_QUEUE_SIZE`` and the option ``--max-queue-size``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Parser = Callable[[str], Any]
S = TypeVar("S")

MAX_RUNNERS = 16
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # of RFC 9110 5.6.2
CORS_HEADERS = "access-control-"
TAKEN_HEADERS = frozenset(
    (
        *("cache-control", "connection", "content-encoding", "content-length", "content-type"),
        *("date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade", "vary"),
        "www-authenticate",
    )
)


# --- what a text may mean; each raises ValueError with the end of "must be ..."


def whole(minimum: int, maximum: int | None = None) -> Parser:
    limit = f"from {minimum} to {maximum}" if maximum is not None else f"of at least {minimum}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"a whole number {limit}")
        return number

    return parse


def seconds_or_ms(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ValueError("a number of at least 0")
    return number


def flag(text: str) -> bool:
    meanings = {"true": True, "yes": True, "on": True, "1": True}
    meanings |= {"false": False, "no": False, "off": False, "0": False}
    if text.lower() not in meanings:
        raise ValueError("true or false")
    return meanings[text.lower()]


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def keys(text: str) -> tuple[str, ...]:
    found = words(text)
    if not all(key.isascii() and key.isprintable() and " " not in key for key in found):
        raise ValueError("printable ASCII without spaces")
    return found


def one_of(*choices: str) -> Parser:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return parse


def existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("an existing file")
    return path


def layout(text: str) -> dict[str, tuple[str, ...]]:
    """Models by runner, as in `desk=a;tower=a,b`."""
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, _, models = map(str.strip, part.partition("="))
        if name in found:
            raise ValueError("models by runner, each runner once")
        found[name] = words(models)
    if not all(found.values()) or not all(found) or not text.isprintable():
        raise ValueError("models by runner, as in desk=a;tower=a,b")
    if len(found) > MAX_RUNNERS:
        raise ValueError(f"models by runner, at most {MAX_RUNNERS} runners")
    return found


def header_name(text: str) -> str:
    """A name that an answer's other headers do not have; empty for none."""
    name = text.lower()
    if text and (
        not re.fullmatch(TOKEN, text) or name in TAKEN_HEADERS or name.startswith(CORS_HEADERS)
    ):
        raise ValueError("a header's name that answers do not have yet, as X-Runner")
    return text


# --- declaring and reading


def setting(default: Any, parse: Parser, help: str) -> Any:
    """A field of a settings class."""
    metadata = {"parse": parse, "help": help}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def variable(field: dataclasses.Field[Any]) -> str:
    return field.name.upper()


def flag_name(field: dataclasses.Field[Any]) -> str:
    return "--" + field.name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add one option for each field of the settings class; absent ones stay None."""
    group = parser.add_argument_group("settings (also environment variables, in upper case)")
    for field in dataclasses.fields(kind):
        metavar = field.name.upper().rsplit("_", 1)[-1]
        group.add_argument(flag_name(field), metavar=metavar, help=field.metadata["help"])


def read(kind: type[S], options: Mapping[str, Any], environ: Mapping[str, str]) -> S:
    """Settings from options, else environment, else defaults; ValueError names the bad one."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, text = flag_name(field), options.get(field.name)
        if text is None:
            name, text = variable(field), environ.get(variable(field)) or None
        if text is None:
            continue
        try:
            values[field.name] = field.metadata["parse"](text)
        except ValueError as error:
            shown = "" if field.name == "api_keys" else f", not {text!r}"
            raise ValueError(f"{name} must be {error}{shown}") from None
    return kind(**values)


def without_settings(kind: type, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without any variable that would change a deployment of this kind."""
    ours = {variable(field) for field in dataclasses.fields(kind)}
    return {name: value for name, value in environ.items() if name not in ours}


# --- the settings


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """What an engine process is started with."""

    engine: str = setting("llama", one_of("llama", "sim"), "llama (a real model) or sim")
    slots: int = setting(8, whole(1, 256), "requests the engine serves at once (8)")
    start_timeout: float = setting(120.0, seconds_or_ms, "longest engine start, seconds (120)")
    model_path: Path | None = setting(None, existing_file, "llama: GGUF file (SmolLM2-135M)")
    context_size: int = setting(8192, whole(256), "llama: tokens of all slots together (8192)")
    threads: int = setting(1, whole(1, 256), "llama: threads (1)")
    gpu_layers: int = setting(0, whole(-1), "llama: layers to offload, -1 all (0)")
    ttft_ms: float = setting(50.0, seconds_or_ms, "sim: time to the first token (50)")
    itl_ms: float = setting(20.0, seconds_or_ms, "sim: time between tokens (20)")
    load_ms: float = setting(0.0, seconds_or_ms, "sim: time its start takes besides (0)")
    output_tokens: int = setting(256, whole(1), "sim: length of an answer nobody cuts (256)")


@dataclasses.dataclass(frozen=True)
class GatewaySettings(EngineSettings):
    """The GGUF gateway's settings. Defaults that differ from the real one's are said."""

    port: int = setting(8000, whole(0, 65535), "gateway port, 0 picks a free one (8000)")
    health_port: int = setting(8001, whole(0, 65535), "health server's port, 0 as above (8001)")
    auth_enabled: bool = setting(True, flag, "ask for an API key (true)")
    api_keys: tuple[str, ...] = setting((), keys, "accepted keys, comma-separated (a random one)")
    rate_limit: int = setting(100, whole(0), "requests a minute for each key, 0 is no limit (100)")
    max_concurrent_requests: int = setting(
        0, whole(0), "inference requests at once, 0 as many as slots (0; the real one: 1)"
    )
    max_queue_size: int = setting(0, whole(0), "requests that may wait, 0 is no limit (0)")
    cors_origins: tuple[str, ...] = setting((), words, "allowed origins, comma-separated, or *")
    connection: str = setting("close", one_of("close", "keep-alive"), "close or keep-alive (close)")
    idle_timeout: float = setting(
        0.0, seconds_or_ms, "seconds without inference until the engine stops, 0 is never (0)"
    )
    request_timeout: float = setting(
        300.0, seconds_or_ms, "longest silence of the engine, seconds, then 504 (300)"
    )
    delay_ms: float = setting(0.0, seconds_or_ms, "what it adds to each answer's time (0)")
    max_body_bytes: int = setting(10 * 2**20, whole(1), "longest request body (10485760)")


@dataclasses.dataclass(frozen=True)
class FleetSettings(EngineSettings):
    """The fleet's settings. The engine's are each runner's own."""

    slots: int = setting(2, whole(1, 256), "requests a runner serves at once (2)")
    context_size: int = setting(4096, whole(256), "llama: tokens of all slots together (4096)")
    port: int = setting(8080, whole(0, 65535), "gateway port, 0 picks a free one (8080)")
    wol_port: int = setting(
        40009, whole(0, 65535), "UDP port of the magic packets, 0 as above (40009; the real one: 9)"
    )
    runners: int | None = setting(None, whole(1, MAX_RUNNERS), "how many runners (2)")
    models: dict[str, tuple[str, ...]] = setting(
        {}, layout, "models by runner, as in desk=a;tower=a,a-big (each a small one and a big one)"
    )
    asleep: bool = setting(False, flag, "runners begin asleep (false)")
    idle_timeout: float = setting(
        0.0, seconds_or_ms, "seconds without requests until a runner sleeps, 0 is never (0)"
    )
    boot_ms: float = setting(0.0, seconds_or_ms, "time a waking runner takes to boot (0)")
    wake_timeout: float = setting(
        90.0, seconds_or_ms, "longest wait for a runner to wake, seconds (90)"
    )
    request_timeout: float = setting(
        300.0, seconds_or_ms, "longest silence of an engine, seconds, then 500 (300)"
    )
    runner_header: str = setting(
        "", header_name, "name of a header that says which runner answered (none, as the real one)"
    )
    max_body_bytes: int = setting(10 * 2**20, whole(1), "longest request body (10485760)")

    def __post_init__(self) -> None:
        if self.models and self.runners is not None:
            raise ValueError("--models says which runners there are: leave --runners out")
