"""Make the demo checkpoint: its tokenizer, its training, its held-out evaluation and its export.

    python scripts/train_demo.py tokenizer|train|evaluate|check|export [--help]

Training data is generated, seeded by step, and encoded by mistral_common; nothing is downloaded.  `train` continues
from the state in --folder.  `evaluate` prints target, reached and last committed rate of every skill, runs generated
programs inside bubblewrap only, and exits with 1 when a rate is below the committed one.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # one_file_ref and this package are not installed

CHECKPOINT = ROOT / "src" / "mistral_local" / "demo" / "checkpoint"


def train(options: argparse.Namespace) -> int:
    """Train, or go on training, to --tokens."""
    import torch

    from scripts.demo_data.encoding import Encoder
    from scripts.demo_data.heldout.disjoint import HeldOut
    from scripts.demo_data.plan import Plan
    from scripts.demo_data.tekken import write_tekken
    from scripts.demo_data.training import Trainer

    torch.set_num_threads(options.threads)
    tekken = options.folder / "tekken.json"
    write_tekken(tekken)
    plan = Plan(tokens=options.tokens, seed=options.seed, folder=options.folder)
    Trainer(plan, Encoder(tekken), HeldOut().accepts).run()
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print the report of the checkpoint in --checkpoint."""
    import torch

    from scripts.demo_data.report import evaluate, print_report, write_rates

    torch.set_num_threads(options.threads)
    rates, failures = evaluate(options.checkpoint)
    is_as_good = print_report(rates, failures, shown=options.failures)
    if options.write_rates:
        write_rates(rates)
    return 0 if is_as_good else 1


def check(options: argparse.Namespace) -> int:
    """Regenerate the training stream and assert that no held-out prompt or answer is in it."""
    from scripts.demo_data.encoding import Encoder
    from scripts.demo_data.heldout.disjoint import HeldOut
    from scripts.demo_data.plan import Plan

    plan = Plan(tokens=options.tokens, seed=options.seed, folder=options.folder)
    print(HeldOut().assert_absent(plan, Encoder(options.folder / "tekken.json")))
    return 0


def export(options: argparse.Namespace) -> int:
    """Write params.json, consolidated.safetensors (bf16) and tekken.json from the state in --folder."""
    from scripts.demo_data.export import export_checkpoint

    export_checkpoint(options.folder, options.checkpoint)
    return 0


def tokenizer(options: argparse.Namespace) -> int:
    """Write tekken.json only."""
    from scripts.demo_data.tekken import write_tekken

    write_tekken(options.checkpoint / "tekken.json")
    return 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (tokenizer, train, evaluate, check, export):
        sub = commands.add_parser(
            command.__name__, help=command.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(run=command)
        sub.add_argument("--folder", type=Path, default=ROOT / "build" / "train_demo", help="state of the training")
        sub.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="finished checkpoint")
        sub.add_argument("--tokens", type=int, default=14_000_000, help="length of the training")
        sub.add_argument("--seed", type=int, default=0, help="seed of weights and data")
        sub.add_argument("--threads", type=int, default=2, help="CPU threads")
        sub.add_argument("--failures", type=int, default=10, help="failures to print")
        sub.add_argument("--write-rates", action="store_true", help="make the reached rates the committed ones")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse()
    sys.exit(options.run(options))
