# shellcheck shell=bash
# Sourced by every script: makes $PYTHON, an interpreter that has the packages of requirements.txt.
# An environment that has them already is used as it is; else one is made in .venv, or in the folder that FDBPL_VENV names.

trap 'exit 130' INT # Ctrl-C ends a script also where the program of the moment was just done

# One line of bounded length, whatever is quoted in it
fail() {
    local message="${*//[[:cntrl:]]/?}"
    [ ${#message} -le 4000 ] || message="${message:0:2000} [...] ${message: -1900}"
    printf 'error: %s\n' "$message" >&2
    exit "${STATUS:-2}"
}

# Paths in the environment are meant from where the user stands; everything else happens in the project's folder.
CALLED_FROM="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
for variable in FDBPL_VENV DATA IMAGES TARGET_IMAGES SYNTHETIC OUTPUT FDBPL_DASSL FDBPL_SHARED FDBPL_PARITY; do
    value="${!variable:-}"
    if [[ "$value/" = \~/* ]]; then # the shell does not expand it in quotes
        value="$HOME${value#\~}"
        export "$variable=$value"
    fi
    case "$value" in
        "" | /*) ;;
        -*) export "$variable=$CALLED_FROM/$value" ;; # no flag
        *) [ "$CALLED_FROM" = "$PWD" ] || export "$variable=$CALLED_FROM/$value" ;;
    esac
done
FDBPL_VENV="${FDBPL_VENV:-.venv}"

# Are the packages there? Looks them up without importing them: a tenth of a second.
has_packages() {
    [ -x "$(command -v "$1")" ] && "$1" - "${@:2}" <<'PY' >/dev/null 2>&1
import importlib.util, sys
assert sys.version_info >= (3, 10)
names = ["torch", "torchvision", "yacs", "yaml", "numpy", "PIL", "safetensors", "sklearn", "tensorboard", "tqdm", "gdown",
         "requests", "jinja2", "matplotlib", "pandas", "pkg_resources", *sys.argv[1:]]
assert all(importlib.util.find_spec(name) for name in names)
assert importlib.util.find_spec("clip").submodule_search_locations, "a module called clip, not OpenAI's package"
from pathlib import Path
assert Path(importlib.util.find_spec("clip").origin).with_name("model.py").is_file()
PY
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null &&
            command -v "$candidate" && return
    done
    STATUS=1 fail "There is no Python 3.10 or newer. Install one, e.g. apt-get install python3 python3-venv"
}

# Requirements file of NVIDIA DALI for the driver's CUDA version, else for that of torch; without a GPU that of CUDA 13
dali_requirements() {
    local cuda
    cuda="$(nvidia-smi 2>/dev/null | sed -nE 's/.*CUDA[^:]*Version: *([0-9]+).*/\1/p' | head -n 1)" || true
    [ -n "$cuda" ] || cuda="$("$1" -c 'import torch; print((torch.version.cuda or "").partition(".")[0])' 2>/dev/null)" || true
    if [ "$cuda" = 12 ]; then echo requirements/dali-cuda12.txt; else echo requirements/dali-cuda13.txt; fi
}

# make_environment REQUIREMENTS [MODULE ...]: sets PYTHON; the modules are those of REQUIREMENTS beyond requirements.txt
make_environment() {
    local requirements="$1"
    shift
    PYTHON="$FDBPL_VENV/bin/python"
    has_packages "$PYTHON" "$@" && return
    if [ ! -e "$FDBPL_VENV" ] && has_packages python3 "$@"; then
        PYTHON="$(command -v python3)"
        return
    fi
    { mkdir -p "$(dirname "$FDBPL_VENV")" && (: >>"$FDBPL_VENV.lock"); } 2>/dev/null ||
        STATUS=1 fail "no Python here has the packages of $requirements, and the environment $FDBPL_VENV cannot be made: its folder is not writable. Set FDBPL_VENV to a folder that you may write to, or to an environment that has the packages"
    (
        command -v flock >/dev/null && flock 9 # two scripts at once: the second waits for the first one's environment
        has_packages "$PYTHON" "$@" && exit 0
        echo "Making the Python environment $FDBPL_VENV (once; a few minutes, about 6 GB with the CUDA build of torch)"
        if [ ! -x "$PYTHON" ] || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
            "$(find_python)" -m venv --clear "$FDBPL_VENV" ||
                STATUS=1 fail "python -m venv failed; install it, e.g. apt-get install python3-venv, and run the script again"
        fi
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
            STATUS=1 fail "the packages of $requirements cannot be installed; check the network and run the script again"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$(dali_requirements "$PYTHON")" ||
            echo "NVIDIA DALI cannot be installed; torchvision decodes the images instead" >&2
        has_packages "$PYTHON" "$@" || STATUS=1 fail "$FDBPL_VENV lacks packages after its installation; delete it and run the script again"
    ) 9>"$FDBPL_VENV.lock" || exit 1
    rm -f "$FDBPL_VENV.lock"
}

# attached COMMAND ...: run it; where this script is killed it gets SIGTERM, which it answers as it answers Ctrl-C
attached() { "$PYTHON" -m fdbpl.interruption "$@"; }
