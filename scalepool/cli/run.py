"""``scalepool run``: a script whose process pools are scalepool's, without an edit."""

from __future__ import annotations

import os
import sys

import click

from scalepool.cli.handover import Handover
from scalepool.cli.script import find_module, find_script
from scalepool.redirection import install

__all__ = ["run"]


@click.command(
    short_help="Run a script, unmodified, on scalepool.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "module", metavar="MODULE", help="Run a module by its name, as python -m does; ARGS are its own.")
@click.option(
    "--address",
    metavar="ADDRESS|FILE",
    help="Run on the cluster there: what 'scalepool head' has printed, or its cluster file; default "
    "$SCALEPOOL_ADDRESS, else this host, which 'local' says, too.",
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")
@click.pass_context
def run(ctx: click.Context, module: str | None, address: str | None, args: tuple[str, ...]) -> None:
    """Run a script, unmodified, on scalepool.

    SCRIPT runs as python SCRIPT ARGS would, but what it and its libraries get as multiprocessing.Pool and
    concurrent.futures.ProcessPoolExecutor are scalepool's, and so is joblib's default backend. A program can do the
    same by calling scalepool.install() before it imports anything that makes pools. On a cluster, what SCRIPT imports
    of its own is sent to hosts that lack it.

    Exit code: the script's own; 2 when there is no such script.
    """
    if module is None and not args:
        raise click.UsageError("say which script to run: scalepool run script.py, or scalepool run -m module")
    try:
        program = find_script(args[0]) if module is None else find_module(module)
    except OSError as error:
        raise click.UsageError(f"cannot read the script {args[0]!r}: {error.strerror or error}") from None
    except SyntaxError as error:
        sys.excepthook(type(error), error, None)  # without our frames, as python shows it
        ctx.exit(1)
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    if address is not None:
        _use(address)
    install()
    raise Handover(program, args[1:] if module is None else args)


def _use(address: str) -> None:
    """Have sessions of this process, and of those that the script starts, be on that cluster."""
    from scalepool.cli.clusters import ADDRESS_VARIABLE, address_of, errors_told
    from scalepool.config import ENVIRONMENT_PREFIX

    key_path = None
    if address != "local":
        with errors_told():
            address, key_path = address_of(address, None)
    os.environ[ADDRESS_VARIABLE] = address
    if key_path is not None:
        os.environ.setdefault(f"{ENVIRONMENT_PREFIX}KEY_FILE", key_path)
