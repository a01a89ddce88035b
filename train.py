"""Train or test a prompt learner: CoOp's train.py with its flags. `python train.py --help` lists them.

    python train.py --root output/synthetic --seed 1 --trainer FDBPL --dataset-config-file configs/datasets/demo.yaml \
        --config-file configs/trainers/FDBPL/demo.yaml --output-dir output/my_run DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import difflib
import os
import secrets
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

from fdbpl.errors import SystemFailure, UserError, check_utf8_arguments, cli_error_handler, quoted

LESS_MEMORY = (
    "set MODEL.TEXT_CHUNK 100 (text in parts, with the same gradients), a smaller DATALOADER.TRAIN_X.BATCH_SIZE or "
    "DATALOADER.TEST.BATCH_SIZE (REGIONS.BATCH_SIZE where regions are labelled), or the trainer's PREC amp or bf16"
)


def main() -> None:
    arguments = parse_arguments()
    with cli_error_handler(memory=LESS_MEMORY):
        check_utf8_arguments(sys.argv)
        run(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of the data sets")
    parser.add_argument("--output-dir", default="", help="run folder")
    parser.add_argument("--resume", default="", help="checkpoint folder to resume from (default: --output-dir)")
    parser.add_argument("--seed", type=int, default=-1, help="seed of everything random; -1 draws one for the run")
    parser.add_argument("--trainer", default="", help="registered trainer, e.g. FDBPL, CoOp, CoOp_KDPL, ZeroshotCLIP")
    parser.add_argument("--dataset-config-file", default="", help="configs/datasets/*.yaml")
    parser.add_argument("--config-file", default="", help="configs/trainers/<Trainer>/*.yaml")
    parser.add_argument("--backbone", default="", help="student CLIP: name, file, or demo:rn-student")
    parser.add_argument("--transforms", nargs="+", help="training transforms")
    parser.add_argument("--source-domains", nargs="+", help="source domains (Dassl)")
    parser.add_argument("--target-domains", nargs="+", help="target domains (Dassl)")
    parser.add_argument("--head", default="", help="name of a head (Dassl)")
    parser.add_argument("--eval-only", action="store_true", help="test the weights in --model-dir, train nothing")
    parser.add_argument("--model-dir", default="", help="run folder that holds the weights for --eval-only")
    parser.add_argument("--load-epoch", type=int, help="epoch of those weights (default: the last one)")
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument(
        "--generate-regions", action="store_true", help="label the regions this run would read with its teacher, stop"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="only algorithms that repeat themselves bit for bit (for a GPU)"
    )
    parser.add_argument("--list-trainers", action="store_true", help="print the registered trainers, stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="Dassl config keys to override")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from fdbpl.freed_memory import keep_freed_memory
    from third_party import use_dassl

    keep_freed_memory()
    dassl_line = use_dassl()  # before anything imports dassl

    from fdbpl import distributed
    from fdbpl.determinism import deterministic_algorithms

    if arguments.list_trainers:
        from fdbpl.engine.registry import trainer_names

        print("\n".join(trainer_names()))
        return None
    cfg = build_config(arguments)
    with deterministic_algorithms(arguments.deterministic):
        distributed.start(cfg.USE_CUDA)
        if cfg.SEED < 0:
            cfg.defrost()
            cfg.SEED = distributed.broadcast_from_main(seed_of_chance(cfg, arguments))
            cfg.freeze()
        if arguments.generate_regions:
            print(dassl_line)
            generate_regions(cfg)
        else:
            run_folder(cfg, arguments, dassl_line)
        distributed.stop()


def run_folder(cfg, arguments: argparse.Namespace, dassl_line: str) -> None:
    """One run in its folder, which no other run enters meanwhile."""
    from fdbpl.config import plain
    from fdbpl.distributed import is_main_process
    from fdbpl.runs import RunFolder

    folder = RunFolder(cfg.OUTPUT_DIR, plain(cfg), task_of(arguments))
    unfinished = is_main_process() and folder.finished_metrics() is None
    log = redirect_stdout(sys.stdout)  # takes the run's log from standard output at the end
    with log, folder.held() if unfinished else nullcontext():
        run_in(folder, cfg, arguments, dassl_line)


def run_in(folder, cfg, arguments: argparse.Namespace, dassl_line: str) -> None:
    """From the log's header to the done marker; the first process writes."""
    from dassl.utils import collect_env_info, set_random_seed, setup_logger

    from fdbpl.distributed import barrier, is_main_process, world_size

    barrier()  # the first process holds the folder now
    metrics = folder.finished_metrics()
    barrier()
    if metrics is not None:
        compare_inputs(folder, cfg, arguments)
        otherwise = arguments.deterministic and not metrics.get("deterministic", False)
        how = "without --deterministic; " * otherwise + "delete it to run again"
        print(f"{cfg.OUTPUT_DIR} is finished: accuracy {metrics['accuracy']:.2f} ({how})")
        if cfg.TEST.SAVE_PREDICTIONS and not (folder.path / "predictions.csv").exists():
            print(
                f"It has no predictions.csv; test it for one: --eval-only --model-dir {cfg.OUTPUT_DIR}, another "
                "--output-dir, TEST.SAVE_PREDICTIONS True"
            )
        return
    fresh = not (folder.path / "run.json").exists()
    if is_main_process():
        folder.start(cfg.dump())
        setup_logger(cfg.OUTPUT_DIR)
    print(dassl_line)
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    print(f"***************\n** Arguments **\n***************\n{show(arguments)}")
    print(f"************\n** Config **\n************\n{cfg}")
    print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\nProcesses: {world_size()}")
    print(f"Deterministic algorithms alone: {'yes' if arguments.deterministic else 'no'}\n")

    try:
        metrics = train_or_test(cfg, arguments, folder)
    except UserError as error:
        if fresh and is_main_process() and not isinstance(error, SystemFailure):
            folder.remove_unless_trained()
        raise
    if metrics is not None and is_main_process():
        folder.finish(metrics)


