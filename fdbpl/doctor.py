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
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from fdbpl.errors import UserError, cli_error_handler

ROOT = Path(__file__).resolve().parents[1]


class Finding(NamedTuple):
    """The result of a check, printed as one line.

    Attributes:
        state: "fine", "warning" (an optional part is missing) or "problem" (not even the demo can run).
        remedy: how to fix it; "" if the state is fine.
    """

    state: str
    subject: str
    found: str
    remedy: str = ""


def fine(subject: str, found: str) -> Finding:
    return Finding("fine", subject, found)


def warning(subject: str, found: str, remedy: str) -> Finding:
    return Finding("warning", subject, found, remedy)


def problem(subject: str, found: str, remedy: str) -> Finding:
    return Finding("problem", subject, found, remedy)


def safely(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run a check silently; an exception becomes a finding."""
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            return list(check())
    except (Exception, SystemExit) as error:
        name = getattr(check, "__name__", "check").replace("_", " ")
        return [problem(name, f"cannot be checked ({reason(error)})", "check that file or package")]


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}".rstrip(": ")


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def present(module: str) -> bool:
    """Tell whether `import module` would find a file, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit):
        return False
    return True


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Python and packages


INSTALL = "pip install -r requirements.txt, or any script of scripts/, which creates its own environment in .venv"
# distributions whose module has another name
MODULES = {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn"}
CHECKED_SEPARATELY = {"torch", "torchvision", "openai-clip", "setuptools"}


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 10):  # noqa: UP036 (an older Python may run this file)
        yield problem("Python", found, "install Python 3.10 or newer, e.g. apt-get install python3 python3-venv")
    else:
        yield fine("Python", found)
    own = Path(os.environ.get("FDBPL_VENV", ROOT / ".venv"), "bin", "python")
    if own.is_file() and Path(sys.prefix).resolve() != own.parents[1].resolve():
        yield warning("", "not the Python of the scripts' environment", f"use it: {own} -m fdbpl.doctor")


def requirements() -> list[tuple[str, str]]:
    """(package, version range) pairs of requirements.txt, or of the installed distribution."""
    file = ROOT / "requirements.txt"
    if file.is_file():
        included = re.findall(r"^-r (\S+)", file.read_text(), re.M)
        lines = [line for name in included for line in (ROOT / name).read_text().splitlines()]
    else:
        lines = metadata.requires("fdbpl") or []
    found = []
    for line in lines:
        match = re.match(r"([\w.-]+)\s*([^;#]*)", line.strip())
        if match and "extra ==" not in line:
            found.append((match[1], match[2].strip()))
    return found


