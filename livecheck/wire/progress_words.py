"""What gateways write while a model is loaded or a request waits: words for it, and mere filling.

A text of a model may have the same words in it, so they are a sign and not a proof: see
`progress.leading`.
"""

from __future__ import annotations

import re

from livecheck.core.late_pattern import late_pattern

MOST_TEXT = 300  # characters that are looked at: patterns are slow on long texts
DOING = (
    r"(?:loading|unloading|reloading|swapping|switching|starting|restarting|booting|waking|warming"
    r"|spinning|initiali[sz]ing|provisioning|downloading|pulling|preparing|fetching|allocating"
    r"|scheduling|launching|acquiring|deploying|scaling|spawning|resuming|connecting|waiting)"
)
DONE = r"(?:loaded|started|swapped|ready|awake|asleep|cold|busy|up)"
THING = (
    r"(?:\S{0,40}(?:model|server|engine|worker|runner)|weights|backend|container|pod|instance|gpu|tensor"
    r"|checkpoint|shard|llm|inference|node|machine|replica|deployment|endpoint|slot|capacity|queue"
    r"|turn)s?"
)
# What may stand between a verb and its thing, besides one word more, such as a name
WITH_VERB = (
    r"(?:\s+(?:up|down|the|a|an|your|this|requested|selected|next|new|free|idle|available|for|on|to"
    r"|into|in|of|from|remote|llm|inference|language|backend|gpu|cold|large)\b){0,4}(?:\s+\S{1,60})?"
)
BETWEEN = r"(?:\s+(?:is|are|was|has|been|being|still|now|not|yet|currently|gets|getting)\b){0,4}"
# At the beginning of a text
PHRASES = (
    rf"{DOING}{WITH_VERB}\s+{THING}\b",  # loading model, waiting for a GPU
    rf"(?:(?:the|your|a)\s+)?{THING}\b{BETWEEN}\s+(?:{DOING}|{DONE})\b",  # it is loading
    rf"{DOING}(?:\s+up)?\s*(?:[.…:!(\[#]|\d+\s*%|$)",  # starting up…, loading: 40 %
    r"(?:processing|queued)\s*(?:[.…:!(\[#\d]|$)",
    r"queue\s*(?:position|:)|(?:your\s+)?(?:request\s+)?(?:is\s+)?queued\b",
    r"in\s+(?:the\s+)?queue\s*(?:[:.…(#\d]|$)",
    r"(?:your\s+|current\s+|queue\s+)?(?:position|place)\b.{0,20}\d",  # position in queue: 3
    r"you(?:\s+are|'re)\s+(?:now\s+)?(?:number\s+|#\s*)?\d*\s*(?:in|on)\s+(?:the\s+)?(?:queue|line)",
    r"\d+\s+\w+\s+(?:are\s+|is\s+)?(?:ahead|before\s+you|in\s+front)",  # 3 requests ahead
    r"please\s+(?:wait|stand\s+by|hold\s+on)\b|stand\s+by\b|one\s+moment\b|just\s+a\s+moment\b",
    r"(?:your\s+)?request\s+(?:is|was|has\s+been)\s+(?:being\s+)?(?:received|accepted|processed)",
    r"cold[\s-]start",
    r"openrouter\s+processing",
    r"load_tensors|llm_load",  # llama.cpp's own log
    # the same in other languages
    r"(?:正在)?(?:加载|启动|唤醒|下载).{0,6}(?:模型|中|服务)|模型.{0,6}(?:加载|启动)",
    r"(?:正在)?排队|请稍[候等]",
    r"(?:das\s+)?modell\s+(?:wird|lädt)\b|lade\s+(?:das\s+)?modell|bitte\s+warten|warteschlange",
    r"chargement\s+du\s+mod|veuillez\s+patienter|cargando\s+(?:el\s+)?modelo|por\s+favor\s+espere",
    r"загру[зж]|подождите|в\s+очереди|モデル.{0,6}(?:読み込|ロード)|모델.{0,6}(?:로드|로딩)",
)
# What is no word may stand before it, and perhaps the sender's name, or a word such as "still".
BEFORE = r"[\W\d_]*(?:\[?[^\W\d_][\w.-]*\]?:?\s+)?(?:(?:please|now|still|currently)[\s,]+)*"
START = late_pattern(rf"{BEFORE}(?:{'|'.join(PHRASES)})", re.IGNORECASE | re.MULTILINE)

# Dots, lines, boxes and spinners: they say nothing but that something is going on.
FILLING = late_pattern(r"[\s.…·•∙⋯\u2500-\u25ff\u2800-\u28ff|/\\_~=+-]*")
DOTS = late_pattern(r"\s*(?:\.{3,}|…)\s*")
MORE_DOTS = late_pattern(r"\s*[.…·•∙⋯][\s.…·•∙⋯]*")
# The last words, which end with a mark, a time in brackets or the line: `Done! (3.20s)`.
CLOSING = late_pattern(
    rf"[\W_]*(?:done|loaded|ready|(?:the\s+)?{THING}(?:\s+(?:is|has|been|now))*\s+{DONE})"
    r"\s*[!.…(\n][\W\d_s]*",
    re.IGNORECASE,
)
WIDTHLESS = late_pattern("[\u200b-\u200d\u2060\ufeff\u00ad]")  # characters that nobody can see


def begin(text: str) -> bool:
    """Whether the text begins with words for loading or waiting."""
    return START.match(text[:MOST_TEXT]) is not None


def is_filling(text: str) -> bool:
    return FILLING.fullmatch(text) is not None


def are_dots(text: str) -> bool:
    """Whether it is one row of three dots or more."""
    return DOTS.fullmatch(text) is not None


def are_more_dots(text: str) -> bool:
    """Whether it is a dot or several, as they follow on words for the progress."""
    return MORE_DOTS.fullmatch(text) is not None


def is_closing(text: str) -> bool:
    """Whether it says that the wait is over."""
    return len(text) <= MOST_TEXT and CLOSING.fullmatch(text) is not None


def is_widthless(text: str) -> bool:
    """Whether it has nothing but characters that nobody can see, and one of these is no space."""
    return WIDTHLESS.search(text) is not None and not WIDTHLESS.sub("", text).strip()