def build_config(arguments: argparse.Namespace):
    """Dassl's defaults, then the data set's YAML, the method's YAML, the flags and the trailing KEY VALUE pairs.

    Which part of a PER_DATASET section holds is decided by the data set and the shots that come out in the end.
    """
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY

    from fdbpl.config import for_dataset, merge, pairs, read_yaml, split_per_dataset
    from fdbpl.engine.registry import default_config

    cfg = default_config()
    cfg.set_new_allowed(False)
    special: dict[str, dict] = {}
    for file in (arguments.dataset_config_file, arguments.config_file):
        if file:
            general, special = split_per_dataset(read_yaml(file), file)
            merge(cfg, general, file)
    typed = ((flag_values(arguments), "the flags"), (pairs(arguments.opts), "the command line"))
    for values, source in typed:
        merge(cfg, values, source)
    here = for_dataset(special, cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS)
    if here:
        merge(cfg, here, f"PER_DATASET of {arguments.config_file}")
        for values, source in typed:  # what is typed wins
            merge(cfg, values, source)
    for kind, name, registry in (
        ("--trainer", cfg.TRAINER.NAME, TRAINER_REGISTRY),
        ("DATASET.NAME", cfg.DATASET.NAME, DATASET_REGISTRY),
    ):
        if name not in registry.registered_names():
            close = difflib.get_close_matches(name, registry.registered_names(), n=3, cutoff=0) or ["none"]
            raise UserError(
                f"expected a registered name for {kind}, found {quoted(name)}; close ones are {', '.join(close)}"
            )
    given = {"--eval-only": arguments.eval_only, "--no-train": arguments.no_train}
    others = [flag for flag in given if given[flag]]
    if arguments.generate_regions and others:
        raise UserError(f"expected --generate-regions alone, found {' and '.join(others)} as well; give one of them")
    if arguments.load_epoch is not None and not arguments.eval_only:
        raise UserError(
            "--load-epoch chooses the weights of a test and needs --eval-only; to go on from a run, give --resume RUN"
        )
    if cfg.TEST.NO_TEST:
        raise UserError(
            "TEST.NO_TEST True would leave a run without a result, which no table can show; leave it False (a test "
            "that reads fewer images: TEST.SPLIT val)"
        )
    if not -1 <= cfg.SEED < 2**32:
        raise UserError(f"expected --seed from 0 to {2**32 - 1}, or -1, found {cfg.SEED}; e.g. --seed 1")
    if not cfg.OUTPUT_DIR:
        raise UserError("expected --output-dir FOLDER, found none; e.g. --output-dir output/my_run")
    cfg.freeze()
    return cfg


