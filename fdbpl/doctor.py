"""Check whether this machine can run FDBPL and print how to fix each problem: `python -m fdbpl.doctor`.

It needs no package: `python3 -m fdbpl.doctor` in a checkout works before anything is installed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from fdbpl.errors import UserError, cli_error_handler

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = Path(__file__).resolve().parent / "backbones" / "weights"
STUDENTS = ("RN50", "ViT-B/32", "ViT-B/16", "ViT-L/14")
DEMO_BYTES = 200 * 2**20  # of the demo's images, region bank and runs
MODULES = {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn"}  # distributions whose module has another name
CHECKED_SEPARATELY = {"torch", "torchvision", "openai-clip", "setuptools"}
INSTALL = "pip install -r requirements.txt, or any script of scripts/, which creates its own environment in .venv"
TORCH = "pip install torch torchvision"
MARKS = {"fine": "ok", "warning": "! ", "problem": "X "}


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        state: "fine", "warning" (an optional part is missing) or "problem" (not even the demo can run).
        remedy: how to fix it; "" if the state is fine.
    """

    state: str
    found: str
    remedy: str = ""


class Check(NamedTuple):
    """A check, and the findings for the cases in which it cannot run.

    Attributes:
        run: yields findings; an exception means that the part does not work.
        module: name of the module that must be installed, if any.
        install: command that installs it.
        repair: remedy if `run` raises an exception.
    """

    subject: str
    run: Callable[[], Iterator[Finding]]
    module: str = ""
    install: str = ""
    repair: str = "check that file or package"
    needs_torch: bool = False
    optional: bool = False


def perform(check: Check) -> list[Finding]:
    """Run a check without its output and warnings; exceptions become findings."""
    state = "warning" if check.optional else "problem"
    if check.module and not is_installed(check.module):
        return [Finding(state, "not installed", check.install)]
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            if check.needs_torch and not can_import("torch"):
                return [Finding(state, "not checked without torch", "fix torch first")]
            return list(check.run())
    except UserError as error:
        return [Finding(state, str(error), check.repair)]
    except (Exception, SystemExit) as error:
        return [Finding(state, f"does not work ({reason(error)})", check.repair)]


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}".rstrip(": ")


def is_installed(module: str) -> bool:
    """Return whether `import module` would find a file, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def can_import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit):
        return False
    return True


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# Python and packages


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    own = Path(os.environ.get("FDBPL_VENV", ROOT / ".venv"), "bin", "python")
    if sys.version_info < (3, 10):  # noqa: UP036 (an older Python may run this file)
        yield Finding("problem", found, "install Python 3.10 or newer, e.g. apt-get install python3 python3-venv")
    elif own.is_file() and Path(sys.prefix).resolve() != own.parents[1].resolve():
        yield Finding("warning", f"{found} is not the Python of the scripts", f"use it: {own} -m fdbpl.doctor")
    else:
        yield Finding("fine", found)


def requirements() -> dict[str, str]:
    """Return {package: version range} of requirements.txt, or of the installed distribution."""
    file = ROOT / "requirements.txt"
    if file.is_file():
        included = re.findall(r"^-r (\S+)", file.read_text(), re.M)
        lines = [line for name in included for line in (ROOT / name).read_text().splitlines()]
    else:
        lines = [line for line in metadata.requires("fdbpl") or [] if "extra ==" not in line]
    matches = (re.match(r"([\w.-]+)\s*([^;#]*)", line.strip()) for line in lines)
    return {match[1]: match[2].strip() for match in matches if match}


def satisfies(found: str, wanted: str) -> bool:
    """Return whether a version satisfies a range of >=, < and == parts; suffixes such as +cu130 are ignored."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"^[\d.]*", text)[0].strip(".").split(".") if part]

    holds = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}
    parts = re.findall(r"(>=|<|==)\s*([\d.]+)", wanted)
    return all(holds[operator](numbers(found), numbers(bound)) for operator, bound in parts)


