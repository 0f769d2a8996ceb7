"""``scalepool keys``: the keys of a cluster, in a file of their owner's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from scalepool._net.keys import HEAD, ROLES, ClusterKeys, key_file, read_keys, usual_key_file, write_keys
from scalepool.errors import KeyFileError

__all__ = ["keys"]


@click.group(short_help="Make or look at the keys of a cluster.")
def keys() -> None:
    """Make or look at the keys of a cluster.

    Whoever has the key file can run code on the cluster's hosts as the user who started them, as with an ssh key.
    """


@keys.command(short_help="Make the keys of a new cluster.")
@click.option("--out", metavar="FILE", help="Where to put them; default ~/.scalepool/keys.json.")
def new(out: str | None) -> None:
    """Make the keys of a new cluster, in a file that only you can read.

    A file that is there already is never replaced. Hosts that do not share your home folder need a copy of it:
    scp -p keeps its mode, without which it is refused.

    Exit code: 0; 1 when the file is there already or cannot be written.
    """
    path = usual_key_file() if out is None else str(Path(out).absolute())
    if out is None:
        _make_private(Path(path).parent)
    made = ClusterKeys.generate()
    try:
        write_keys(path, made)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The keys of cluster {made.cluster} are in {path}. Whoever can read that file can run code as you.")


@keys.command(short_help="Say what a key file holds.")
@click.option("--key-file", "given", metavar="FILE", help="Default: $SCALEPOOL_KEY_FILE, else ~/.scalepool/keys.json.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
def show(given: str | None, as_json: bool) -> None:
    """Say what a key file holds: the name of the cluster, and the public half of each key. No secrets are printed.

    Exit code: 0; 1 when there is none, it is none, or others can read it.
    """
    try:
        path = key_file(given)
        found = read_keys(path)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from None
    pairs = {role: found.pairs[role] for role in (HEAD, *ROLES) if role in found.pairs}
    if as_json:
        told = {role: {"public": pair.public.decode(), "secret": bool(pair.secret)} for role, pair in pairs.items()}
        click.echo(json.dumps({"file": path, "cluster": found.cluster, "keys": told}, indent=2))
        return
    click.echo(f"cluster {found.cluster}, in {path}")
    for role, pair in pairs.items():
        click.echo(f"{role:>8}  {pair.public.decode()}{'' if pair.secret else '  (public half only)'}")


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"the folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if folder.stat().st_uid != os.geteuid():
        raise click.ClickException(f"the folder {str(folder)!r} is not yours; name a file with --out")