def fits(found: str, wanted: str) -> bool:
    """Tell whether a version satisfies a range of >=, < and == parts; suffixes such as rc1 or +cu130 are ignored."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"^[\d.]*", text)[0].strip(".").split(".") if part]

    holds = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}
    for part in filter(None, wanted.split(",")):
        match = re.match(r"\s*(>=|<|==)\s*([\d.]+)", part)
        if match and not holds[match[1]](numbers(found), numbers(match[2])):
            return False
    return True


def packages() -> Iterator[Finding]:
    others = [(name, wanted) for name, wanted in requirements() if name not in CHECKED_SEPARATELY]
    missing = [name for name, _ in others if not present(MODULES.get(name, name))]
    old = [f"{name} {found} (needs {wanted})" for name, wanted in others
           if (found := version(name)) and not fits(found, wanted)]  # fmt: skip
    if missing or old:
        parts = (("missing", missing), ("wrong version", old))
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        yield problem("packages", found, INSTALL)
    else:
        yield fine("packages", f"{len(others)} of requirements.txt, besides those below")


def torch_and_gpu() -> Iterator[Finding]:
    if not present("torch"):
        yield problem("torch", "none", "pip install torch torchvision")
        return
    try:
        torch = importlib.import_module("torch")
        found = torch.__version__
        torch.zeros(1).sum()
    except (Exception, SystemExit) as error:
        remedy = "pip install --force-reinstall torch torchvision"
        yield problem("torch", f"{version('torch')}, does not work ({reason(error)})", remedy)
        return
    wanted = dict(requirements()).get("torch", "")
    if not fits(found, wanted):
        yield problem("torch", f"{found} (needs {wanted})", "pip install --upgrade torch torchvision")
        return
    yield fine("torch", found)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield gpu(torch, number)
    elif torch.version.cuda is None:
        yield warning("GPU", "none: this torch is built for CPUs", "PREC fp32; for a GPU install torch's CUDA build")
    else:
        remedy = "PREC fp32; where nvidia-smi shows a GPU, its driver is older than this torch asks for"
        yield warning("GPU", f"none that torch (CUDA {torch.version.cuda}) can use", remedy)


def gpu(torch, number: int) -> Finding:
    """Run one kernel on a GPU: torch also lists GPUs for which its build has no kernels."""
    device = torch.cuda.get_device_properties(number)
    found = f"{number}: {device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    try:
        torch.ones(1, device=f"cuda:{number}").sum().item()
    except Exception as error:
        remedy = "install a torch with kernels for it, or hide it: CUDA_VISIBLE_DEVICES, or USE_CUDA False"
        finding = problem if number == 0 else warning  # runs use the first GPU by default
        return finding("GPU", f"{found}, cannot compute ({reason(error)})", remedy)
    return fine("GPU", found)


def torchvision() -> Iterator[Finding]:
    if not present("torchvision"):
        yield problem("torchvision", "none", "pip install torch torchvision")
        return
    if not imports("torch"):
        yield problem("torchvision", f"{version('torchvision')}, not checked without torch", "fix torch first")
        return
    try:
        importlib.import_module("torchvision")
        ops, torch = importlib.import_module("torchvision.ops"), sys.modules["torch"]
        ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (Exception, SystemExit) as error:
        pair = f"torchvision {version('torchvision')} with torch {version('torch')}"
        remedy = "the versions do not match: pip install --force-reinstall torch torchvision, in one command"
        yield problem("torchvision", f"{pair} does not work ({reason(error)})", remedy)
        return
    yield fine("torchvision", f"{version('torchvision')}, matches torch")


def clip() -> Iterator[Finding]:
    if not present("clip"):
        yield problem("clip", "none", "pip install openai-clip")
        return
    spec = importlib.util.find_spec("clip")
    origin = spec.origin if spec else None
    if not origin or not Path(origin).with_name("model.py").is_file():
        yield problem("clip", f"not OpenAI's: {origin or 'a folder of that name'}",
                      "pip uninstall -y clip && pip install openai-clip")  # fmt: skip
        return
    if not present("pkg_resources"):
        yield problem("clip", "lacks pkg_resources", "pip install 'setuptools<81'")
        return
    if not imports("torch"):
        yield problem("clip", "not checked without torch", "fix torch first")
        return
    from fdbpl.backbones.openai_package import clip_package

    try:
        package = clip_package()
    except UserError as error:
        sentence, _, remedy = str(error).partition("; ")
        yield problem("clip", sentence, remedy)
    except Exception as error:
        yield problem("clip", f"does not import ({reason(error)})", "pip install --force-reinstall openai-clip")
    else:
        yield fine("clip", f"OpenAI's {version('openai-clip') or ''} ({Path(str(package.__file__)).parent})")


def dassl() -> Iterator[Finding]:
    if not imports("torch"):
        yield problem("Dassl", "not checked without torch", "fix torch first")
        return
    try:
        if (ROOT / "third_party" / "dassl_source.py").is_file():
            line = importlib.import_module("third_party").use_dassl()
        else:
            place = str(importlib.import_module("dassl.engine").__file__)
            patched = importlib.import_module("fdbpl.third_party.dassl_patches").apply_patches()
            line = f"installed ({Path(place).parents[1]}), patched: {', '.join(patched) or 'nothing'}"
    except UserError as error:
        sentence, _, remedy = str(error).partition("; ")
        yield problem("Dassl", sentence, remedy)
    except (Exception, SystemExit) as error:
        remedy = "install its requirements, or run from a checkout of FDBPL, which includes a replacement for Dassl"
        yield problem("Dassl", f"does not import ({reason(error)})", remedy)
    else:
        yield fine("Dassl", line.removeprefix("Dassl: "))


def cuda_of_driver() -> str | None:
    """Major CUDA version that the NVIDIA driver supports, by nvidia-smi; None without a driver."""
    try:
        printed = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"CUDA[^:\n]*Version: *(\d+)", printed)
    return found[1] if found else None


def dali() -> Iterator[Finding]:
    cuda = cuda_of_driver()
    wanted = "nvidia-dali-cuda120" if cuda == "12" else "nvidia-dali-cuda130"
    remedy = f"torchvision decodes instead. To use DALI (Linux): pip install {wanted}"
    installed = [name for name in metadata_names() if name.startswith("nvidia-dali-cuda")]
    if not installed or not present("nvidia.dali"):
        yield warning("DALI", "none", remedy)
        return
    found = ", ".join(f"{version(name)} ({name})" for name in installed)
    if len(installed) > 1 or (cuda == "12" and wanted not in installed):  # a driver of CUDA 13 runs both
        why = "two builds share one folder" if len(installed) > 1 else f"the driver supports CUDA {cuda} only"
        replace = f"pip uninstall -y {' '.join(installed)} && pip install {wanted}"
        yield warning("DALI", f"{found}, but {why}", replace)
    if not imports("nvidia.dali"):
        yield warning("DALI", f"{found}, does not import", remedy)
    elif not imports("torch"):
        yield warning("DALI", f"{found}, not checked without torch", "fix torch first")
    else:
        yield from dali_devices(found, remedy)


def dali_devices(found: str, remedy: str) -> Iterator[Finding]:
    """Build a DALI pipeline on the CPU and on each GPU."""
    from fdbpl.pipelines.dali import DaliPipeline

    try:
        DaliPipeline(ROOT, size=8, batch_size=1, workers=1)
    except Exception as error:
        yield warning("DALI", f"{found}, does not work ({reason(error)})", remedy)
        return
    yield fine("DALI", f"{found}, decodes on the CPU")
    torch = sys.modules["torch"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        try:
            DaliPipeline(ROOT, size=8, batch_size=1, device=f"cuda:{number}", workers=1, dali_device="gpu")
        except Exception as error:
            yield warning("DALI", f"cannot decode on GPU {number} ({reason(error)})", "keep REGIONS.DALI_DEVICE cpu")
        else:
            yield fine("DALI", f"can decode on GPU {number} (REGIONS.DALI_DEVICE gpu)")


def metadata_names() -> list[str]:
    return [str(one.metadata["Name"]).lower() for one in metadata.distributions() if one.metadata["Name"]]


def open_clip() -> Iterator[Finding]:
    if present("open_clip"):
        yield fine("open_clip", version("open_clip_torch") or "installed")
    else:
        yield warning("open_clip", "none: needed for open_clip teachers", "pip install open_clip_torch")


# folders, disk, machine


DEMO_BYTES = 200 * 2**20  # of the demo's images, region bank and runs


def data_sets(data: Path) -> Iterator[Finding]:
    folders = declared_folders()
    if not folders:
        return  # an installed package has no data sets
    there = sorted(name for folder, name in folders.items() if (data / folder).is_dir())
    if there:
        yield fine("data sets", f"{', '.join(there)} in {data}")
    elif own := own_images(data):
        yield fine("data sets", f"{data} is a custom data set: {own}")
    else:
        remedy = "the demo data set is drawn on first use; for other data sets give their folder: --data DIR"
        yield warning("data sets", f"none in {data}", remedy)


def own_images(data: Path) -> str:
    """Numbers of images and class folders in a folder of custom images; "" if there are none, or without Pillow."""
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


def declared_folders() -> dict[str, str]:
    """{folder: class} of the data sets, parsed from their files without importing them."""
    folders = {}
    for file in sorted((ROOT / "datasets").glob("*.py")):
        for declared in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(declared, ast.ClassDef):
                continue
            for node in declared.body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "dataset_dir":
                    folder = getattr(node.value, "value", "")
                    folders.update({folder: declared.name} if folder else {})
    return folders


def writable(output: Path) -> Iterator[Finding]:
    place = existing(output)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        remedy = "choose another folder: OUTPUT, --output-dir"
        yield problem("output", f"{output} cannot be written ({error.strerror})", remedy)
    else:
        yield fine("output", f"{output} can be written")


def existing(path: Path) -> Path:
    """The path, or its nearest existing parent."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def disk(output: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(existing(output)).free
    found = f"{free / 2**30:.1f} GiB free for {output}"
    if free < DEMO_BYTES:
        yield problem("disk", found, f"free some space: the demo takes {DEMO_BYTES // 2**20} MiB")
    elif free < 10 * 2**30:
        yield warning("disk", found, "enough for the demo; banks of large data sets take 10 GiB and more")
    else:
        yield fine("disk", found)


def machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{cores} processors"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        found += f", {memory:.0f} GiB of memory"
    yield fine("machine", f"{found}, {platform.system()} {platform.machine()}")


# weights


DEMO = Path(__file__).resolve().parent / "backbones" / "weights"
STUDENTS = ("RN50", "ViT-B/32", "ViT-B/16", "ViT-L/14")


def demo_clips() -> Iterator[Finding]:
    """Compare the demo CLIPs in the repository with their checksums."""
    remedy = f"restore {DEMO} from the repository"
    listed = [line.split() for line in (DEMO / "SHA256SUMS").read_text().splitlines()]
    wrong = [name for digest, name in listed if not (DEMO / name).is_file() or sha256(DEMO / name) != digest]
    if wrong:
        yield problem("demo CLIPs", f"missing or changed: {', '.join(wrong)}", remedy)
    else:
        yield fine("demo CLIPs", f"{len(listed)} files, checksums match")


def clip_weights() -> Iterator[Finding]:
    """Compare OpenAI's weights in the cache with the checksums in their URLs."""
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    models = published_models()
    there, broken, missing = [], [], []
    for name in STUDENTS:
        if name in models:
            digest, file = models[name].split("/")[-2], cache / models[name].rsplit("/", 1)[1]
            (missing if not file.is_file() else there if sha256(file) == digest else broken).append(name)
    if broken:
        remedy = "delete them: the next run downloads them"
        yield warning("CLIP weights", f"broken in {cache}: {', '.join(broken)}", remedy)
    if there:
        yield fine("CLIP weights", f"{', '.join(there)} in {cache}, checksums match")
    if missing or not models:
        need = f"not in {cache}: {', '.join(missing or STUDENTS)}"
        remedy = "the first run downloads them; without a network copy the files there (the demo needs none)"
        yield warning("CLIP weights", need, remedy)


