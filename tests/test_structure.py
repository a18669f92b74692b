"""Imports go downward only, and each module knows no more than its work needs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vrdir_plug"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

# What each module may import from the package; every arrow points to a row further up.
ARROWS: dict[str, set[str]] = {
    "pixels": set(),
    "hub": set(),
    "weights": {"hub"},
    "degradations": set(),
    "filters": set(),
    "corruptions": {"filters"},
    "losses": set(),
    "files": set(),
    "config": set(),
    "constants": set(),
    "bands": {"constants"},
    "fourier": {"constants"},
    "ise": {"bands", "config", "fourier"},
    "response": {"bands", "constants", "fourier"},
    "streaks": {"bands"},
    "zoom": {"bands", "fourier", "response"},
    "mosaic": {"bands"},
    "motion": {"bands", "constants", "fourier", "response", "zoom"},
    "defocus": {"bands", "constants", "fourier", "motion", "response", "zoom"},
    "noise": {"bands", "constants"},
    "pairs": {"bands"},
    "denoiser": {"bands", "pairs"},
    "weather": {"bands", "constants", "pairs"},
    "compression": set(),
    "front": {"bands", "compression", "denoiser", "fourier", "ise", "noise", "response"},
    "restorer": {
        *("bands", "config", "constants", "defocus", "front", "ise", "mosaic", "motion", "streaks"),
        *("weather", "weights", "zoom"),
    },
    "tiling": {
        *(
            "bands",
            "compression",
            "defocus",
            "denoiser",
            "front",
            "ise",
            "mosaic",
            "motion",
            "noise",
            "response",
        ),
        *("restorer", "streaks", "weather", "zoom"),
    },
    "inputs": {"pixels"},
    "adapters": {"inputs", "pixels"},
    "teachers": {"pixels"},
    "data": {"degradations", "files"},
    "facades": set(),
    "wrap": {"adapters", "facades", "inputs", "pixels", "restorer"},
    "processes": set(),
    "progress": set(),
    "learner": {"data", "restorer", "teachers"},
    "filter_stages": {
        *("bands", "data", "defocus", "degradations", "learner", "losses", "mosaic", "motion"),
        *("response", "restorer", "teachers", "zoom"),
    },
    "network_stages": {
        *("bands", "data", "degradations", "filter_stages", "learner", "losses", "restorer"),
        "teachers",
    },
    "stages": {"config", "data", "degradations", "filter_stages", "learner", "network_stages"},
    "training": {
        *("config", "data", "learner", "processes", "progress", "restorer", "stages", "teachers"),
        "weights",
    },
    "extras": set(),
    "measures": {"extras"},
    "baselines": {"extras"},
    "recognisers": {"adapters", "baselines", "pixels", "restorer"},
    "evaluation": {"corruptions", "files", "measures"},
    "classification": {"evaluation", "files", "measures"},
    "gating": {"evaluation", "extras", "measures"},
    "detection": {"evaluation", "extras", "files", "measures"},
    "yolo_labels": {"evaluation", "files"},
    "reidentification": {"evaluation", "files", "measures"},
    "tables": {"corruptions", "evaluation", "measures"},
    "crops": {"evaluation", "measures"},
    "selftest": {"restorer", "weights"},
    "streaming": set(),
    "video": {"streaming"},
    "restoring": {"files", "video"},
    "distributed": {"extras", "restoring"},
    "exporting": {"pixels"},
    "cli_export": {"exporting", "pixels", "restorer"},
    "bench": {"restorer"},
    "page": {"bench", "crops", "evaluation", "tables"},
    "cli_bench": {"bench", "restoring"},
    "doctor": {"selftest", "weights"},
    "cli_doctor": {"doctor"},
    "cli_download": {"hub", "restorer", "weights"},
    "cli_gate": {
        "classification",
        "corruptions",
        "evaluation",
        "gating",
        "measures",
        "recognisers",
        "restorer",
        "restoring",
        "tables",
    },
    "cli_restore": {"distributed", "restorer", "restoring", "tiling"},
}
ARROWS["cli"] = set(ARROWS)
ARROWS["__init__"] = {module for module in ARROWS if not module.startswith("cli")}

# huggingface_hub brings tqdm and yaml.
CORE = {"torch", "numpy", "PIL", "safetensors", "huggingface_hub", "tqdm", "yaml"}
TORCH_ONLY = {"pixels", "inputs", "restorer", "degradations", "losses", "streaming", "tiling"}
# A user may name a timm model there; it is imported when he does. So are the extras.
IMPORT_LATE = {"recognisers", "exporting", "processes", "video"}
RECOGNISED = {"timm", "torchvision", "ultralytics", "torchreid", "transformers"}


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from outside_functions(child)


def absolute_names(node: ast.AST) -> list[str]:
    """Name in full what an import statement imports; relative imports as of vrdir_plug."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        origin = ".".join(filter(None, ["vrdir_plug" if node.level else "", node.module]))
        return [f"{origin}.{alias.name}" for alias in node.names]
    return []


def imports(module: str, late: bool) -> Iterator[list[str]]:
    """Yield the dotted parts of each name that a module imports, inside functions too if late."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree) if late else outside_functions(tree):
        for name in absolute_names(node):
            yield name.split(".")


def test_the_table_has_no_upward_arrow() -> None:
    floors = list(ARROWS)
    upward = [(a, b) for a in ARROWS for b in ARROWS[a] if floors.index(b) >= floors.index(a)]
    assert not upward


@pytest.mark.parametrize("module", MODULES)
def test_imports_within_the_package_follow_the_table(module: str) -> None:
    inner = {parts[1] for parts in imports(module, late=True) if parts[0] == "vrdir_plug"}
    assert inner - {"__version__"} <= ARROWS[module]


@pytest.mark.parametrize("module", MODULES)
def test_other_packages_are_core_dependencies(module: str) -> None:
    late = module not in IMPORT_LATE
    outer = {parts[0] for parts in imports(module, late)} - sys.stdlib_module_names
    allowed = {"torch"} if module in TORCH_ONLY else CORE
    assert outer - {"vrdir_plug"} <= allowed


def test_importing_the_package_imports_nothing_it_recognises() -> None:
    program = "import sys, vrdir_plug; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not RECOGNISED & set(run.stdout.split())
