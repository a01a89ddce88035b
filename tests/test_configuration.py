import pytest
from yacs.config import CfgNode

from fdbpl.config import flatten, merge, pairs, plain, read_yaml
from fdbpl.errors import UserError


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


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("OPTIM.LR", "fast", r"expected float for OPTIM\.LR .*found 'fast'"),
        ("OPTIM.MAX_EPOCH", "2.5", "expected int"),
        ("OPTIM.MAX_EPOCH", "True", "expected int"),
        ("FLAG", "1", "expected bool"),
        ("INPUT.SIZE", "64", "expected tuple"),
        ("OPTIM.LEARNING", "1", "found 'OPTIM.LEARNING' in the command line"),
        ("OPTIM.MAX_EPOCHS", "1", r"did you mean OPTIM\.MAX_EPOCH\?"),
        ("OPTIM", "1", "expected a configuration key"),
        ("OPTIM.LR.X", "1", "expected a configuration key"),
    ],
)
def test_what_does_not_fit_is_named(key, value, sentence):
    with pytest.raises(UserError, match=sentence):
        merge(defaults(), {key: value}, "the command line")


def test_pairs():
    assert pairs(["A", "1", "--", "B.C", "x"]) == {"A": "1", "B.C": "x"}
    with pytest.raises(UserError, match=r"found 3 words \(A 1 B\)"):
        pairs(["A", "1", "B"])


@pytest.mark.parametrize("content", ["- a list", "A: [1", "just words"])
def test_broken_yaml_is_named(tmp_path, content):
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=r"broken\.yaml, found"):
        read_yaml(str(file))


def test_missing_yaml_names_its_neighbours(tmp_path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(UserError, match=r"there are .*demo\.yaml"):
        read_yaml(str(tmp_path / "dem.yaml"))
    assert read_yaml(str(tmp_path / "demo.yaml")) == {}


def test_yaml_cannot_run_code(tmp_path):
    (tmp_path / "evil.yaml").write_text("A: !!python/object/apply:os.system ['touch /tmp/evil']")
    with pytest.raises(UserError):
        read_yaml(str(tmp_path / "evil.yaml"))
