"""Reading and merging of YAML files and KEY VALUE pairs; renamed keys.

tests/bad_input/files/test_configuration.py has invalid files, keys and values.
"""

import pytest
from yacs.config import CfgNode

from fdbpl.config import flatten, merge, pairs, plain, read_yaml, yaml_files
from fdbpl.errors import UserError
from fdbpl.runs import RunFolder


def defaults() -> CfgNode:
    return CfgNode(
        {
            "OPTIM": {"LR": 0.1, "MAX_EPOCH": 10, "NAME": "sgd"},
            "INPUT": {"SIZE": (224, 224)},
            "FLAG": False,
            "ANY": None,
        }
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("OPTIM.LR", "4", 4.0),
        ("OPTIM.LR", "1e-3", 1e-3),
        ("OPTIM.LR", 2, 2.0),
        ("OPTIM.MAX_EPOCH", "5", 5),
        ("OPTIM.MAX_EPOCH", "5.0", 5),
        ("OPTIM.NAME", "123", "123"),
        ("INPUT.SIZE", "(64, 64)", (64, 64)),
        ("INPUT.SIZE", [64, 64], (64, 64)),
        ("FLAG", "true", True),
        ("FLAG", "False", False),
        ("ANY", "word", "word"),
    ],
)
def test_values_take_the_type_of_the_default(key, value, expected):
    cfg = defaults()
    merge(cfg, {key: value}, "the command line")
    found = flatten(plain(cfg))[key]
    assert (tuple(found) if isinstance(found, list) else found) == expected
    assert isinstance(expected, tuple) or type(found) is type(expected)


def test_pairs():
    assert pairs(["A", "1", "--", "B.C", "x"]) == {"A": "1", "B.C": "x"}
    with pytest.raises(UserError, match=r"3 words \(A 1 B\)"):
        pairs(["A", "1", "B"])


def test_missing_and_empty_yaml(tmp_path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(UserError, match=r"does not exist.*demo\.yaml"):
        read_yaml(str(tmp_path / "dem.yaml"))
    assert read_yaml(str(tmp_path / "demo.yaml")) == {}


def test_a_file_is_merged_over_its_bases(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "a.yaml").write_text("A: 1\nB:\n  C: 1\n  D: 1\n")
    (tmp_path / "base" / "b.yaml").write_text("_BASE_: a.yaml\nB:\n  C: 2\n")
    file = tmp_path / "file.yaml"
    file.write_text("_BASE_: [base/b.yaml, base/a.yaml]\nB:\n  D: 3\n")
    assert read_yaml(file) == {"A": 1, "B.C": 2, "B.D": 3}
    assert yaml_files(file) == [str(tmp_path / name) for name in ("base/a.yaml", "base/b.yaml", "file.yaml")]


@pytest.mark.parametrize(
    ("base", "message"),
    [("file.yaml", "is its own _BASE_"), ("none.yaml", "none.yaml does not exist"), ("{A: 1}", "path or a list"),
     ("[1]", "path or a list")],
)  # fmt: skip
def test_invalid_bases(tmp_path, base, message):
    (tmp_path / "file.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(UserError, match=message):
        read_yaml(tmp_path / "file.yaml")


def test_renamed_keys_are_accepted_with_a_warning(capsys):
    cfg = CfgNode({"REGIONS": CfgNode({"TARGET": "embedding"})})
    for _ in range(2):
        merge(cfg, {"REGIONS.CONTENT": "topk:5"}, "old.yaml")
    assert cfg.REGIONS.TARGET == "topk:5"
    assert capsys.readouterr().err.count("REGIONS.CONTENT in old.yaml is now called REGIONS.TARGET") == 1


def test_a_run_recorded_under_old_keys_is_recognised(tmp_path):
    old = {"REGIONS": {"CONTENT": "embedding", "FEATURES": True}, "FEATURES": {"ROOT": "a"}, "DATASET": {"CACHE": "b"}}
    RunFolder(tmp_path, old).start("")
    same = {"REGIONS": {"TARGET": "embedding", "CACHE_STUDENT_FEATURES": True}, "TEST": {"FEATURE_CACHE_DIR": "c"}}
    other = {"REGIONS": {"TARGET": "embedding", "CACHE_STUDENT_FEATURES": False}}
    assert RunFolder(tmp_path, same).finished_metrics() is None  # the same run, which is not finished
    with pytest.raises(UserError, match="REGIONS.CACHE_STUDENT_FEATURES"):
        RunFolder(tmp_path, other).finished_metrics()
