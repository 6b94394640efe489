"""Pure: what a refused request was refused for, by the words of the refusal."""

from __future__ import annotations

import re

from livecheck.core.json_value import as_line
from livecheck.core.late_pattern import late_pattern
from livecheck.gateway.openai_client import SdkCall
from livecheck.wire.answer import WORDS_BYTES

# What a server may refuse that has not looked at the mistake in a request, in the order in which it
# is looked for. The words of vLLM, llama.cpp, Ollama, LiteLLM, OpenAI, Google and Anthropic.
A_LIMIT = late_pattern(
    r"rate.?limit|too many (requests|messages)|throttl|\bquota\b|slow down", re.I
)
# certainly about messages that are no list, whatever else is said
THE_MISTAKE = late_pattern(r"\bmessages\b|not a list|valid list|list_type|\barray\b", re.I)
SOMETHING_ELSE = {
    "the credential": re.compile(
        r"api[ _-]?key|no connected db|authenticat|unauthori[sz]ed|credential"
        r"|(invalid|missing|expired|bad|no|wrong) (access |auth |bearer |proxy server )?token\b",
        re.I,
    ),
    "a permission": re.compile(r"permission|forbidden|not allowed|access denied", re.I),
    "the account": re.compile(r"billing|payment|credit|balance", re.I),
    "the model": re.compile(
        r"model.{0,60}(not found|not exist|unknown|not loaded|not available|unavailable)"
        r"|(unknown|invalid|no such|missing) model",
        re.I,
    ),
}


def refused_for(call: SdkCall) -> str | None:
    """What the refusal is about, if it is certainly not the mistake in the request: "the
    credential", "a limit", … None: it may well be the mistake, also where nothing is said."""
    if call.answer.is_page:
        return "nothing that an API knows: it is a web page"
    said = call.answer.body[:WORDS_BYTES].decode("utf-8", "replace")
    text = f"{as_line(call.error_body, WORDS_BYTES)} {said}"
    if A_LIMIT.search(text):
        return "a limit"
    if THE_MISTAKE.search(text):
        return None
    return next((what for what, words in SOMETHING_ELSE.items() if words.search(text)), None)
