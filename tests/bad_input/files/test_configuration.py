"""Invalid configuration files, overrides and flags."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

import train
from fdbpl.config import flatten, merge, pairs, plain, read_yaml
from fdbpl.errors import UserError

from ..calls import refused, succeeds
from .workspace import Workspace


@pytest.fixture
def words(prepared, tmp_path):
    """Return a function from overrides to the command line of a run of the shared workspace in its own folder."""

    def of(*overrides: object, trainer: str = "CoOp", flags: tuple = (), config: Path | None = None) -> list[str]:
        line = Workspace(prepared).words(*overrides, trainer=trainer, flags=flags, config=config)
        line[line.index("--output-dir") + 1] = str(tmp_path / "run")
        return line

    return of


# files ---------------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in itertools.pairwise("abcdefg"))
FILES = {
    "an unknown key": ("OPTIM:\n  LERNING_RATE: 0.1\n", "OPTIM.LERNING_RATE"),
    "a misspelt key": ("OPTIM:\n  MAX_EPOCHS: 5\n", "did you mean OPTIM.MAX_EPOCH?"),
    "a misspelt section": ("OPTIMM:\n  LR: 5\n", "did you mean OPTIM.LR?"),
    "a key in lower case": ("optim:\n  lr: 5\n", "'optim.lr'"),
    "a number for a section": ("OPTIM: 5\n", "'OPTIM'"),
    "an empty section": ("OPTIM:\n", "'OPTIM'"),
    "a section for a number": ("SEED:\n  A: 5\n", "'SEED.A'"),
    "a word for a number": ("OPTIM:\n  LR: fast\n", "must be a number"),
    "a quoted word for a number": ('OPTIM:\n  LR: "fast"\n', "must be a number"),
    "a fraction for a whole number": ("OPTIM:\n  MAX_EPOCH: 2.5\n", "must be a whole number"),
    "a flag for a number": ("OPTIM:\n  MAX_EPOCH: yes\n", "must be a whole number"),
    "a flag for a rate": ("OPTIM:\n  LR: true\n", "must be a number"),
    "a number for a flag": ("VERBOSE: 1\n", "must be True or False"),
    "a number for a list": ("INPUT:\n  SIZE: 224\n", "must be a list"),
    "a text for a list": ("INPUT:\n  SIZE: big\n", "must be a list"),
    "a list of words": ("INPUT:\n  SIZE: [a, b]\n", "must be a list"),
    "a list of lists": ("INPUT:\n  SIZE: [[32, 32]]\n", "must be a list"),
    "a list of flags": ("INPUT:\n  SIZE: [true, false]\n", "must be a list"),
    "a list for a text": ("TRAINER:\n  NAME: [CoOp]\n", "must be a text"),
    "a mapping for a text": ("TRAINER:\n  NAME: {A: 1}\n", "'TRAINER.NAME.A'"),
    "null for a text": ("TRAINER:\n  NAME:\n", "must be a text"),
    "null for a number": ("OPTIM:\n  LR:\n", "must be a number"),
    "NaN": ("OPTIM:\n  LR: .nan\n", "must be a number"),
    "Inf": ("OPTIM:\n  LR: .inf\n", "must be a number"),
    "a number beyond float64": (f"OPTIM:\n  LR: 1{'0' * 400}\n", "must be a number"),
    "a number of five thousand digits": (f"OPTIM:\n  MAX_EPOCH: {'9' * 5000}\n", "YAML"),
    "a date for a number": ("OPTIM:\n  LR: 2026-01-01\n", "must be a number"),
    "a list": ("- OPTIM\n- LR\n", "contains a list"),
    "an empty list": ("[]\n", "contains a list"),
    "a text": ("just words\n", "contains a str"),
    "a number": ("7\n", "contains a int"),
    "false": ("false\n", "contains a bool"),
    "an open brace": ("OPTIM: {LR: 0.1\n", "not valid YAML"),
    "tabs": ("OPTIM:\n\tLR: 0.1\n", "not valid YAML"),
    "a bad escape": ('TRAINER:\n  NAME: "\\q"\n', "not valid YAML"),
    "two documents": ("SEED: 1\n---\nSEED: 2\n", "not valid YAML"),
    "a key twice": ("OPTIM:\n  LR: 0.1\n  LR: 0.2\n", "the key LR twice"),
    "a section twice": ("OPTIM:\n  LR: 0.1\nOPTIM:\n  MAX_EPOCH: 2\n", "the key OPTIM twice"),
    "an alias": ("OPTIM: &o\n  LR: 0.1\nINPUT: *o\n", "the alias *o"),
    "a bomb of aliases": (BOMB, "the alias *a"),
    "a list that contains itself": ("A: &a [*a]\n", "the alias *a"),
    "thousands of brackets": ("A: " + "[" * 5000, "not valid YAML"),
    "code": ("A: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    "an object": ("A: !!python/object/new:pathlib.Path [x]\n", "not valid YAML"),
    "a function": ("A: !!python/name:os.system\n", "not valid YAML"),
    "an unknown tag": ("A: !secret x\n", "not valid YAML"),
    "a key that is a list": ("? [a, b]\n: 1\n", "not valid YAML"),
    "a key that is a number": ("1: 2\n", "'1'"),
    "binary data": (b"\x89PNG\r\n\x1a\n\x00\x00", "not valid YAML"),
    "UTF-16": ("SEED: 1\n".encode("utf-16"), "not valid YAML"),
    "Latin-1": ("DATASET: {ROOT: caf\xe9}\n".encode("latin-1"), "not valid YAML"),
    "zero bytes": (b"SEED: 1\x00\n", "not valid YAML"),
    "no keys below PER_DATASET": ("PER_DATASET:\n  demo: 1\n", "PER_DATASET.demo"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("flag", ["--config-file", "--dataset-config-file"])
def test_invalid_files(tmp_path, case, flag):
    content, message = FILES[case]
    file = tmp_path / "broken.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(train.main, [flag, file, "--output-dir", tmp_path / "run"], [message, "broken.yaml"], unchanged=[file])
    assert not (tmp_path / "run").exists()


UNUSUAL = ["", "# only a comment\n", "---\n", "{}\n", "null\n", "\ufeffSEED: 1\n", "SEED: 1\r\n"]


@pytest.mark.parametrize("content", UNUSUAL)
def test_unusual_valid_files(tmp_path, content):
    (tmp_path / "unusual.yaml").write_bytes(content.encode())
    assert read_yaml(str(tmp_path / "unusual.yaml")) == ({"SEED": 1} if "SEED" in content else {})


@pytest.mark.parametrize("place", ["nowhere.yaml", "folder", "folder/nowhere/x.yaml", "x" * 300])
def test_missing_files(tmp_path, place):
    (tmp_path / "folder").mkdir()
    refused(train.main, ["--config-file", tmp_path / place, "--output-dir", tmp_path / "run"], place[:50])


# overrides -----------------------------------------------------------------------------------------------------------

OVERRIDES = {
    "one word": (["OPTIM.LR"], "KEY VALUE"),
    "three words": (["OPTIM.LR", "1", "SEED"], "KEY VALUE"),
    "a misspelt key": (["OPTIM.LRR", "1"], "did you mean OPTIM.LR?"),
    "an unknown key": (["zzz", "1"], "'zzz'"),
    "an empty key": (["", "1"], "''"),
    "a key of dots": (["..", "1"], "'..'"),
    "a flag after the overrides": (["--seed", "2"], "'--seed'"),
    "a section": (["OPTIM", "1"], "'OPTIM'"),
    "a flag for a whole number": (["OPTIM.MAX_EPOCH", "True"], "must be a whole number"),
    "a key below a value": (["OPTIM.LR.X", "1"], "'OPTIM.LR.X'"),
    "an attribute": (["OPTIM.__class__", "1"], "'OPTIM.__class__'"),
    "a word for a number": (["OPTIM.LR", "fast"], "OPTIM.LR in the command line is 'fast', but it must be a number"),
    "an empty number": (["OPTIM.LR", ""], "must be a number"),
    "a call": (["OPTIM.LR", "__import__('os').getpid()"], "must be a number"),
    "a sum": (["OPTIM.LR", "1 if 1 else 2"], "must be a number"),
    "NaN": (["OPTIM.LR", "nan"], "must be a number"),
    "Inf": (["OPTIM.LR", "1e999"], "must be a number"),
    "a number of five thousand digits": (["OPTIM.MAX_EPOCH", "9" * 5000], "must be a whole number"),
    "thousands of brackets": (["INPUT.SIZE", "(" * 10_000], "must be a list"),
    "a zero byte": (["OPTIM.LR", "1\\x00"], "must be a number"),
    "invalid UTF-8": (["OPTIM.LR", "\udcff"], "not UTF-8"),
    "two lines": (["OPTIM.LR", "1\n2"], "must be a number"),
    "a fraction for a whole number": (["OPTIM.MAX_EPOCH", "1.5"], "must be a whole number"),
    "a complex number": (["OPTIM.LR", "1j"], "must be a number"),
    "a number for a flag": (["USE_CUDA", "0"], "must be True or False"),
    "a word for a flag": (["USE_CUDA", "on"], "must be True or False"),
    "a number for a tuple": (["INPUT.SIZE", "32"], "must be a list"),
    "a set for a tuple": (["INPUT.SIZE", "{32}"], "must be a list"),
    "a dictionary for a tuple": (["INPUT.SIZE", "{1: 2}"], "must be a list"),
    "words for numbers": (["INPUT.SIZE", "('32', '32')"], "must be a list"),
    "a tuple of None": (["INPUT.SIZE", "(None, None)"], "must be a list"),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_invalid_overrides(words, tmp_path, case):
    more, message = OVERRIDES[case]
    refused(train.main, words(*more), message)
    assert not (tmp_path / "run").exists()


def test_overrides_are_converted_to_the_type_of_the_key(words, tmp_path):
    """Integers for floats, floats without a fraction for integers, lists for tuples, booleans in lower case."""
    given_words = ["OPTIM.LR", "1", "OPTIM.MAX_EPOCH", "1.0", "INPUT.SIZE", "[32, 32]", "VERBOSE", "false"]
    succeeds(train.main, words(*given_words, flags=("--no-train",)))
    stored = read_yaml(str(tmp_path / "run" / "config.yaml"))
    assert (stored["OPTIM.LR"], stored["OPTIM.MAX_EPOCH"], stored["VERBOSE"]) == (1.0, 1, False)
    assert isinstance(stored["OPTIM.LR"], float) and isinstance(stored["OPTIM.MAX_EPOCH"], int)


# invalid values ------------------------------------------------------------------------------------------------------

VALUES = {
    "OPTIM.LR": ["-1"],
    "OPTIM.WEIGHT_DECAY": ["-0.1"],
    "OPTIM.MOMENTUM": ["-0.9"],
    "OPTIM.NAME": ["sdg", "", "SGD"],
    "OPTIM.LR_SCHEDULER": ["cosin", ""],
    "OPTIM.WARMUP_TYPE": ["quadratic"],
    "OPTIM.STEPSIZE": ["()"],
    "OPTIM.GAMMA": ["-0.1"],
    "OPTIM.ADAM_EPS": ["-1e-8"],
    "OPTIM.WARMUP_CONS_LR": ["-1e-5"],
    "OPTIM.WARMUP_MIN_LR": ["-1e-5"],
    "OPTIM.MAX_EPOCH": ["0", "-3"],
    "OPTIM.CLIP_GRAD_NORM": ["-1"],
    "DATALOADER.TRAIN_X.BATCH_SIZE": ["0", "-4"],
    "DATALOADER.TEST.BATCH_SIZE": ["0"],
    "DATALOADER.NUM_WORKERS": ["-1"],
    "DATALOADER.K_TRANSFORMS": ["0", "2"],
    "DATALOADER.TRAIN_X.SAMPLER": ["RandomSample", ""],
    "DATALOADER.TEST.SAMPLER": ["Sequential"],
    "INPUT.TRANSFORMS": ["('random_resize_crop',)", "(1,)"],
    "INPUT.INTERPOLATION": ["bicubical", ""],
    "INPUT.SIZE": ["(32,)", "(0, 0)", "(-32, -32)", "()", "(64, 32)"],
    "INPUT.PIXEL_MEAN": ["[0.5, 0.5]", "[]"],
    "INPUT.PIXEL_STD": ["[0.2, 0.2]", "[0.2, 0.0, 0.2]", "[-1.0, 1.0, 1.0]"],
    "INPUT.NO_TRANSFORM": ["True"],
    "INPUT.RRCROP_SCALE": ["(1.0, 0.1)", "(0.0, 1.0)", "(1.0,)"],
    "INPUT.RGS_P": ["1.5"],
    "INPUT.GB_K": ["4", "0"],
    "INPUT.CUTOUT_N": ["-1"],
    "INPUT.COLORJITTER_H": ["0.7"],
    "TRAIN.PRINT_FREQ": ["0"],
    "TRAIN.CHECKPOINT_FREQ": ["-1"],
    "TEST.EVALUATOR": ["Regression"],
    "TEST.SPLIT": ["train"],
    "TEST.FINAL_MODEL": ["best"],
    "MODEL.BACKBONE.NAME": ["run:a_finished_run"],
    "MODEL.TEXT_CHUNK": ["-1"],
    "MODEL.INIT_WEIGHTS": ["weights.pt"],
    "TRAINER.COOP.N_CTX": ["0", "-1", "100"],
    "TRAINER.COOP.PREC": ["fp8", "FP32", "", "fp16", "amp"],
    "TRAINER.COOP.CLASS_TOKEN_POSITION": ["begin"],
    "DATASET.NAME": ["", "TinyWord"],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in VALUES.items() for value in values])
def test_invalid_values(words, key, value):
    more = ["TRAINER.COOP.CTX_INIT", ""] if key == "TRAINER.COOP.N_CTX" else []
    words_of = {"OPTIM.": "OPTIM", "TRAINER.COOP.N_CTX": "N_CTX"}
    named = next((word for prefix, word in words_of.items() if key.startswith(prefix)), key)
    refused(train.main, words(key, value, *more), named)


VALUES_OF_FDBPL = {
    "TRAINER.FDBPL.N_CTX": ["0"],
    "TRAINER.FDBPL.TEST_LOGITS": ["negative"],
    "TRAINER.FDBPL.ALPHA": ["-0.5"],
    "TRAINER.FDBPL.BETA": ["-0.5"],
    "TRAINER.FDBPL.PCD_WEIGHT": ["-1"],
    "TRAINER.FDBPL.ENTROPY_EPSILON": ["-1e-6"],
    "TRAINER.FDBPL.UNCERTAIN_WEIGHT": ["-1"],
    "TRAINER.FDBPL.LABEL_WEIGHT": ["-0.1"],
    "TRAINER.FDBPL.VOCABULARY_WEIGHT": ["-1"],
    "TRAINER.FDBPL.VOCABULARY_K": ["0"],
    "TRAINER.FDBPL.VOCABULARY_PULL": ["-1"],
    "TRAINER.FDBPL.NONE_WEIGHT": ["-1"],
    "TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": ["-1"],
    "TRAINER.FDBPL.GPA_STD": ["0.0"],
}
BANK_VALUES = {
    "REGIONS.PER_IMAGE": ["0", "-1"],
    "REGIONS.PER_EPOCH": ["0"],
    "REGIONS.STEPS_PER_EPOCH": ["-1"],
    "REGIONS.BATCH_SIZE": ["0"],
    "REGIONS.FLIP": ["-0.1", "1.1"],
    "REGIONS.SCALE": ["(0.0, 1.0)", "(0.9, 0.1)", "(0.1, 2.0)", "(0.5,)"],
    "REGIONS.RATIO": ["(-1.0, 1.0)", "(2.0, 1.0)"],
    "REGIONS.TARGET": ["logits", "topk:", "topk:0", "topk:ten"],
    "REGIONS.PIPELINE": ["fast"],
    "REGIONS.SEED": ["-1"],
    "TEACHER.PREC": ["fp12"],
    "TEACHER.TEMPLATE": ["a photo"],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in BANK_VALUES.items() for value in values])
def test_invalid_values_for_a_bank(words, key, value):
    refused(train.main, words(key, value, trainer="FDBPL", flags=("--generate-regions",)), key)


@pytest.mark.parametrize("key, value", [(key, value) for key, values in VALUES_OF_FDBPL.items() for value in values])
def test_invalid_values_for_fdbpl(words, key, value):
    refused(train.main, words(key, value, trainer="FDBPL"), key)


# flags ---------------------------------------------------------------------------------------------------------------

FLAGS = {
    "no trainer": (["--trainer", "", "TRAINER.NAME", ""], "--trainer"),
    "a misspelt trainer": (["--trainer", "FDBLP"], "FDBPL"),
    "a trainer in lower case": (["--trainer", "coop"], "CoOp"),
    "a seed that is too large": (["--seed", str(2**32)], "--seed"),
    "a negative seed": (["--seed", "-2"], "--seed"),
    "no output folder": (["OUTPUT_DIR", ""], "--output-dir"),
    "a misspelt transform": (["--transforms", "random_flipp", "--"], "INPUT.TRANSFORMS"),
    "a test without --model-dir": (["--eval-only"], "--model-dir"),
    "generation and a test": (["--generate-regions", "--eval-only"], "--eval-only"),
    "generation and --no-train": (["--generate-regions", "--no-train"], "--no-train"),
    "a missing model dir": (["--eval-only", "--model-dir", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_invalid_flags(words, case):
    more, message = FLAGS[case]
    refused(train.main, words(*more[2:] if more[2:] and more[0] == "--trainer" else (), flags=tuple(
        more[:2] if more[0] == "--trainer" else more)), message)  # fmt: skip


# random input --------------------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                                        max_size=3))  # fmt: skip


def defaults() -> CfgNode:
    return CfgNode(
        {"OPTIM": {"LR": 0.1, "MAX_EPOCH": 10, "NAME": "sgd"}, "SIZE": (224, 224), "MEAN": [0.5], "FLAG": False,
         "EMPTY": ()}
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["OPTIM.LR", "OPTIM.MAX_EPOCH", "OPTIM.NAME", "SIZE", "MEAN", "FLAG", "EMPTY", "OPTIM", "X"]),
       TREES | st.text())  # fmt: skip
def test_random_values_keep_the_type_of_the_key_or_are_refused(key, value):
    cfg = defaults()
    try:
        merge(cfg, flatten({key: value}) or {key: value}, "the test")
    except UserError as error:
        assert key.split(".")[0] in str(error) or "X" in key
        assert cfg == defaults() and len(str(error)) < 1000
        return
    before, after = flatten(plain(defaults())), flatten(plain(cfg))
    assert {name: type(value) for name, value in before.items()} == {name: type(value) for name, value in after.items()}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(alphabet="AB:-[]{}&*!#|>%@ \n\t'\"1.", max_size=40).map(str.encode))
def test_random_files_give_keys_and_values_or_are_refused(tmp_path, content):
    file = tmp_path / "any.yaml"
    file.write_bytes(content)
    try:
        found = read_yaml(str(file))
    except UserError as error:
        assert str(file) in str(error) and "\n" not in str(error)
        return
    assert all(isinstance(key, str) for key in found)


@given(st.lists(st.text(max_size=5), max_size=7))
def test_random_words_are_pairs_or_refused(words):
    kept = [word for word in words if word != "--"]
    if len(kept) % 2 or any(key.startswith("--") or "=" in key for key in kept[::2]):
        with pytest.raises(UserError, match="KEY VALUE"):
            pairs(words)
    else:
        assert pairs(words) == dict(zip(kept[::2], kept[1::2], strict=True))
