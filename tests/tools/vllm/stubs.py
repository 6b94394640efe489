"""Makes libraries with the names of CUDA's, whose functions only return an error.

python stubs.py FOLDER

torch loads CUDA's libraries even where there is no GPU and none of them is called. With these in
LD_LIBRARY_PATH it starts. The linker wants each symbol in the version that torch was built with.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LIBRARY = re.compile(r"lib(cu|nv|nccl)\S*")
FUNCTION = re.compile(r"(cu|nccl|nv)[A-Z]\w*|(cu(blas|dnn|fft|rand|solver|sparse|file|da)|nv)\w*")


def libraries_of_torch() -> list[Path]:
    spec = importlib.util.find_spec("torch")
    assert spec and spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).glob("lib/*.so"))


def output_of(*command: object) -> list[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def versions_wanted(library: Path) -> dict[str, set[str]]:
    """The names of CUDA's libraries that this one loads, each with the versions of its symbols."""
    wanted: dict[str, set[str]] = defaultdict(set)
    of = ""
    for line in output_of("readelf", "-dVW", library):
        if found := re.search(r"\(NEEDED\).*\[(\S+)\]|File: (\S+)", line):
            of = found[1] or found[2]
            if LIBRARY.fullmatch(of):
                wanted[of]
        elif (found := re.search(r"Name: (\S+)", line)) and LIBRARY.fullmatch(of):
            wanted[of].add(found[1])
    return wanted


def symbols_wanted(library: Path) -> dict[str, set[str]]:
    """The symbols that this library does not have itself, by version; "" is none."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for line in output_of("nm", "-D", "--undefined-only", library):
        name, _, version = line.split()[-1].partition("@")
        version = version.strip("@")
        if version or FUNCTION.fullmatch(name):
            wanted[version].add(name)
    return wanted


def make(path: Path, symbols: set[str], versions: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        source, script = Path(place) / "stub.c", Path(place) / "versions"
        source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in symbols))
        nodes = sorted(versions)
        script.write_text("".join(f"{node} {{ global: *; }};\n" for node in nodes[:1]))
        with script.open("a") as more:
            more.writelines(f"{node} {{ }};\n" for node in nodes[1:])
        options = ["-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{path.name}"]
        options += [f"-Wl,--version-script,{script}"] if nodes else []
        subprocess.run(["gcc", *options, str(source), "-o", str(path)], check=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    versions: dict[str, set[str]] = defaultdict(set)
    symbols: dict[str, set[str]] = defaultdict(set)
    for library in libraries_of_torch():
        for name, wanted in versions_wanted(library).items():
            versions[name] |= wanted
        for version, names in symbols_wanted(library).items():
            symbols[version] |= names
    for name, wanted in versions.items():
        make(folder / name, symbols[""].union(*(symbols[each] for each in wanted)), wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
