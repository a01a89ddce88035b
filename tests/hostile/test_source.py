"""What the code itself must not do with text: read from its syntax, whatever path leads there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("fdbpl", "trainers", "datasets", "third_party")
FILES = sorted([ROOT / "train.py", *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")
                                     if "Dassl.pytorch" not in file.parts)])  # fmt: skip

FORBIDDEN = {
    "eval", "exec", "compile", "builtins.eval", "builtins.exec", "os.system", "os.popen", "os.execv", "os.spawnv",
    "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all",
    "yaml.full_load_all", "yaml.unsafe_load_all", "pickle.load", "pickle.loads", "cPickle.load", "dill.load",
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "numpy.load", "np.load", "pandas.read_pickle",
    "torch.jit.load", "torch.hub.load", "tempfile.mktemp",
}  # fmt: skip
LOADERS = ("yaml.SafeLoader", "yaml.BaseLoader", "yaml.CSafeLoader", "_PlainLoader")
UNPICKLERS = {"_ModuleReader"}  # the only one: it knows the few names that it lets in


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((entry.value for entry in call.keywords if entry.arg == name), None)


def told(found: list[str]) -> None:
    assert not found, "\n".join(found)


def test_the_walk_sees_the_code():
    assert len(FILES) > 150 and ROOT / "fdbpl" / "config.py" in FILES
    assert sum(1 for file in FILES for _ in calls(file)) > 5000


@pytest.mark.parametrize("source", ["eval('1')", "import os; os.system(name)", "torch.jit.load(file)"])
def test_the_walk_finds_what_it_is_to_find(tmp_path, source):
    (tmp_path / "bad.py").write_text(source)
    assert any(name in FORBIDDEN for name, _ in calls(tmp_path / "bad.py"))


def test_no_text_is_run():
    told([f"{file}:{call.lineno}: {name}" for file in FILES for name, call in calls(file) if name in FORBIDDEN])


def test_no_text_reaches_a_shell():
    told([
        f"{file}:{call.lineno}: {name}(shell=...)" for file in FILES for name, call in calls(file)
        if keyword(call, "shell") is not None
    ])  # fmt: skip


def test_yaml_is_read_by_safe_loaders():
    told([
        f"{file}:{call.lineno}: {ast.unparse(call)}" for file in FILES for name, call in calls(file)
        if name == "yaml.load" and ast.unparse([*call.args, *(word.value for word in call.keywords)][1]) not in LOADERS
    ])  # fmt: skip


def test_torch_loads_weights_only():
    told([
        f"{file}:{call.lineno}: {ast.unparse(call)}" for file in FILES for name, call in calls(file)
        if name == "torch.load" and ast.unparse(keyword(call, "weights_only") or ast.Constant(None)) != "True"
    ])  # fmt: skip


def test_numpy_and_scipy_are_told_not_to_unpickle():
    told([
        f"{file}:{call.lineno}: allow_pickle" for file in FILES for _, call in calls(file)
        if keyword(call, "allow_pickle") is not None
    ])  # fmt: skip


def test_the_only_unpicklers_know_what_they_let_in():
    found = [
        node
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("Unpickler" in ast.unparse(base) for base in node.bases)
    ]
    assert len(found) == 1 and {node.name for node in found} == UNPICKLERS
    for node in found:
        (method,) = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "find_class"]
        names = {ast.unparse(one.func) for one in ast.walk(method) if isinstance(one, ast.Call)}
        assert "pickle.UnpicklingError" in names and not any("super" in name or "import" in name for name in names)
        assert isinstance(method.body[-1], ast.Raise)
    unpickling = [name for file in FILES for name, _ in calls(file) if name.endswith("Unpickler")]
    assert not unpickling


WITHOUT_A_HASH = {  # none is published: pictures and class names in archives that are not trusted
    "classnames.txt", "caltech-101-promptkd.zip", "oxford_pets.zip", "oxford_flowers.zip", "food101.zip",
    "fgvc_aircraft.zip", "dtd.zip", "EuroSAT_RGB.zip", "eurosat.zip", "UCF-101-midframes.zip", "ImageNet-Sketch.zip",
}  # fmt: skip


def test_downloads_have_their_hashes():
    """A new address needs one; those that have none are known."""
    from fdbpl.data.prepare.sources import SOURCES

    sources = [source for dataset in SOURCES.values() for part in dataset.parts for source in part.sources]
    assert {source.file_name for source in sources if not source.digest} == WITHOUT_A_HASH
    assert all(source.url.startswith(("https://", "drive:")) for source in sources if not source.digest)
    lengths = {"md5": 32, "sha256": 64}
    for algorithm, _, digest in (source.digest.partition(":") for source in sources if source.digest):
        assert len(bytes.fromhex(digest)) * 2 == lengths[algorithm]