def flag_values(arguments: argparse.Namespace) -> dict:
    """The configuration keys that CoOp's flags stand for, as far as they are given."""
    keys = {
        "DATASET.ROOT": arguments.root,
        "OUTPUT_DIR": arguments.output_dir,
        "RESUME": arguments.resume,
        "TRAINER.NAME": arguments.trainer,
        "MODEL.BACKBONE.NAME": arguments.backbone,
        "MODEL.HEAD.NAME": arguments.head,
        "INPUT.TRANSFORMS": arguments.transforms,
        "DATASET.SOURCE_DOMAINS": arguments.source_domains,
        "DATASET.TARGET_DOMAINS": arguments.target_domains,
    }
    return {key: value for key, value in keys.items() if value} | {"SEED": arguments.seed}


def train_or_test(cfg, arguments: argparse.Namespace, folder) -> dict | None:
    """Everything of a run between its log's header and its metrics."""
    from dassl.engine import build_trainer

    from fdbpl.distributed import is_main_process, world_size
    from fdbpl.engine.run_inputs import inputs_of, test_record
    from fdbpl.runs import peak_memory

    trainer = build_trainer(cfg)
    dataset = trainer.dm.dataset
    print_protocol(dataset, cfg)
    if is_main_process():
        folder.record_inputs(inputs_of(cfg, dataset, trainer.student.backbone.sha256, not arguments.eval_only))
    if arguments.no_train and not arguments.eval_only:
        return None
    with broken_images_named(dataset):
        if arguments.eval_only:
            trainer.load_model(arguments.model_dir, epoch=arguments.load_epoch)
            trainer.test()
        else:
            trainer.train()
    return {
        "trainer": cfg.TRAINER.NAME,
        "dataset": dataset.name or Path(arguments.dataset_config_file).stem or cfg.DATASET.NAME,
        "seed": cfg.SEED,
        "parameters": trainer.trainable_parameters,
        "steps": trainer.steps,
        "skipped_steps": trainer.skipped_steps,
        **({} if arguments.eval_only else {"collapsed": trainer.collapsed}),
        "processes": world_size(),
        "deterministic": arguments.deterministic,
        **trainer.results,
        "protocol": dataset.protocol,
        "tested": test_record(cfg, dataset),
        **left_out(dataset),
        "seconds": trainer.seconds,
        "peak_memory_mib": peak_memory(),
    }


def compare_inputs(folder, cfg, arguments: argparse.Namespace) -> None:
    """Refuse to take a finished run for one on other data or around another CLIP.

    Raises:
        UserError: the run was on other data or weights than those that are there now.
    """
    from io import StringIO

    from dassl.data.datasets import build_dataset

    from fdbpl.backbones import weights_sha256
    from fdbpl.engine.run_inputs import inputs_of

    try:
        with redirect_stdout(StringIO()):
            dataset = build_dataset(cfg)
        student = weights_sha256(cfg.MODEL.BACKBONE.NAME)
    except (UserError, SystemFailure) as error:  # there is nothing to compare with
        print(f"The data and the weights of {folder.path} are not compared: {error}")
        return
    folder.refuse_other_inputs(inputs_of(cfg, dataset, student, not arguments.eval_only))


