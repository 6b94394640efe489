"""Settings. Each is an environment variable and an option of the same name; the option wins.

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
HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # `token` in RFC 9110 5.6.2
CORS_HEADERS = "access-control-"
# Headers that an answer has already.
USED_HEADERS = frozenset(
    (
        *("cache-control", "connection", "content-encoding", "content-length", "content-type"),
        *("date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade", "vary"),
        "www-authenticate",
    )
)


# --- parsers of one value; each raises ValueError with the rest of a sentence "… must be …"


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
    """The models of each runner, as in `desk=a;tower=a,b`."""
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
    """The name of a header that answers do not have yet; empty for no header."""
    name = text.lower()
    if text and (
        not re.fullmatch(HEADER_NAME, text) or name in USED_HEADERS or name.startswith(CORS_HEADERS)
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
    """Add one option for each field of the settings class. An option that is not given is None."""
    group = parser.add_argument_group("settings (also environment variables, in upper case)")
    for field in dataclasses.fields(kind):
        metavar = field.name.upper().rsplit("_", 1)[-1]
        group.add_argument(flag_name(field), metavar=metavar, help=field.metadata["help"])


def read(kind: type[S], options: Mapping[str, Any], environ: Mapping[str, str]) -> S:
    """Settings from the options, else the environment, else the defaults.

    Raises ValueError, with a text that names the bad option or variable.
    """
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
    """The environment without the variables that would change a deployment of this kind."""
    ours = {variable(field) for field in dataclasses.fields(kind)}
    return {name: value for name, value in environ.items() if name not in ours}


# --- the settings


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The settings of an engine process, common to both profiles."""

    engine: str = setting("llama", one_of("llama", "sim"), "llama (a real model) or sim (llama)")
    slots: int = setting(8, whole(1, 256), "requests that the engine serves at once (8)")
    start_timeout: float = setting(
        120.0, seconds_or_ms, "longest start of the engine in seconds (120)"
    )
    model_path: Path | None = setting(
        None, existing_file, "llama: path of a GGUF file (SmolLM2-135M)"
    )
    context_size: int = setting(
        8192,
        whole(256),
        "context of all slots in tokens; sim: with the skill context (8192)",
    )
    threads: int = setting(1, whole(1, 256), "llama: number of threads (1)")
    gpu_layers: int = setting(0, whole(-1), "llama: layers to run on the GPU, -1 for all (0)")
    chat_template: Path | None = setting(
        None, existing_file, "llama: file with a chat template (the model's own)"
    )
    thinking_tokens: int = setting(
        0, whole(0), "llama: tokens of thoughts before each answer, at most (0: it does not think)"
    )
    draft_tokens: int = setting(
        0, whole(0, 16), "llama: tokens that it drafts for each step, with the same model (0: none)"
    )
    ttft_ms: float = setting(50.0, seconds_or_ms, "sim: time to the first token (50)")
    itl_ms: float = setting(20.0, seconds_or_ms, "sim: time between two tokens (20)")
    prefill_ms: float = setting(
        0.0, seconds_or_ms, "sim: additional time for 1,000 tokens of a prompt (0)"
    )
    prefix_cache: int = setting(
        0, whole(0, 1000), "sim: conversations whose beginning is not read again (0)"
    )
    load_ms: float = setting(0.0, seconds_or_ms, "sim: additional time of each start (0)")
    output_tokens: int = setting(256, whole(1), "sim: tokens of an answer without a limit (256)")
    endpoints: tuple[str, ...] = setting(
        (), words, "sim: responses, embeddings beside chat completions; llama: embeddings (none)"
    )
    skills: tuple[str, ...] = setting((), words, "sim: skills of the model that it plays (none)")


@dataclasses.dataclass(frozen=True)
class GatewaySettings(EngineSettings):
    """The GGUF gateway's settings. The help says where a default is not the real gateway's."""

    port: int = setting(8000, whole(0, 65535), "port of the gateway, 0 picks a free one (8000)")
    health_port: int = setting(
        8001, whole(0, 65535), "port of the health server, 0 picks one (8001)"
    )
    auth_enabled: bool = setting(True, flag, "require an API key (true)")
    api_keys: tuple[str, ...] = setting(
        (), keys, "accepted keys, separated by commas (two random ones)"
    )
    rate_limit: int = setting(100, whole(0), "requests per window and key, 0 for no limit (100)")
    rate_window: float = setting(60.0, seconds_or_ms, "seconds that the rate limit counts (60)")
    max_concurrent_requests: int = setting(
        0, whole(0), "requests at once, 0 for as many as slots (0; the real one: 1)"
    )
    max_queue_size: int = setting(0, whole(0), "requests that may wait, 0 for no limit (0)")
    cors_origins: tuple[str, ...] = setting(
        (), words, "allowed origins, separated by commas, or * (none)"
    )
    connection: str = setting("close", one_of("close", "keep-alive"), "close or keep-alive (close)")
    idle_timeout: float = setting(
        0.0, seconds_or_ms, "seconds until an idle engine is stopped, 0 for never (0)"
    )
    request_timeout: float = setting(
        300.0, seconds_or_ms, "seconds until a silent engine is a 504 (300)"
    )
    delay_ms: float = setting(0.0, seconds_or_ms, "delay that the gateway adds to each answer (0)")
    max_body_bytes: int = setting(10 * 2**20, whole(1), "longest accepted request body (10485760)")


@dataclasses.dataclass(frozen=True)
class FleetSettings(EngineSettings):
    """The fleet's settings. Each runner has an engine with the engine settings."""

    slots: int = setting(2, whole(1, 256), "requests that a runner serves at once (2)")
    context_size: int = setting(
        4096,
        whole(256),
        "context of all slots in tokens; sim: with the skill context (4096)",
    )
    port: int = setting(8080, whole(0, 65535), "port of the gateway, 0 picks a free one (8080)")
    wol_port: int = setting(
        40009, whole(0, 65535), "UDP port of magic packets, 0 picks one (40009; the real one: 9)"
    )
    runners: int | None = setting(None, whole(1, MAX_RUNNERS), "number of runners (2)")
    models: dict[str, tuple[str, ...]] = setting(
        {}, layout, "models of each runner: desk=a;tower=a,a-big (a small and a big one)"
    )
    asleep: bool = setting(False, flag, "start with all runners asleep (false)")
    idle_timeout: float = setting(
        0.0, seconds_or_ms, "seconds until an idle runner sleeps, 0 for never (0)"
    )
    boot_ms: float = setting(0.0, seconds_or_ms, "time that a waking runner needs to boot (0)")
    wake_timeout: float = setting(90.0, seconds_or_ms, "seconds until a wake has failed (90)")
    request_timeout: float = setting(
        300.0, seconds_or_ms, "seconds until a silent engine is a 500 (300)"
    )
    runner_header: str = setting(
        "", header_name, "header that names the runner of an answer (none, as the real one)"
    )
    max_body_bytes: int = setting(10 * 2**20, whole(1), "longest accepted request body (10485760)")

    def __post_init__(self) -> None:
        if self.models and self.runners is not None:
            raise ValueError("--models says which runners there are: leave --runners out")
