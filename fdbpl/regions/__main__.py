"""`python -m fdbpl.regions {generate,inspect,verify}`: region banks without a trainer.

    python -m fdbpl.regions generate --root data --images data/pets/images --bank banks/pets --teacher ViT-L/14 \
        --classnames names.txt --template "a photo of a {}."
    python -m fdbpl.regions inspect output/regions/demo/*
    python -m fdbpl.regions verify output/regions/demo/* --root output/synthetic
"""

import argparse
import os
import sys
from pathlib import Path

from fdbpl import class_names
from fdbpl.arguments import ArgumentParser
from fdbpl.errors import SystemFailure, UserError, cli_error_handler, one_line, quoted
from fdbpl.templates import fill_template

DEVICE = "cpu or cuda (default: cuda where there is one)"


def main() -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("generate", help="label random regions of images with a teacher")
    make.add_argument("--root", type=Path, required=True, help="folder that image paths are relative to")
    make.add_argument("--images", type=Path, required=True, help="folder of images, or JSON list of paths below --root")
    make.add_argument("--bank", type=Path, required=True, help="folder of the bank")
    make.add_argument(
        "--teacher", required=True, help="e.g. ViT-L/14, open_clip:ViT-H-14-quickgelu/dfn5b, demo:teacher"
    )
    make.add_argument("--student", help="whose image features are kept beside")
    make.add_argument("--classnames", type=Path, help="text file, a class name a line")
    make.add_argument("--template", default="a photo of a {}.")
    make.add_argument("--per-image", type=int, default=50)
    make.add_argument("--scale", type=float, nargs=2, default=(0.08, 0.936), metavar=("LOW", "HIGH"))
    make.add_argument("--content", default="embedding", help="embedding, or topk:K")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--precision", default="fp32", help="of the teacher: fp32, fp16 (GPU only) or bf16")
    make.add_argument("--batch-size", type=int, default=256, help="regions per forward pass")
    make.add_argument("--pipeline", default="auto", help="auto, dali or torchvision")
    make.add_argument("--dali-device", default="cpu", help="where DALI decodes: cpu, or gpu (not measured yet)")
    make.add_argument(
        "--workers", type=int, default=0, help="decoding threads (default: one for each processor, at most 8)"
    )
    make.add_argument("--device", default="", help=DEVICE)
    make.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be decoded")
    for name, what in (("inspect", "what a bank is and how informative its regions are"),
                       ("verify", "checksums, and the teacher again on a sample")):  # fmt: skip
        command = commands.add_parser(name, help=what)
        command.add_argument("bank", type=Path, nargs="+")
    command.add_argument("--root", type=Path, required=True, help="data root the bank was made from")
    command.add_argument("--images", type=Path, help="folder or JSON list of images that it has to have regions of")
    command.add_argument("--sample", type=int, default=64, help="regions to label again")
    command.add_argument("--tolerance", type=float, default=5e-3, help="largest deviation of an embedding's component")
    command.add_argument("--batch-size", type=int, default=64, help="regions per forward pass")
    command.add_argument("--device", default="", help=DEVICE)
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.command == "generate":
            generate_bank(arguments)
        elif arguments.command == "inspect":
            from fdbpl.regions.inspection import inspect

            for bank in arguments.bank:
                inspect(bank)
        else:
            sys.exit(verify(arguments))