def published_models() -> dict[str, str]:
    """{name: URL} of the clip package, parsed from its source without importing it."""
    spec = importlib.util.find_spec("clip") if present("clip") else None
    source = Path(spec.origin).with_name("clip.py") if spec and spec.origin else None
    if source is None or not source.is_file():
        return {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_MODELS":
            return ast.literal_eval(node.value)
    return {}


def teachers() -> Iterator[Finding]:
    """List the CLIPs in the cache of the Hugging Face hub, which open_clip uses."""
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub"))
    found = sorted(path.name for path in hub.expanduser().glob("models--*") if "CLIP" in path.name)
    if found:
        names = (name.removeprefix("models--").replace("--", "/") for name in found)
        yield fine("teachers", f"{', '.join(names)} in {hub}")
    else:
        remedy = "the first run downloads them; or set TEACHER.NAME open_clip:ARCHITECTURE//file, or ViT-L/14"
        yield warning("teachers", f"no open_clip weights in {hub.expanduser()}", remedy)


MARKS = {"fine": "ok", "warning": "! ", "problem": "X "}


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder of the runs (default: output)")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="nothing was changed"):
        examine(arguments.data.expanduser(), arguments.output.expanduser())


def examine(data: Path, output: Path) -> None:
    """Print every finding and the verdict; exit with 1 if there are problems."""
    findings = []
    for check in checks(data, output):
        for finding in safely(check):
            findings.append(finding)
            print(f"{MARKS[finding.state]} {finding.subject:<12} {finding.found}", flush=True)
            if finding.remedy:
                print(f"   {'':<12} -> {finding.remedy}", flush=True)
    problems = sum(finding.state == "problem" for finding in findings)
    warned = sum(finding.state == "warning" for finding in findings)
    verdict = f"cannot run: {problems} problem{'s' * (problems > 1)}" if problems else "can run"
    print(f"\nThe demo {verdict}" + (f" ({warned} of the optional parts have warnings)" if warned else ""))
    sys.exit(1 if problems else 0)


def checks(data: Path, output: Path) -> list[Callable[[], Iterator[Finding]]]:
    return [
        python, packages, torch_and_gpu, torchvision, dali, clip,
        dassl, open_clip, demo_clips, clip_weights, teachers,
        lambda: data_sets(data), lambda: writable(output), lambda: disk(output), machine,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
