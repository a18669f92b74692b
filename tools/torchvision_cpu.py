"""Let the torchvision wheel of PyPI, built for CUDA, import beside a CPU build of torch.

torchvision's `_C.so` and `image.so` name libraries that only a CUDA build of torch has, so
the loader refuses them and `import torchvision` fails with "operator torchvision::nms does
not exist". The CPU operators inside work as they are: the loader only has to be satisfied.

1. libc10_cuda.so and libtorch_cuda.so are compiled as stubs beside the extensions. Each
   function of theirs that the extensions mention aborts the process, should CUDA code run.
2. libcudart, which the wheel brings under a name of its own, also gets its usual name.
3. `_C.so` searches a folder of the machine it was built on; that path is overwritten in
   place by one relative to the extension.

Does nothing where torchvision imports, so it is safe to run after every installation. Needs
Linux, gcc and binutils.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SEARCH_PATH = b"$ORIGIN:$ORIGIN/../torchvision.libs"

# nms runs the operators of _C.so, encode_jpeg those of image.so.
CHECK = """
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 1.0, 9.0, 9.0]])
assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
torchvision.io.encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))
print(f"torchvision {torchvision.__version__} works with torch {torch.__version__}")
"""


def output(*command: str, stdin: str | None = None) -> str:
    """Run a command and return what it printed; its error stream stays visible."""
    return subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def folder_of(package: str) -> Path:
    """Find an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed: install torch and torchvision first")
    return Path(spec.origin).parent


def cuda_functions(extensions: list[Path]) -> list[str]:
    """List the C++ functions of the namespaces c10::cuda and at::cuda that are wanted.

    "4cuda" is how a namespace `cuda` reads in a mangled name. Names with a version ("@")
    belong to libcudart, which the wheel brings.
    """
    lines = output("nm", "-D", "--undefined-only", *map(str, extensions)).splitlines()
    names = {line.split()[-1] for line in lines if line.startswith(" ")}
    return sorted(name for name in names if "4cuda" in name and "@" not in name)


def compile_stubs(torchvision: Path, functions: list[str]) -> None:
    """Compile libc10_cuda.so with aborting functions, and an empty libtorch_cuda.so."""
    stubs = [
        f'void stub{number}(void) __asm__("{name}"); void stub{number}(void) {{ abort(); }}'
        for number, name in enumerate(functions)
    ]
    for name, lines in ("libc10_cuda.so", stubs), ("libtorch_cuda.so", []):
        library = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(torchvision / name)]
        output("gcc", "-x", "c", "-", *library, stdin="\n".join(["#include <stdlib.h>", *lines]))


def name_cudart(libraries: Path) -> None:
    """Give libcudart.<hash>.so.13 the name libcudart.so.13 as well."""
    for bundled in libraries.glob("libcudart.*.so.*"):
        usual = bundled.with_name(re.sub(r"\.[0-9a-f]{8}\.", ".", bundled.name))
        if usual != bundled and not usual.exists():
            usual.symlink_to(bundled.name)


def rewrite_search_path(extension: Path) -> None:
    """Overwrite the search path in the file; the rest of the old one becomes NUL bytes."""
    found = re.search(r"R(?:UN)?PATH\).*\[(.*)\]", output("readelf", "-d", str(extension)))
    old = found.group(1).encode() if found else b""
    if b"$ORIGIN" in old:
        return
    content = extension.read_bytes()
    if len(old) < len(SEARCH_PATH) or content.count(old + b"\0") != 1:
        sys.exit(f"{extension}: cannot replace its search path {old.decode()!r}")
    # A new file in the old one's place: a process that has the library loaded keeps its own.
    rewritten = extension.with_suffix(".new")
    rewritten.write_bytes(content.replace(old + b"\0", SEARCH_PATH.ljust(len(old) + 1, b"\0")))
    os.replace(rewritten, extension)


def make_importable(torchvision: Path) -> None:
    """Repair the installed package; `_C.so` last, since `import torchvision` works from then on."""
    extensions = [torchvision / "image.so", torchvision / "_C.so"]
    compile_stubs(torchvision, cuda_functions(extensions))
    name_cudart(torchvision.parent / "torchvision.libs")
    for extension in extensions:
        rewrite_search_path(extension)


def main() -> None:
    torch, torchvision = folder_of("torch"), folder_of("torchvision")
    command = [sys.executable, "-c", "import torchvision"]
    attempt = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if attempt.returncode == 0:
        print("torchvision imports: nothing to do")
        return
    if sys.platform != "linux" or (torch / "lib" / "libtorch_cuda.so").exists():
        sys.exit(f"torchvision does not import, and not for want of CUDA:\n{attempt.stderr}")
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} not found: install gcc and binutils, then try again")
    make_importable(torchvision)
    subprocess.run([sys.executable, "-c", CHECK], check=True)


if __name__ == "__main__":
    main()
