# SPDX-License-Identifier: MIT
"""`eestream-convert`. A subcommand is a module with NAME, HELP, add_arguments(parser) and run(args)."""

import argparse
import sys

from . import onnx_export, onnx_import
from .errors import ConvertError

COMMANDS = [onnx_import, onnx_export]
EXIT_DONE, EXIT_MODEL, EXIT_OUTPUT = 0, 4, 5  # as `eestream` has them


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="eestream-convert", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for command in COMMANDS:
        verb = verbs.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(verb)
        verb.set_defaults(run=command.run)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        args.run(args)
    except ConvertError as error:
        print(f"eestream-convert: {error}", file=sys.stderr)
        return EXIT_MODEL
    except OSError as error:
        print(f"eestream-convert: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_OUTPUT
    return EXIT_DONE
