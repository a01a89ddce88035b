"""The direction of imports: modules import from lower layers only, and never in a circle."""

from graphlib import TopologicalSorter

import grimp
import pytest

LAYERS = [  # from top to bottom; a module may import from its own layer and from those below
    [
        "fdbpl.predict",
        "fdbpl.prediction_files",
        "fdbpl.evaluate",
        "fdbpl.evaluation_data",
        "fdbpl.evaluation_files",
        "fdbpl.export",
        "fdbpl.interpret",
        "fdbpl.doctor",
        "fdbpl.plugin",
    ],
    ["trainers", "datasets", "fdbpl.report", "fdbpl.protocols"],
    ["fdbpl.engine"],
    ["fdbpl.data"],
    ["fdbpl.runs"],
    ["fdbpl.regions"],
    ["fdbpl.class_names", "fdbpl.demo"],
    ["fdbpl.prompts", "fdbpl.backbones", "fdbpl.pipelines"],
    ["fdbpl.crops", "fdbpl.losses", "fdbpl.scores", "fdbpl.templates"],
    ["third_party"],
    ["fdbpl.io", "fdbpl.distributed", "fdbpl.config"],
    ["fdbpl.devices", "fdbpl.determinism", "fdbpl.findings", "fdbpl.freed_memory"],
    ["fdbpl.errors", "fdbpl.interruption", "fdbpl.torchrun"],
    ["fdbpl"],
]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """{module: modules that it imports}, imports inside functions included."""
    graph = grimp.build_graph("fdbpl", "trainers", "datasets", "third_party", cache_dir=None)
    return {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
        if not module.startswith("third_party.standin")
    }


def layer_of(module: str) -> int:
    """Index of the layer with the longest name that `module` begins with."""
    depths = [
        (len(name), depth)
        for depth, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    _, depth = max(depths)
    if module != "fdbpl" and LAYERS[depth] == ["fdbpl"]:
        raise AssertionError(f"{module} belongs to no layer: add it to LAYERS")
    return depth


def test_imports_run_down(imports):
    upward = sorted(
        f"{module} -> {imported}"
        for module, found in imports.items()
        for imported in found
        if layer_of(imported) < layer_of(module)
    )
    assert not upward, f"imports from a higher layer: {upward}"


def test_no_module_imports_itself_through_others(imports):
    TopologicalSorter(imports).prepare()  # raises CycleError


def folder_of(module: str) -> str:
    """Return the folder below the top level, e.g. fdbpl.engine or trainers."""
    return ".".join(module.split(".")[: 2 if module.startswith("fdbpl.") else 1])


def test_no_folder_imports_itself_through_others(imports):
    folders: dict[str, set[str]] = {}
    for module, found in imports.items():
        folder = folder_of(module)
        folders.setdefault(folder, set()).update(map(folder_of, found))
        folders[folder].discard(folder)
    TopologicalSorter(folders).prepare()  # raises CycleError