def packages() -> Iterator[Finding]:
    others = {name: wanted for name, wanted in requirements().items() if name not in CHECKED_SEPARATELY}
    missing = [name for name in others if not is_installed(MODULES.get(name, name))]
    wrong = [f"{name} {found} (needs {wanted})" for name, wanted in others.items()
             if (found := version(name)) and not satisfies(found, wanted)]  # fmt: skip
    if missing or wrong:
        parts = (("missing", missing), ("wrong version", wrong))
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        yield Finding("problem", found, INSTALL)
    else:
        yield Finding("fine", f"{len(others)} of requirements.txt, apart from those below")


def torch() -> Iterator[Finding]:
    package = importlib.import_module("torch")
    package.zeros(1).sum()
    wanted = requirements().get("torch", "")
    if satisfies(package.__version__, wanted):
        yield Finding("fine", package.__version__)
    else:
        yield Finding("problem", f"{package.__version__} (needs {wanted})", "pip install --upgrade torch torchvision")


def gpus() -> Iterator[Finding]:
    """Run one kernel on each GPU: torch also lists GPUs for which its build has no kernels."""
    torch = importlib.import_module("torch")
    if torch.version.cuda is None:
        yield Finding("warning", "none: torch is built for CPUs", "PREC fp32; for a GPU install torch's CUDA build")
    elif not torch.cuda.is_available():
        remedy = "PREC fp32; if nvidia-smi shows a GPU, its driver is older than this torch requires"
        yield Finding("warning", f"none that torch (CUDA {torch.version.cuda}) can use", remedy)
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(number)
        found = f"{number}: {device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        try:
            torch.ones(1, device=f"cuda:{number}").sum().item()
        except Exception as error:
            remedy = "install a torch with kernels for it, or hide it: CUDA_VISIBLE_DEVICES, or USE_CUDA False"
            state = "problem" if number == 0 else "warning"  # runs use the first GPU by default
            yield Finding(state, f"{found}, cannot compute ({reason(error)})", remedy)
        else:
            yield Finding("fine", found)


def torchvision() -> Iterator[Finding]:
    torch, ops = importlib.import_module("torch"), importlib.import_module("torchvision.ops")
    ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    yield Finding("fine", f"{version('torchvision')}, matches torch")


def clip() -> Iterator[Finding]:
    from fdbpl.backbones.openai_package import clip_package

    package = clip_package()
    yield Finding("fine", f"OpenAI's {version('openai-clip') or ''} ({Path(str(package.__file__)).parent})")


def dassl() -> Iterator[Finding]:
    if (ROOT / "third_party" / "dassl_source.py").is_file():
        line = importlib.import_module("third_party").use_dassl()
    else:
        place = str(importlib.import_module("dassl.engine").__file__)
        patched = importlib.import_module("fdbpl.third_party.dassl_patches").apply_patches()
        line = f"installed ({Path(place).parents[1]}), patched: {', '.join(patched) or 'nothing'}"
    yield Finding("fine", line.removeprefix("Dassl: "))


def open_clip() -> Iterator[Finding]:
    yield Finding("fine", version("open_clip_torch") or "installed")


def dali() -> Iterator[Finding]:
    cuda, installed = driver_cuda(), dali_builds()
    wanted = dali_build(cuda)
    found = ", ".join(f"{version(name)} ({name})" for name in installed)
    if len(installed) > 1 or (cuda == "12" and wanted not in installed):  # a driver of CUDA 13 runs both
        why = "two builds share one folder" if len(installed) > 1 else f"the driver supports CUDA {cuda} only"
        replace = f"pip uninstall -y {' '.join(installed)} && pip install {wanted}"
        yield Finding("warning", f"{found}, but {why}", replace)
    from fdbpl.pipelines.dali import DaliPipeline

    DaliPipeline(ROOT, size=8, batch_size=1, workers=1)
    yield Finding("fine", f"{found}, decodes on the CPU")
    cuda_api = sys.modules["torch"].cuda
    for number in range(cuda_api.device_count() if cuda_api.is_available() else 0):
        try:
            DaliPipeline(ROOT, size=8, batch_size=1, device=f"cuda:{number}", workers=1, dali_device="gpu")
        except Exception as error:
            found, remedy = f"cannot decode on GPU {number} ({reason(error)})", "keep REGIONS.DALI_DEVICE cpu"
            yield Finding("warning", found, remedy)
        else:
            yield Finding("fine", f"can decode on GPU {number} (REGIONS.DALI_DEVICE gpu)")


