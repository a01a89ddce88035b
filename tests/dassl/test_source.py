"""Choice of the Dassl to import, its description, and the install script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from third_party.dassl_source import STANDIN

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, types
from pathlib import Path
sys.modules["third_party.dassl_patches"] = types.SimpleNamespace(apply_patches=lambda: ["warmup_scheduler"])
from fdbpl.errors import cli_error_handler
from third_party import dassl_source
dassl_source.CHECKOUT = Path(sys.argv[1])
with cli_error_handler():
    print(dassl_source.use_dassl())
    import dassl
    print(Path(dassl.__file__).parents[1])
    print(*sys.modules)
"""
SLOW_IMPORTS = {"torchvision", "sklearn", "tensorboard", "scipy", "pandas", "wilds", "clip"}


def use(checkout="/nowhere", chosen=None, installed=None):
    environment = {key: value for key, value in os.environ.items() if key != "FDBPL_DASSL"}
    environment |= {"FDBPL_DASSL": str(chosen)} if chosen else {}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([str(installed)] if installed else [])])
    return subprocess.run([sys.executable, "-c", PROGRAM, str(checkout)], env=environment, capture_output=True,
                          text=True, cwd="/")  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Three folders, each with an empty Dassl."""
    folder = tmp_path_factory.mktemp("copies")
    for name in ("chosen", "site-packages", "checkout"):
        (folder / name / "dassl" / "engine").mkdir(parents=True)
        (folder / name / "dassl" / "__init__.py").write_text("__version__ = '0.6.3'")
        (folder / name / "dassl" / "engine" / "__init__.py").touch()
    return folder


@pytest.mark.parametrize(
    ("given", "chosen", "line"),
    [
        ({"chosen", "installed", "checkout"}, "chosen", "Dassl: Dassl.pytorch checkout "),
        ({"installed", "checkout"}, "site-packages", "Dassl: installed Dassl.pytorch "),
        ({"checkout"}, "checkout", "Dassl: Dassl.pytorch checkout "),
        (set(), None, "Dassl: stand-in "),
    ],
)
def test_order_of_precedence(copies, given, chosen, line):
    places = {"chosen": copies / "chosen", "installed": copies / "site-packages", "checkout": copies / "checkout"}
    run = use(**{name: place for name, place in places.items() if name in given})
    assert run.returncode == 0, run.stderr
    description, folder, modules = run.stdout.splitlines()
    assert description.startswith(line) and " 0.6.3" in description
    assert ("patched: warmup_scheduler" in description) == bool(given)
    assert not SLOW_IMPORTS & set(modules.split())
    assert folder == str(copies / chosen if chosen else STANDIN)


def test_description_holds_the_commit_of_a_checkout(copies):
    folder = shutil.copytree(copies / "checkout", copies / "with-git")
    for command in (["init", "--quiet"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet",
                                          "--allow-empty", "-m", "x"]):  # fmt: skip
        subprocess.run(["git", "-C", folder, *command], check=True)
    commit = subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    assert f" at {commit.stdout.strip()} " in use(chosen=folder).stdout


def test_a_folder_without_dassl(tmp_path):
    run = use(chosen=tmp_path)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert run.stderr.startswith("error: There is no Dassl.pytorch in the folder of FDBPL_DASSL: ")
    assert str(tmp_path) in run.stderr and len(run.stderr.splitlines()) == 1


def test_missing_packages_of_dassl(tmp_path):
    engine = tmp_path / "dassl" / "engine"
    engine.mkdir(parents=True)
    (tmp_path / "dassl" / "__init__.py").write_text("")
    (engine / "__init__.py").write_text("import missing_package")
    run = use(chosen=tmp_path)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "needs the package missing_package" in run.stderr
    assert "pip install -r requirements-upstream-dassl.txt" in run.stderr
    assert (ROOT / "requirements-upstream-dassl.txt").is_file()


@pytest.fixture
def script(tmp_path):
    return shutil.copy(ROOT / "third_party" / "install_dassl.sh", tmp_path)


def test_a_failed_download_leaves_no_partial_checkout(script, tmp_path):
    run = subprocess.run(["bash", script], env={**os.environ, "DASSL_URL": str(tmp_path / "none.git")},
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 1
    assert "Check the network" in run.stderr.splitlines()[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["install_dassl.sh"]


def test_an_existing_folder_is_not_changed(script, tmp_path):
    (tmp_path / "Dassl.pytorch").mkdir()
    run = subprocess.run(["bash", script], capture_output=True, text=True)
    assert run.returncode == 2 and "Remove it" in run.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["Dassl.pytorch", "install_dassl.sh"]
