"""`python -m tools.measure_text_encoder`: memory and time of the text encoder's forward and backward pass by classes.

The model has random weights and the size of OpenAI's ViT-B/16 (ViT-B/32 has the same text encoder). Each row has
its own process. Class names have 1 to 8 tokens, as in ImageNet. Several precisions take turns in one process, which
compares their times under other load, but not their memory.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser

import torch

from fdbpl.devices import choose_device
from fdbpl.errors import cli_error_handler

BATCH = 32  # image features per step
WORDS = ("cat", "dog", "bird", "tree", "house", "river", "stone", "glass")  # one token each
CONTEXTS = {4: "a photo of a", 16: ""}


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_text_encoder", description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 100, 500, 1000])
    parser.add_argument("--context", type=int, nargs="+", default=[4, 16], help="context vectors")
    parser.add_argument("--chunk", type=int, nargs="+", default=[0, 250], help="MODEL.TEXT_CHUNK; 0: no chunks")
    parser.add_argument("--csc", action="store_true", help="class-specific contexts")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"], help="PREC")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.one:
            print(json.dumps(measure(*json.loads(arguments.one))))
            return
        device = choose_device(arguments.device)
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {device}"
        print(f"{machine}, torch {torch.__version__}")
        print("two prompt spaces, forward and backward pass; before: with the weights, before the first step")
        times = " | ".join(f"{precision} s / step" for precision in arguments.precision)
        print(f"| classes | context | chunk | MiB before | MiB peak | {times} |")
        print("|---|---|---|---|---|" + "---|" * len(arguments.precision))
        for classes in arguments.classes:
            for context in arguments.context:
                for chunk in arguments.chunk:
                    if chunk and chunk >= 2 * classes:
                        continue  # same as without chunks
                    one = json.dumps(
                        [classes, context, chunk, arguments.precision, arguments.csc, arguments.rounds, device]
                    )
                    command = [sys.executable, "-m", "tools.measure_text_encoder", "--one", one]
                    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    before, peak, seconds = json.loads(output)
                    times = " | ".join(f"{value:.2f}" for value in seconds)
                    print(
                        f"| {classes} | {context} | {chunk or 'all'} | {before:.0f} | {peak:.0f} | {times} |",
                        flush=True,
                    )


def measure(
    classes: int, context: int, chunk: int, precisions: list[str], csc: bool, rounds: int, device: str
) -> tuple[float, float, list[float]]:
    """Return the memory of the process or GPU before the steps, its peak (MiB), and the median seconds of a step in
    each precision."""
    from fdbpl.engine.student import load_student_backbone
    from fdbpl.prompts import PromptLearner, encode_prompt_sets

    torch.manual_seed(0)
    models = [load_student_backbone("random:ViT-B/16", device, precision).model for precision in precisions]
    names = [" ".join(WORDS[(number + i) % 8] for i in range(1 + number % 8)) for number in range(classes)]
    spaces = [PromptLearner(models[0], names, context, CONTEXTS[context], csc).to(device) for _ in range(2)]
    images = torch.nn.functional.normalize(torch.randn(BATCH, 512, device=device), dim=-1)
    before, seconds = memory(device), {precision: [] for precision in precisions}
    for _ in range(1 + rounds):  # the first step is a warm-up
        for precision, model in zip(precisions, models, strict=True):
            begin = time.perf_counter()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                features = encode_prompt_sets(model, *(space() for space in spaces), chunk=chunk)
            loss = sum((100 * images @ part.T / part.norm(dim=-1)).logsumexp(-1).sum() for part in features)
            loss.backward()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[precision].append(time.perf_counter() - begin)
    return before, memory(device), [statistics.median(values[1:]) for values in seconds.values()]


def memory(device: str) -> float:
    """Return the peak memory so far in MiB."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux reports KiB
    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    main()
