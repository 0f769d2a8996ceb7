"""What ``scalepool up ssh://…`` has each host do: a script for its shell, fed to the system's ssh.

All of it travels over standard input, so neither keys nor anything else of it stands in a process list, and it does not
matter which shell the user has there.
"""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool.cli.targets import Host

__all__ = ["HIDDEN_KEYS", "Copy", "Plan", "archive", "copy_command", "script", "ssh_command"]

HIDDEN_KEYS: Final = "(the key file: what a host needs of it)"
_END: Final = "END_OF_KEYS"
_LEFT_OUT: Final = frozenset({".git", ".hg", ".svn", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".tox"})
_START_TRIES: Final = 600
"""Looks, five in a second, whether a worker has joined; its own --timeout is shorter."""

_SCRIPT: Final = """\
umask 077
cd || exit 1
folder=$HOME/.scalepool
mkdir -p "$folder" || exit 1
keys=$folder/agent-{cluster}.json
cat > "$keys.$$" <<'{end}' || exit 1
{key_text}
{end}
mv "$keys.$$" "$keys" || exit 1
worker=$folder/worker-{cluster}-$(uname -n)
pid=$(cat "$worker.pid" 2>/dev/null)
if [ -n "$pid" ] && grep -q scalepool "/proc/$pid/cmdline" 2>/dev/null; then
    echo "had joined already, as process $pid"
    exit 0
fi
python=
for one in {pythons}; do
    if command -v "$one" >/dev/null 2>&1; then python=$one; break; fi
done
if [ -z "$python" ]; then
    echo "no Python there as "{pythons}"; name it with --python" >&2
    exit 1
fi
{setting}
detach=$(command -v setsid || command -v nohup)
"$detach" "$python" -m scalepool worker {address} --key-file "$keys" {arguments} >"$worker.log" 2>&1 </dev/null &
pid=$!
echo "$pid" > "$worker.pid"
tries=0
while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt {tries} ]; do
    if grep -q ' joined ' "$worker.log"; then
        echo "joined, as process $pid"
        exit 0
    fi
    tries=$((tries + 1))
    sleep 0.2
done
kill "$pid" 2>/dev/null
rm -f "$worker.pid"
tail -n 6 "$worker.log" >&2
exit 1
"""


class Plan(NamedTuple):
    """What all hosts are told.

    Attributes
    ----------
    address, cluster, key_text
        The head's, its cluster's name, and the contents of the hosts' key file.
    pythons
        Which interpreters to look for, in this order.
    environment, arguments
        For the worker.
    copy
        The name of the copied folder, or empty.
    """

    address: str
    cluster: str
    key_text: str
    pythons: tuple[str, ...]
    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    copy: str = ""


class Copy(NamedTuple):
    """A folder as a tar archive, and the name of its copy: there is a new one when anything in it has changed."""

    name: str
    data: bytes


def ssh_command(ssh: Sequence[str], host: Host, *, timeout_s: float) -> list[str]:
    """Return how to feed a script to a host's shell; ssh never asks for anything, and becomes nobody's master."""
    options = ["BatchMode=yes", f"ConnectTimeout={max(1, int(timeout_s))}", "ControlMaster=no"]
    return [*ssh, "-T", *(word for option in options for word in ("-o", option)), host.login, "exec /bin/sh -s"]


def copy_command(ssh: Sequence[str], host: Host, copy: Copy, *, timeout_s: float) -> list[str]:
    """Return how to feed an archive to a host; a copy that is there, and may be in use, stays as it is."""
    folder = f".scalepool/sync/{copy.name}"
    steps = (
        f"umask 077; cd && mkdir -p .scalepool/sync && mkdir {folder}.$$ && tar -xf - -C {folder}.$$ && "
        f"{{ [ -d {folder} ] || mv {folder}.$$ {folder}; }}; done=$?; rm -rf {folder}.$$; exit $done"
    )
    return [*ssh_command(ssh, host, timeout_s=timeout_s)[:-1], f"exec /bin/sh -c '{steps}'"]


def script(plan: Plan, host: Host) -> str:
    """Return what the host's shell is fed."""
    setting = [f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items()]
    if plan.copy:
        setting += [
            f'cd "$folder/sync/{plan.copy}" || exit 1',
            'export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"',
        ]
    arguments = [*(["--cpus", str(host.slots)] if host.slots else []), *plan.arguments]
    return _SCRIPT.format(
        cluster=plan.cluster, end=_END, key_text=plan.key_text.strip("\n"), setting="\n".join(setting),
        pythons=shlex.join(plan.pythons), address=shlex.quote(plan.address), arguments=shlex.join(arguments),
        tries=_START_TRIES,
    )  # fmt: skip


def archive(folder: Path) -> Copy:
    """Pack a folder, without what version control, caches and virtual environments keep in it.

    Raises
    ------
    OSError
        When something in it cannot be read.
    """

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if _LEFT_OUT.intersection(Path(member.name).parts) or not (member.isreg() or member.isdir() or member.issym()):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name, filter=wanted)
    data = buffer.getvalue()
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", folder.resolve().name).strip("-.") or "folder"
    return Copy(f"{name}-{hashlib.sha256(data).hexdigest()[:16]}", data)