def seed_of_chance(cfg, arguments: argparse.Namespace) -> int:
    """The seed of a run that asks for none: that of the run in its folder, of the one that it tests or continues, else
    a new one, so that the run can be resumed and repeated. -1 where nothing is trained."""
    from fdbpl.io.atomic import read_record

    for place in [arguments.model_dir] if arguments.eval_only else [cfg.OUTPUT_DIR, cfg.RESUME]:
        record = Path(place, "run.json")
        if place and record.is_file():
            seed = read_record(record, "the record of a run", config=dict)["config"].get("SEED")
            return seed if isinstance(seed, int) else -1
    return -1 if arguments.eval_only or arguments.generate_regions else secrets.randbits(31)


def left_out(dataset) -> dict:
    """Which images DATASET.SKIP_UNREADABLE left out, and why; nothing where it is False."""
    images = getattr(dataset, "left_out", None)
    return {} if images is None else {"left_out": {"count": len(images), "images": images}}


@contextmanager
def broken_images_named(dataset) -> Iterator[None]:
    """Where an image breaks while the run goes on: decode all of the run's, raise a UserError that names the broken."""
    from fdbpl.io.image_check import refuse_unreadable

    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's
            items = [item for part in (dataset.train_x, dataset.val, dataset.test) for item in part or ()]
            refuse_unreadable(Path(dataset.root), {os.path.relpath(item.impath, dataset.root) for item in items})
        raise


def generate_regions(cfg) -> None:
    """Label the regions that a training run of this configuration reads; nothing that is there is made again.

    Raises:
        UserError: no seed says which few shots the training draws.
    """
    if cfg.SEED < 0 and cfg.DATASET.NUM_SHOTS > 0:
        raise UserError("--generate-regions labels the images that a seed draws, and none is given; give --seed")
    from fdbpl.distributed import main_process_first
    from fdbpl.engine.bank_spec import ensure_bank
    from fdbpl.engine.registry import region_bank_spec

    with main_process_first():  # few-shot lists (and the demo world) are made once
        plan = region_bank_spec(cfg)
    if plan is None:
        print(f"{cfg.TRAINER.NAME} reads no region bank: nothing to label")
    else:
        print(ensure_bank(plan))


def task_of(arguments: argparse.Namespace) -> str:
    """What the run does, as its identity: training, or testing the weights of a certain run."""
    if not arguments.eval_only:
        return "train"
    if not arguments.model_dir:
        return "test"
    record = Path(arguments.model_dir, "run.json")
    if record.is_file():
        from fdbpl.io.atomic import read_record

        tested = read_record(record, "the record of a run", "give another --model-dir", fingerprint=str)
        return f"test {tested['fingerprint']} epoch {arguments.load_epoch}"
    return f"test {Path(arguments.model_dir).resolve()} epoch {arguments.load_epoch}"


def print_protocol(dataset, cfg) -> None:
    """One line: which images and which class names training sees, and which images are tested."""
    from fdbpl.engine.run_inputs import tested_split

    protocol, split = dataset.protocol, tested_split(cfg, dataset)
    names, more = protocol["classnames"][:3], " ..." if len(protocol["classnames"]) > 3 else ""
    print(
        f"Protocol: {cfg.DATASET.NAME}, {protocol['subsample']} classes ({len(protocol['classnames'])}: "
        f"{', '.join(names)}{more}), {shots_of(dataset)}, seed {protocol['seed']}, "
        f"{protocol['train_images']} training images, {len(getattr(dataset, split))} "
        f"{'validation' if split == 'val' else 'test'} images"
    )


def shots_of(dataset) -> str:
    """How many training images of each class there are, in words."""
    shots = dataset.protocol["shots"]
    if shots < 1:
        return "all images"
    counts = Counter(item.label for item in dataset.train_x) if dataset.protocol["train_images"] else {}
    short = [count for count in counts.values() if count < shots]
    fewer = f" (fewer images of {len(short)} classes: {min(short)} to {max(short)})" if short else ""
    return f"{shots} shots{fewer}"


def show(arguments: argparse.Namespace) -> str:
    return "\n".join(f"{key}: {value}" for key, value in sorted(vars(arguments).items()))


if __name__ == "__main__":
    main()