def driver_cuda() -> str | None:
    """Return the major CUDA version that nvidia-smi prints, or None without an NVIDIA driver."""
    try:
        printed = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"CUDA[^:\n]*Version: *(\d+)", printed)
    return found[1] if found else None


def dali_build(cuda: str | None) -> str:
    """Return the name of the DALI package for a driver."""
    return "nvidia-dali-cuda120" if cuda == "12" else "nvidia-dali-cuda130"


def dali_builds() -> list[str]:
    names = (str(one.metadata["Name"]).lower() for one in metadata.distributions())
    return sorted({name for name in names if name.startswith("nvidia-dali-cuda")})


# weights


def demo_weights() -> Iterator[Finding]:
    listed = [line.split() for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines()]
    wrong = [name for digest, name in listed if not (WEIGHTS / name).is_file() or sha256(WEIGHTS / name) != digest]
    if wrong:
        yield Finding("problem", f"missing or changed: {', '.join(wrong)}", f"restore {WEIGHTS} from the repository")
    else:
        yield Finding("fine", f"{len(listed)} files, checksums match")


def clip_weights() -> Iterator[Finding]:
    """Compare OpenAI's weights in the cache with the checksums in their URLs."""
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    urls = published_models()
    complete, broken, missing = [], [], []
    for name in STUDENTS:
        digest, file = urls[name].split("/")[-2:] if name in urls else ("", "")
        if not file or not (cache / file).is_file():
            missing.append(name)
        else:
            (complete if sha256(cache / file) == digest else broken).append(name)
    if broken:
        yield Finding("warning", f"broken in {cache}: {', '.join(broken)}", "delete them: the next run downloads them")
    if complete:
        yield Finding("fine", f"{', '.join(complete)} in {cache}, checksums match")
    if missing:
        remedy = "the first run downloads them; without a network copy the files there (the demo needs none)"
        yield Finding("warning", f"not in {cache}: {', '.join(missing)}", remedy)


def published_models() -> dict[str, str]:
    """Return {name: URL} of the clip package, parsed from its source without importing it."""
    spec = importlib.util.find_spec("clip") if is_installed("clip") else None
    source = Path(spec.origin).with_name("clip.py") if spec and spec.origin else None
    if source is None or not source.is_file():
        return {}
    found = re.search(r"^_MODELS = (\{.*?\})", source.read_text(encoding="utf-8"), re.M | re.S)
    return ast.literal_eval(found[1]) if found else {}


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def teachers() -> Iterator[Finding]:
    """List the CLIPs in the cache of the Hugging Face hub, which open_clip uses."""
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub"))
    found = sorted(path.name for path in hub.expanduser().glob("models--*") if "CLIP" in path.name)
    if found:
        names = (name.removeprefix("models--").replace("--", "/") for name in found)
        yield Finding("fine", f"{', '.join(names)} in {hub}")
    else:
        remedy = "the first run downloads them; or set TEACHER.NAME open_clip:ARCHITECTURE//file, or ViT-L/14"
        yield Finding("warning", f"no open_clip weights in {hub.expanduser()}", remedy)


# folders and hardware


def data_sets(data: Path) -> Iterator[Finding]:
    folders = known_folders()
    found = sorted(name for folder, name in folders.items() if (data / folder).is_dir())
    if found:
        yield Finding("fine", f"{', '.join(found)} in {data}")
    elif own := own_images(data):
        yield Finding("fine", f"{data} is a custom data set: {own}")
    elif folders:  # an installed package has no data sets
        remedy = "the demo data set is drawn on first use; for other data sets give their folder: --data DIR"
        yield Finding("warning", f"none in {data}", remedy)