def generate_bank(arguments: argparse.Namespace) -> None:
    """Generate a bank of the images and the teacher that the command line names."""
    from fdbpl.backbones import load_backbone, resolve_precision
    from fdbpl.devices import choose_device
    from fdbpl.regions.generation import generate
    from fdbpl.regions.metadata import BankMetadata, digest

    if "{}" not in arguments.template:
        raise UserError(
            f"expected {{}} for the class name in --template, found {quoted(arguments.template)}; "
            "e.g. 'a photo of a {}.'"
        )
    if arguments.per_image < 1:
        raise UserError(f"expected --per-image of at least 1, found {arguments.per_image}; give more")
    for flag, value, least in (("--batch-size", arguments.batch_size, 1), ("--workers", arguments.workers, 0)):
        if value < least:
            raise UserError(f"{flag} is {value}, but has to be at least {least}.")
    low, high = arguments.scale
    if not 0 < low <= high <= 1:
        raise UserError(f"expected --scale to be a range above 0 and up to 1, found {low} {high}; e.g. 0.08 0.936")
    if not arguments.root.is_dir():
        raise UserError(f"expected a folder as --root, found {arguments.root}; give the folder above the images")
    names = class_names.read_lines(arguments.classnames) if arguments.classnames else []
    if arguments.classnames and not names:
        raise UserError(f"expected class names in {arguments.classnames}, found none; write one a line")
    class_names.check_distinct(names, str(arguments.classnames), "leave one out")
    prompts = fill_template(arguments.template, names)
    device = choose_device(arguments.device)
    images = readable(list_images(arguments.images, arguments.root), arguments)
    if arguments.content != "embedding" and not prompts:
        raise UserError("expected --classnames for --content topk:K, found none; give the class list")
    resolve_precision(arguments.precision, device, "--precision")
    model = load_backbone(arguments.teacher, device, arguments.precision)
    identity = BankMetadata(
        dataset=arguments.root.resolve().name,
        teacher=model.name,
        teacher_sha256=model.sha256,
        logit_scale=model.logit_scale,
        size=model.image_size,
        mean=tuple(model.mean),
        std=tuple(model.std),
        scale=tuple(arguments.scale),
        ratio=(3 / 4, 4 / 3),
        flip=0.5,
        seed=arguments.seed,
        content=arguments.content,
        classes="" if arguments.content == "embedding" else digest(prompts),
        precision=arguments.precision,
    )
    student = (lambda: load_backbone(arguments.student, device)) if arguments.student else None
    print(
        generate(
            arguments.root,
            images,
            arguments.bank,
            identity,
            lambda: model,
            arguments.per_image,
            student,
            prompts,
            arguments.pipeline,
            device,
            arguments.batch_size,
            arguments.workers,
            arguments.dali_device,
        )  # fmt: skip
    )


def list_images(source: Path, root: Path) -> list[str]:
    """Paths relative to `root`, posix."""
    from fdbpl.io.atomic import read_json
    from fdbpl.io.image_files import find_images

    if source.is_dir():
        files, skipped = find_images([str(source)])
        if skipped:
            print(f"Skipped: {skipped}")
        images = [path_below(root, file) for file in files]
    else:
        images = read_json(source, "a JSON list of image paths")
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise UserError(f"expected a JSON list of image paths in {source}, found something else; mend the file")
        if not images:
            raise UserError(f"expected images in {source}, found none; name some")
    for image in images:
        if os.path.isabs(image) or ".." in image.split("/"):
            raise UserError(f"expected --images below --root {root}, found {image}; give a folder above both as --root")
        try:
            image.encode()  # the bank's files are in UTF-8
        except UnicodeEncodeError:
            raise UserError(f"expected file names in UTF-8 below {root}, found {image!a}; rename it") from None
    return images


def path_below(root: Path, file: str) -> str:
    """The path of a file relative to `root`: as it is named or, where a link led out of `root`, as it lies there."""
    named = os.path.relpath(file, root)
    return os.path.relpath(os.path.realpath(file), os.path.realpath(root)) if named.startswith("..") else named


def readable(images: list[str], arguments: argparse.Namespace) -> list[str]:
    """Those that can be decoded, before a teacher is built; all of them, unless others may be left out."""
    from fdbpl.io.image_check import named, refuse_unreadable, unreadable_images

    listing = Path(f"{arguments.bank}-unreadable.txt")
    if not arguments.skip_unreadable:
        refuse_unreadable(arguments.root, images, listing=listing, otherwise="give --skip-unreadable to leave them out")
        return images
    bad = unreadable_images(arguments.root, images)
    if bad:
        print(f"Left out of {len(images)} images: {len(bad)} ({named(bad, listing)})")
    if len(bad) == len(set(images)):
        raise UserError(f"expected readable images in {arguments.images}, found {len(bad)} that are not; replace some")
    return [image for image in images if image not in bad]


def verify(arguments: argparse.Namespace) -> int:
    """Print what holds of every bank and what does not; 0 = all holds, 1 = not, 2 = one could not be looked at."""
    from fdbpl.devices import choose_device
    from fdbpl.findings import tell
    from fdbpl.regions.verify import Sample, verify_bank

    for flag, value in (("--sample", arguments.sample), ("--batch-size", arguments.batch_size)):
        if value < 1:
            raise UserError(f"expected {flag} of at least 1, found {value}; give more")
    device = choose_device(arguments.device)
    sample = Sample(arguments.root, arguments.sample, arguments.tolerance, device, arguments.batch_size)
    images = list_images(arguments.images, arguments.root) if arguments.images else None
    codes = []
    for bank in arguments.bank:
        try:
            codes.append(tell(verify_bank(bank, sample, images)))
        except (UserError, SystemFailure) as error:  # the other banks are still verified
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            codes.append(error.exit_code)
    return max(codes)


if __name__ == "__main__":
    main()
