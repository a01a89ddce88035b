"""Broken, incomplete and foreign checkpoints in tests, resumed runs, predictions and exports."""

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
    """Replace the content of a checkpoint by the result of `change`, or edit it in place."""

    def damage(file: Path) -> None:
        found = torch.load(file, weights_only=True)
        torch.save(change(found) or found, file)

    return damage


def context(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return content(lambda found: found["state_dict"].update(ctx=change(found["state_dict"]["ctx"])))


def huge_context(found: dict) -> None:
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
    "an empty state_dict": (content(lambda found: found.update(state_dict={})), "lacks ctx"),
    "another parameter": (
        content(lambda found: found["state_dict"].update(meta_net=torch.zeros(1))), "unexpected meta_net"),
    "another shape": (context(lambda ctx: ctx[:2]), "but (4, 64)"),
    "another width": (context(lambda ctx: ctx[:, :32]), "(4, 32)"),
    "class-specific contexts": (context(lambda ctx: ctx.expand(5, 4, 64).clone()), "(5, 4, 64)"),
    "another dtype": (context(lambda ctx: ctx.to(torch.int64)), "torch.int64"),
    "NaN": (context(lambda ctx: ctx / 0 * 0), "NaN or Inf"),
    "Inf": (context(lambda ctx: ctx / 0), "NaN or Inf"),
    "a sparse tensor": (context(lambda ctx: ctx.to_sparse()), "not dense"),
    "a tensor without values": (context(lambda ctx: ctx.to("meta")), "not dense"),
    "a tensor larger than memory": (content(huge_context), "larger"),
    "an entry of numbers": (content(lambda found: found.update(extra=[1])), "tensors by name"),
    "another epoch": (content(lambda found: found.update(epoch=7)), "epoch 7"),
    "missing": (Path.unlink, "no checkpoint"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "cannot be read safely"),
}  # fmt: skip


def only_checkpoint(workspace: Workspace, epoch: int = 2) -> Path:
    """Delete the other checkpoint of FDBPL's first module and return this one."""
    workspace.checkpoint(3 - epoch).unlink()
    return workspace.checkpoint(epoch)


@pytest.mark.parametrize("case", FILES)
def test_evaluation_of_a_broken_checkpoint(workspace, case):
    damage, message = FILES[case]
    damage(only_checkpoint(workspace))
    workspace.refused(flags=workspace.tested(), names=[message, str(workspace.checkpoint().parent)])


@pytest.mark.parametrize("share", TENTHS)
def test_evaluation_of_a_truncated_checkpoint(workspace, share):
    truncate(only_checkpoint(workspace), share)
    workspace.refused(flags=workspace.tested(), names=[str(workspace.checkpoint()), "cannot be read safely"])


@pytest.mark.parametrize("case", ["empty", "a zip bomb", "TorchScript", "NaN", "another shape", "missing"])
def test_prediction_and_export_of_a_broken_checkpoint(workspace, case, data_root):
    damage, message = FILES[case]
    damage(only_checkpoint(workspace))
    image = data_root / "tiny/images/0_0.jpg"
    refused(predict.main, [workspace.run(), image, "--output", "p.csv"], message, unchanged=[workspace.run()])
    refused(export.main, [workspace.run()], message, unchanged=[workspace.run()])
    assert not Path("p.csv").exists()


@pytest.mark.parametrize("case", ["empty", "text", "a byte flipped", "no state_dict", "TorchScript"])
def test_a_prompted_teacher_with_a_broken_checkpoint(workspace, case):
    shutil.copytree(workspace.run("CoOp"), workspace.folder / "teacher")
    for file in (workspace.folder / "teacher" / "prompt_learner").glob("model*"):
        FILES[case][0](file)
    names = [FILES[case][1], str(workspace.folder / "teacher")]
    workspace.refused("TEACHER.NAME", f"run:{workspace.folder}/teacher", trainer="CoOp_KDPL", names=names)


def test_dassl_pointer_files_are_ignored(workspace):
    """Dassl's file `checkpoint` contains the name of the last checkpoint."""
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
    "a missing folder": ("nowhere", [], "no checkpoint"),
    "a run of another method": ("CoOp", [], "TRAINER.NAME 'CoOp' (here 'FDBPL')"),
    "a missing epoch": ("FDBPL", ["--load-epoch", 9], "epochs 1, 2"),
    "a negative epoch": ("FDBPL", ["--load-epoch", -1], "epochs 1, 2"),
    "a file": ("FDBPL/config.yaml", [], "no checkpoint"),
}


@pytest.mark.parametrize("case", NOT_RUNS)
def test_invalid_model_dirs(workspace, case):
    folder, more, message = NOT_RUNS[case]
    workspace.refused(flags=["--eval-only", "--model-dir", workspace.run(folder), *more], names=message)


def test_evaluation_without_a_model_dir(workspace):
    workspace.refused(flags=["--eval-only"], names="--model-dir")


# resuming ------------------------------------------------------------------------------------------------------------


def unfinished(workspace: Workspace) -> list[Path]:
    """Make FDBPL's run an unfinished one of two epochs and return the checkpoints of the second."""
    (workspace.run() / "done.json").unlink()
    return sorted(workspace.run().glob("*/model.pth.tar-2"))


@pytest.mark.parametrize(
    "case", ["empty", "text", "a byte flipped", "no state_dict", "another epoch", "a zip bomb", "an entry of numbers"]
)
def test_an_epoch_with_an_unreadable_checkpoint_is_trained_again(workspace, case):
    """One module's checkpoint is broken: both modules resume from the previous epoch and end with the same values."""
    expected = checkpoint.read(workspace.checkpoint())
    FILES[case][0](unfinished(workspace)[0])
    ended = workspace.succeeds(output="FDBPL")
    assert "Skipping epoch 2:" in ended.out and "Resuming from epoch 1" in ended.out
    assert same(checkpoint.read(workspace.checkpoint())["state_dict"], expected["state_dict"])


RESUMED = {
    "NaN": (FILES["NaN"][0], "NaN or Inf"),
    "another shape": (FILES["another shape"][0], "(2, 64)"),
    "no optimiser": (content(lambda found: found.pop("optimizer") and None), "no optimiser state"),
    "an optimiser of type list": (content(lambda found: found.update(optimizer=[])), "no optimiser state"),
    "another optimiser": (content(lambda found: found["optimizer"]["param_groups"][0].update(betas=(0.9, 0.99))),
                          "another optimiser"),
    "another number of groups": (content(lambda found: found["optimizer"]["param_groups"].append({})), "does not fit"),
    "an optimiser without state": (content(lambda found: found["optimizer"].pop("state") and None), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("case", RESUMED)
def test_checkpoints_that_cannot_be_resumed(workspace, case):
    damage, message = RESUMED[case]
    damage(unfinished(workspace)[0])
    files = sorted(workspace.run().glob("*/model*"))
    refused(train.main, workspace.words(output="FDBPL"), message, unchanged=files)


def test_invalid_resume_folders(workspace):
    workspace.refused(flags=["--resume", workspace.folder / "nowhere"], names="nowhere")
    workspace.refused(flags=["--resume", workspace.run("CoOp")], names="TRAINER.NAME")


# random bit flips ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits(prepared, tmp_path, data):
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


def test_the_intact_workspace(workspace):
    words = workspace.words("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    succeeds(train.main, words, [workspace.run(), workspace.bank])
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]