def known_folders() -> dict[str, str]:
    """Return {folder: class} of the data sets, parsed from datasets/ without importing it."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "datasets").glob("*.py")))
    found = re.findall(r'^class (\w+)|^    dataset_dir(?:: str)? = "(.+)"', text, re.M)
    folders, name = {}, ""
    for class_name, folder in found:
        name = class_name or name
        if folder:
            folders[folder] = name
    return folders


def own_images(data: Path) -> str:
    """Return the numbers of images and class folders of a custom data set, or "" without images or Pillow."""
    try:
        from fdbpl.io.image_files import Skipped, images_below, is_hidden
    except ImportError:
        return ""
    folders = sorted(path for path in data.glob("*") if path.is_dir() and not is_hidden(path.name))
    skipped = Skipped()
    counts = [len(images_below(str(folder), skipped)) for folder in folders]
    if not any(counts):
        return ""
    total = f"{sum(counts)} images in {sum(map(bool, counts))} folders"
    return total + (f" (skipped: {skipped})" if skipped else "")


def writable(output: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=existing_parent(output)):
            pass
    except OSError as error:
        remedy = "choose another folder: OUTPUT, --output-dir"
        yield Finding("problem", f"{output} cannot be written ({error.strerror})", remedy)
    else:
        yield Finding("fine", f"{output} can be written")


def disk(output: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(existing_parent(output)).free
    found = f"{free / 2**30:.1f} GiB free for {output}"
    if free < DEMO_BYTES:
        yield Finding("problem", found, f"free some space: the demo takes {DEMO_BYTES // 2**20} MiB")
    elif free < 10 * 2**30:
        yield Finding("warning", found, "enough for the demo; banks of large data sets take 10 GiB and more")
    else:
        yield Finding("fine", found)


def existing_parent(path: Path) -> Path:
    """Return the path, or its nearest existing parent."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{cores} processors"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        found += f", {memory:.0f} GiB of memory"
    yield Finding("fine", f"{found}, {platform.system()} {platform.machine()}")


def checks(data: Path, output: Path) -> list[Check]:
    """Return all checks, in the order of the report."""
    reinstall = "the versions do not match: pip install --force-reinstall torch torchvision, in one command"
    own_clip = "pip uninstall -y clip && pip install --force-reinstall openai-clip 'setuptools<81'"
    own_dassl = "install its requirements, or run from a checkout of FDBPL, which includes a stand-in for Dassl"
    install_open_clip = "for open_clip teachers: pip install open_clip_torch"
    install_dali = f"torchvision decodes instead. To use DALI (Linux): pip install {dali_build(driver_cuda())}"
    return [
        Check("Python", python),
        Check("packages", packages),
        Check("torch", torch, "torch", TORCH, "pip install --force-reinstall torch torchvision"),
        Check("GPU", gpus, needs_torch=True, optional=True),
        Check("torchvision", torchvision, "torchvision", TORCH, reinstall, needs_torch=True),
        Check("DALI", dali, "nvidia.dali", install_dali, install_dali, needs_torch=True, optional=True),
        Check("clip", clip, "clip", "pip install openai-clip", own_clip, needs_torch=True),
        Check("Dassl", dassl, repair=own_dassl, needs_torch=True),
        Check("open_clip", open_clip, "open_clip", install_open_clip, optional=True),
        Check("demo CLIPs", demo_weights),
        Check("CLIP weights", clip_weights),
        Check("teachers", teachers),
        Check("data sets", lambda: data_sets(data)),
        Check("output", lambda: writable(output)),
        Check("disk", lambda: disk(output)),
        Check("machine", machine),
    ]


def report(data: Path, output: Path) -> None:
    """Print every finding and the verdict; exit with 1 if there are problems."""
    states = []
    for check in checks(data, output):
        for finding in perform(check):
            states.append(finding.state)
            print(f"{MARKS[finding.state]} {check.subject:<12} {finding.found}", flush=True)
            if finding.remedy:
                print(f"   {'':<12} -> {finding.remedy}", flush=True)
    problems, warned = states.count("problem"), states.count("warning")
    verdict = f"cannot run: {problems} problem{'s' * (problems > 1)}" if problems else "can run"
    print(f"\nThe demo {verdict}" + (f" ({warned} of the optional parts have warnings)" if warned else ""))
    sys.exit(1 if problems else 0)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fdbpl.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder of the runs (default: output)")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="nothing was changed"):
        report(arguments.data.expanduser(), arguments.output.expanduser())


if __name__ == "__main__":
    main()
