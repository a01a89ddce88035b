"""`python -m fdbpl.interpret RUN`: the words nearest to each learned context vector, as CoOp's interpret_prompt.py.

    python -m fdbpl.interpret output/train_all/demo/shots_16/CoOp/demo/seed1 --top 5

Distances are Euclidean, in the space of CLIP's token embeddings. Learned vectors are often far from all words.
"""

import argparse
from argparse import ArgumentParser

from fdbpl.errors import UserError, cli_error_handler, one_line


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.interpret", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("--top", type=int, default=3, help="words for each vector (default: 3)")
    arguments = parser.parse_args(words)
    with cli_error_handler():
        if arguments.top < 1:
            raise UserError(f"--top {arguments.top} is too small. Give at least 1.")

        from fdbpl.engine.trained_run import load_run

        print("\n".join(map(one_line, describe(load_run(arguments.run), arguments.top))))


def describe(run, top: int) -> list[str]:
    """Return lines with the `top` nearest words of each context vector of a `TrainedRun` and their distances.

    Raises:
        UserError: the run's method learns no context vectors at the input of the text tower.
    """
    from fdbpl.backbones.openai import vocabulary

    contexts = run.contexts()
    if not contexts:
        raise UserError(
            f"{run.cfg.TRAINER.NAME} in {run.folder} learns no context vectors of the text, so there is nothing to "
            "compare with words. Give a run of another method, e.g. CoOp."
        )
    tokens, embedding = vocabulary(), run.backbone.model.token_embedding.weight.detach().float()
    lines = [f"{run.cfg.TRAINER.NAME} on {run.dataset}: nearest of {len(tokens)} tokens, with distances"]
    for name, context in contexts.items():
        groups = context if context.dim() == 3 else context[None]  # [C, M, d] with class-specific contexts
        titles = [f"{name}, {of_class}" for of_class in run.classnames] if context.dim() == 3 else [name]
        for title, vectors in zip(titles, groups, strict=True):
            lines.append(f"{title}: {len(vectors)} vectors")
            for number, (distances, rows) in enumerate(nearest(vectors, embedding, top), start=1):
                pairs = zip(rows, distances, strict=True)
                lines.append(f"  {number}: " + ", ".join(f"{tokens[row]} ({far:.4f})" for row, far in pairs))
    return lines


def nearest(vectors, embedding, top: int) -> list[tuple[list[float], list[int]]]:
    """Return distances and row numbers of the `top` rows of `embedding`, [V, d], nearest to each vector, [M, d]."""
    import torch

    found = torch.cdist(vectors.float(), embedding).topk(min(top, len(embedding)), largest=False)
    return list(zip(found.values.tolist(), found.indices.tolist(), strict=True))


if __name__ == "__main__":
    main()
