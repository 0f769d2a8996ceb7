"""``scalepool manifest``: a cluster as a file for those who run clusters."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

import click

from scalepool._net.keys import DRIVER, ROLES
from scalepool.cli import targets
from scalepool.cli.clusters import errors_told, key_option, keys_of
from scalepool.cli.kubernetes import Wanted, documents
from scalepool.errors import KeyFileError

__all__ = ["manifest"]

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_SECRET: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_QUANTITY: Final = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
_PARTS: Final = ("secret", "head", "workers")


@click.group(short_help="Print a cluster as a file for Kubernetes.")
def manifest() -> None:
    """Print a cluster as a file for those who run clusters."""


@manifest.command(short_help="Print the objects of Kubernetes, as YAML.")
@click.option("--image", required=True, metavar="NAME", help="With your Python, your packages and scalepool[cli].")
@click.option("--workers", type=click.IntRange(0, 10_000), default=2, show_default=True, help="Pods with workers.")
@click.option("--name", default="scalepool", show_default=True, help="What the objects' names begin with.")
@click.option("--namespace", default="", help="Where they are to be.  [that of kubectl]")
@click.option("--cpu", default="1", show_default=True, help="Of each worker's pod: one worker process for each.")
@click.option("--memory", default="2Gi", show_default=True, help="Of each worker's pod.")
@click.option("--shm", default="512Mi", show_default=True, help="Of that memory, the most in /dev/shm.")
@click.option("--gpus", type=click.IntRange(0, 64), default=0, show_default=True, help="Of each worker's pod (NVIDIA).")
@click.option("--grace", "grace_s", type=click.IntRange(1), default=30, show_default=True, help="Seconds to end in.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set in the workers' environment; may be repeated.")
@click.option("--worker-args", metavar="TEXT", default="", help="More options for 'scalepool worker'.")
@click.option("--secret-name", metavar="NAME", help="A Secret that is there already: no keys are printed.")
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Print this part; may be repeated.  [all]")
@key_option
def k8s(**given: Any) -> None:
    """Print a head, workers, their Service and their keys as objects of Kubernetes, in YAML.

    \b
      scalepool keys new
      scalepool manifest k8s --image me/tasks:1 --workers 8 --only secret | kubectl apply -f -
      scalepool manifest k8s --image me/tasks:1 --workers 8 --secret-name scalepool-keys > cluster.yaml
      kubectl apply -f cluster.yaml

    Without --secret-name the keys of the key file are part of what is printed: keep it out of version control.

    Exit code: 0; 1 when there are no keys to print; 2 for a wrong use.
    """  # noqa: D301 - click's mark of a paragraph that stays as it is
    with errors_told():
        wanted = _wanted(given)
        keys = None if given["secret_name"] else keys_of(given["key_file"])
        if keys is not None and not all(role in keys.pairs and keys.pairs[role].secret for role in ("head", *ROLES)):
            raise KeyFileError(
                f"the key file has no secret of the head, of {DRIVER}s or of agents: it is a copy for one"
            )
        only = frozenset(given["only"] or _PARTS)
        if keys is None and only == {"secret"}:
            raise click.UsageError("--secret-name names a Secret that is there, so there is none to print")
        click.echo(documents(wanted, keys, only), nl=False)


def _wanted(given: dict[str, Any]) -> Wanted:
    _check("--name", given["name"], _NAME)
    if given["namespace"]:
        _check("--namespace", given["namespace"], _NAME)
    if given["secret_name"]:
        _check("--secret-name", given["secret_name"], _SECRET)
    for option in ("cpu", "memory", "shm"):
        _check(f"--{option}", given[option], _QUANTITY)
    try:
        environment = tuple(targets.variables(given["env"]).items())
        arguments = tuple(shlex.split(given["worker_args"]))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if any("\n" in word for word in arguments):
        raise click.UsageError("--worker-args: no line breaks")
    return Wanted(
        image=given["image"], workers=given["workers"], name=given["name"], namespace=given["namespace"],
        secret=given["secret_name"] or f"{given['name']}-keys", cpu=given["cpu"], memory=given["memory"],
        shm=given["shm"], gpus=given["gpus"], grace_s=given["grace_s"], environment=environment, worker_args=arguments,
    )  # fmt: skip


def _check(option: str, value: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(value):
        raise click.UsageError(f"{option} {value!r} is nothing that Kubernetes would take")
