"""Which model to ask for where --model does not say it, and when that choice was a bad one.

The list may have models that cannot chat, such as those for embeddings, also in the first place:
its entries say so in fields that differ from server to server, or their names do. Where the chosen
model of several refuses to chat, the deployment is not to blame: exit 3, with the name and --model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.run import Run
from livecheck.core.text import plural, shorten
from livecheck.wire.answer import Answer

UNKNOWN_MODEL = "local-model"  # what to ask for when the deployment lists no model
LONGEST_NAME = 1000  # characters; a longer one is no name, and would be sent with each request
NAME_LENGTH = 60  # characters of a model's name in a line
CHOICE = "model_choice"  # its key in `Run.notes`
# names of models that are listed beside the others, and cannot chat
NOT_FOR_CHAT = late_pattern(
    r"embed|rerank|whisper|minilm|mpnet|colbert|stable-diffusion|sdxl|dall-e|moderation|text-to-"
    r"|(^|[/_.:-])(bge|clip|siglip|gte|e5|tts|stt|asr|vae|flux)([-_:.]|\d|$)",
    re.IGNORECASE,
)
# Fields of an entry that tell what a model is for: LiteLLM (mode), LM Studio and Together (type),
# Mistral and Ollama (capabilities), vLLM and TGI behind routers (task), OpenRouter (modality).
PURPOSES = (
    *("capabilities", "task", "tasks", "type", "model_type", "mode", "pipeline_tag", "modality"),
    *("supported_endpoints", "endpoints"),
)
CHATS = late_pattern(r"chat|completion|generat|\bllm\b|\bvlm\b|language|instruct|->text", re.I)
CANNOT = late_pattern(
    r"embed|rerank|score|classif|moderation|speech|audio|transcri|\btts\b|\bstt\b|image|diffusion"
    r"|feature-extraction|similarity",
    re.IGNORECASE,
)
# statuses and words with which servers refuse to chat with a model that is not made for it
REFUSALS = (400, 404, 405, 422, 500, 501)
SAYS_SO = late_pattern(
    r"not support.{0,60}(chat|completion|generat)|(chat|completion|generat).{0,60}not (be )?support"
    r"|not an? (chat|generative|text.generation|language|llm)|not llm|embed|rerank|transcri"
    r"|chat.template",
    re.IGNORECASE,
)
ABOUT_A_MODEL = late_pattern(r"\bmodels?\b", re.IGNORECASE)
NO_LIST = (404, 405, 501)  # statuses of a deployment that has no list of models
CHAT_PATH = "/chat/completions"


@dataclass
class Choice:
    """The model that was chosen for the run. `names`: all that are listed; `problem`: why none is.

    `has_chatted`: it has answered a question in this run.
    """

    name: str
    names: Sequence[str] = ()
    problem: str | None = None
    lists_none: bool = False  # there is no such list, or it cannot be read here
    has_chatted: bool = field(default=False, compare=False)

    @property
    def words(self) -> str:
        """Which one it is: "the first of 7 listed models"."""
        which = "the first" if self.name == self.names[0] else "the first that may chat"
        return f"{which} of {plural(len(self.names), 'listed model')}"


# --- the list


def entries_of(answer: Answer | None) -> list[dict[str, Any]]:
    """The models of a list that have a usable name, each with an `id`. Besides OpenAI's form, where
    they are in `data`: a bare list, and `models` with names, as Ollama's own list has them."""
    content = answer.json if answer and answer.failure is None else None
    found = content
    for key in ("data", "models"):
        if isinstance(listed := pick(content, key), list):
            found = listed
            break
    entries = []
    for each in found if isinstance(found, list) else ():
        fields = {"id": each} if isinstance(each, str) else each
        names = [pick(fields, key) for key in ("id", "name", "model")]
        name = next((name for name in names if isinstance(name, str) and name), None)
        if name is not None and len(name) <= LONGEST_NAME:
            entries.append({**fields, "id": name})
    return entries


def can_chat(entry: dict[str, Any]) -> bool:
    """Whether a model may be asked for a chat completion, as far as the list tells."""
    purposes = " ".join(text for name in PURPOSES for text in _texts(entry.get(name)))
    purposes += " ".join(_texts(pick(entry, "architecture", "modality")))
    if CHATS.search(purposes):
        return True
    return not CANNOT.search(purposes) and may_chat(entry["id"])


