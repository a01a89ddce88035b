"""Checkpoints that are broken, incomplete, or of another run: tested, gone on from, and used."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import train
from fdbpl import export, predict
from fdbpl.engine import checkpoint
from fdbpl.errors import UserError

from ...damage import TENTHS, flip_byte_of_zip, legacy_tar, torchscript, truncate, zip_bomb
from ...trainers.methods import same
from ..calls import refused, succeeds
from .workspace import Workspace


def content(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Have `change` edit what is in the file."""

    def damage(file: Path) -> None:
        found = torch.load(file, weights_only=True)
        torch.save(change(found) or found, file)

    return damage


def context(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return content(lambda found: found["state_dict"].update(ctx=change(found["state_dict"]["ctx"])))


def swollen(found: dict) -> None:
    found["state_dict"]["ctx"] = torch.zeros(1).expand(1 << 20, 1 << 20)


FILES = {
    "empty": (lambda file: file.write_bytes(b""), "cannot be read safely"),
    "text": (lambda file: file.write_text("model weights"), "cannot be read safely"),
    "JSON": (lambda file: file.write_text(json.dumps({"state_dict": {}})), "cannot be read safely"),
    "safetensors": (lambda file: file.write_bytes(save({"ctx": torch.zeros(4, 64)})), "cannot be read safely"),
    "a zip bomb": (zip_bomb, "unpacks to more than"),
    "a .tar of an old torch": (legacy_tar, "a .tar file of an old torch"),
    "TorchScript": (torchscript, "TorchScript"),
    "a zip without tensors": (lambda file: zipfile.ZipFile(file, "w").close(), "cannot be read safely"),
    "a byte flipped": (flip_byte_of_zip, "damaged"),
    "a list": (content(lambda found: [1, 2]), "no state_dict"),
    "a list of a tensor": (content(lambda found: [found["state_dict"]["ctx"]]), "no state_dict"),
    "no state_dict": (content(lambda found: found.pop("state_dict") and None), "no state_dict"),
    "a state_dict of numbers": (content(lambda found: found.update(state_dict={"ctx": 1})), "no state_dict"),
    "a state_dict that is a list": (content(lambda found: found.update(state_dict=[1])), "no state_dict"),
    "an empty one": (content(lambda found: found.update(state_dict={})), "lacks ctx"),
    "another parameter": (
        content(lambda found: found["state_dict"].update(meta_net=torch.zeros(1))), "unexpected meta_net"),
    "another shape": (context(lambda ctx: ctx[:2]), "but (4, 64)"),
    "another width": (context(lambda ctx: ctx[:, :32]), "(4, 32)"),
    "one context a class": (context(lambda ctx: ctx.expand(5, 4, 64).clone()), "(5, 4, 64)"),
    "another dtype": (context(lambda ctx: ctx.to(torch.int64)), "torch.int64"),
    "no number": (context(lambda ctx: ctx / 0 * 0), "NaN or Inf"),
    "infinite": (context(lambda ctx: ctx / 0), "NaN or Inf"),
    "a sparse tensor": (context(lambda ctx: ctx.to_sparse()), "not dense"),
    "a tensor without values": (context(lambda ctx: ctx.to("meta")), "not dense"),
    "a tensor larger than memory": (content(swollen), "larger"),
    "something else beside": (content(lambda found: found.update(extra=[1])), "tensors by name"),
    "another epoch": (content(lambda found: found.update(epoch=7)), "epoch 7"),
    "gone": (Path.unlink, "no checkpoint"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "cannot be read safely"),
}  # fmt: skip


def only(workspace: Workspace, epoch: int = 2) -> Path:
    """The only checkpoint left of FDBPL's first module."""
    workspace.checkpoint(3 - epoch).unlink()
    return workspace.checkpoint(epoch)


@pytest.mark.parametrize("case", FILES)
def test_a_test_of_a_broken_checkpoint(workspace, case):
    damage, said = FILES[case]
    damage(only(workspace))
    workspace.refused(flags=workspace.tested(), names=[said, str(workspace.checkpoint().parent)])


@pytest.mark.parametrize("share", TENTHS)
def test_a_truncated_checkpoint(workspace, share):
    truncate(only(workspace), share)
    workspace.refused(flags=workspace.tested(), names=[str(workspace.checkpoint()), "cannot be read safely"])


@pytest.mark.parametrize("case", ["empty", "a zip bomb", "TorchScript", "no number", "another shape", "gone"])
def test_predicting_and_exporting_say_the_same(workspace, case, data_root):
    damage, said = FILES[case]
    damage(only(workspace))
    picture = data_root / "tiny/images/0_0.jpg"
    for main, words in (
        (predict.main, [workspace.run(), picture, "--output", "p.csv"]),
        (export.main, [workspace.run()]),
    ):
        refused(lambda main=main, words=words: main(list(map(str, words))), [], said, unchanged=[workspace.run()])
    assert not Path("p.csv").exists()


@pytest.mark.parametrize("case", ["empty", "text", "a byte flipped", "no state_dict", "TorchScript"])
def test_a_trained_teacher_that_is_broken(workspace, case):
    shutil.copytree(workspace.run("CoOp"), workspace.folder / "teacher")
    for file in (workspace.folder / "teacher" / "prompt_learner").glob("model*"):
        FILES[case][0](file)
    names = [FILES[case][1], str(workspace.folder / "teacher")]
    workspace.refused("TEACHER.NAME", f"run:{workspace.folder}/teacher", trainer="CoOp_KDPL", names=names)


def test_the_pointer_is_not_needed(workspace):
    """Dassl's file `checkpoint` names what was written last; we look ourselves."""
    for number, text in enumerate((None, "", "model.pth.tar-9", "../../etc/passwd", "\0")):
        for module in ("prompt_learner", "negative_prompt_learner"):
            pointer = workspace.run() / module / "checkpoint"
            pointer.unlink(missing_ok=True)
            if text is not None:
                pointer.write_text(text)
        words = {"flags": workspace.tested(), "output": f"again{number}"}
        workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", **words)
        assert workspace.metrics(f"again{number}")["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]


NOT_RUNS = {
    "nothing there": ("nowhere", [], "no checkpoint"),
    "another method's": ("CoOp", [], "TRAINER.NAME 'CoOp' (here 'FDBPL')"),
    "an epoch that is not there": ("FDBPL", ["--load-epoch", 9], "epochs 1, 2"),
    "a negative epoch": ("FDBPL", ["--load-epoch", -1], "epochs 1, 2"),
    "a file": ("FDBPL/config.yaml", [], "no checkpoint"),
}


@pytest.mark.parametrize("case", NOT_RUNS)
def test_a_model_dir_that_holds_other_things(workspace, case):
    folder, more, said = NOT_RUNS[case]
    workspace.refused(flags=["--eval-only", "--model-dir", workspace.run(folder), *more], names=said)


def test_a_test_without_a_model_dir(workspace):
    workspace.refused(flags=["--eval-only"], names="--model-dir")


# going on -----------------------------------------------------------------------------------------------------------


def unfinished(workspace: Workspace) -> list[Path]:
    """FDBPL's run, killed after its second epoch; the files of that epoch."""
    (workspace.run() / "done.json").unlink()
    return sorted(workspace.run().glob("*/model.pth.tar-2"))


@pytest.mark.parametrize(
    "case", ["empty", "text", "a byte flipped", "no state_dict", "another epoch", "a zip bomb", "something else beside"]
)
def test_what_cannot_be_read_is_trained_again(workspace, case):
    """One module's file of the last epoch: both go back by an epoch, and end with the same numbers."""
    expected = checkpoint.read(workspace.checkpoint())
    FILES[case][0](unfinished(workspace)[0])
    ended = workspace.succeeds(output="FDBPL")
    assert "Skipping epoch 2:" in ended.out and "Resuming from epoch 1" in ended.out
    assert same(checkpoint.read(workspace.checkpoint())["state_dict"], expected["state_dict"])


RESUMED = {
    "no number": (FILES["no number"][0], "NaN or Inf"),
    "another shape": (FILES["another shape"][0], "(2, 64)"),
    "no optimiser": (content(lambda found: found.pop("optimizer") and None), "no optimiser state"),
    "an optimiser that is a list": (content(lambda found: found.update(optimizer=[])), "no optimiser state"),
    "another optimiser": (content(lambda found: found["optimizer"]["param_groups"][0].update(betas=(0.9, 0.99))),
                          "another optimiser"),
    "an optimiser of more": (content(lambda found: found["optimizer"]["param_groups"].append({})), "does not fit"),
    "an optimiser of nothing": (content(lambda found: found["optimizer"].pop("state") and None), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("case", RESUMED)
def test_what_does_not_fit_is_not_gone_on_from(workspace, case):
    damage, said = RESUMED[case]
    damage(unfinished(workspace)[0])
    files = sorted(workspace.run().glob("*/model*"))
    refused(train.main, workspace.words(output="FDBPL"), said, unchanged=files)


def test_a_resume_that_is_nowhere(workspace):
    workspace.refused(flags=["--resume", workspace.folder / "nowhere"], names="nowhere")
    workspace.refused(flags=["--resume", workspace.run("CoOp")], names="TRAINER.NAME")


# any bit ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_goes_by(prepared, tmp_path, data):
    whole = Workspace(prepared).checkpoint()
    broken = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(broken) - 1))
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / whole.name
    file.write_bytes(broken)
    try:
        found = checkpoint.read(file)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert same(found, checkpoint.read(whole))


def test_what_is_whole_is_read(workspace):
    """The copies that all of this breaks."""
    words = workspace.words("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    succeeds(train.main, words, [workspace.run(), workspace.bank])
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]