def which_chat(answer: Answer) -> dict[str, bool]:
    """Of each listed model whether it can chat, as far as the list tells."""
    return {entry["id"]: can_chat(entry) for entry in entries_of(answer)}


def may_chat(name: str) -> bool:
    """The same as far as the name of a model tells."""
    return NOT_FOR_CHAT.search(name) is None


def _texts(value: object) -> list[str]:
    """The texts in a field: itself, those of a list, or the keys of what is true."""
    if isinstance(value, dict):
        return [str(name) for name, holds in value.items() if holds is True]
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, str)]


# --- the choice


def first_for_chat(answer: Answer | None) -> str | None:
    """The first listed model that may chat, else the first one; None where none is listed."""
    entries = entries_of(answer)
    chosen = next(filter(can_chat, entries), entries[0] if entries else None)
    return None if chosen is None else str(chosen["id"])


def model_to_ask(run: Run, listing: Answer | None) -> str:
    """--model, else the first model of the list that may chat, else a name of our own.

    Where the list leaves a choice, or there is none, a note says what is asked for.
    """
    if run.args.model:
        return str(run.args.model)
    names = [entry["id"] for entry in entries_of(listing)]
    name = first_for_chat(listing) or UNKNOWN_MODEL
    problem = None if names else why_none(listing)
    is_missing = listing is None or listing.status in NO_LIST or bool(listing.coding_problem)
    choice = run.notes[CHOICE] = Choice(name, names, problem, problem is not None and is_missing)
    shown = shorten(name, NAME_LENGTH)
    if problem and listing is not None:
        run.note(f"{problem}: asking for {shown} (--model chooses another)")
    elif len(names) > 1:
        run.note(f"asking for {shown}, {choice.words} (--model chooses another)")
    return name


def why_none(listing: Answer | None) -> str:
    """Why there is no model to choose."""
    if listing is None or listing.failure:
        return "the list of models was not read"
    if listing.coding_problem:
        return f"{listing.path} cannot be read ({listing.coding_problem})"
    if listing.is_web_page:
        return f"{listing.path} is a web page ({listing.status}), not a list of models"
    if listing.status != 200:
        return f"{listing.path} lists no models ({listing.outcome()})"
    if isinstance(pick(listing.json, "data"), list):
        return f"{listing.path} lists no models"
    return f"{listing.path} is not a list of models ({shorten(listing.words, NAME_LENGTH)})"


def confirm_choice(run: Run, answers: Sequence[Answer]) -> None:
    """Take note of completions. CannotCheck when the model that was chosen here cannot chat."""
    choice: Choice | None = run.notes.get(CHOICE)
    if choice is None or choice.has_chatted:
        return
    for answer in answers:
        if answer.status == 200 and answer.path.endswith(CHAT_PATH) and not answer.says_error:
            choice.has_chatted = True
            return
    for answer in answers:
        if reason := refusal(choice, answer):
            raise CannotCheck(reason)


def refusal(choice: Choice, answer: Answer) -> str | None:
    """The line for a choice that the deployment refuses; None when it does not."""
    if answer.failure or not (answer.status in REFUSALS or answer.says_error):
        return None
    if answer.is_rate_limited or asked_model(answer) != choice.name:
        return None
    shown, said = shorten(choice.name, NAME_LENGTH), f"{answer.status} {answer.words}".rstrip()
    if choice.lists_none and answer.status != 200 and ABOUT_A_MODEL.search(answer.words):
        return f"{choice.problem}, and {shown} is refused ({said}): give --model"
    is_meant = bool(SAYS_SO.search(answer.words)) or not may_chat(choice.name)
    if len(choice.names) > 1 and is_meant:
        return f"{choice.words} was asked, {shown}, and it cannot chat ({said}): give --model"
    return None


def asked_model(answer: Answer) -> str | None:
    """The model that a request for a chat completion names; None of any other request."""
    request = answer.request
    if request.body is None or not answer.path.endswith(CHAT_PATH):
        return None
    try:
        name = pick(json.loads(request.body), "model")
    except ValueError:
        return None
    return name if isinstance(name, str) else None
