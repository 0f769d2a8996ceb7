"""A cluster as objects of Kubernetes, written as YAML that people can read.

Everything that comes from outside is written as a JSON string, which is YAML, too. The rest is the text below.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._net.keys import AGENT, DRIVER, keys_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scalepool._net.keys import ClusterKeys

__all__ = ["Wanted", "documents"]

_PORT: Final = 7877
_USER: Final = 1000


class Wanted(NamedTuple):
    """What the manifest describes.

    Attributes
    ----------
    image
        With Python and scalepool[cli] in it.
    workers
        Pods with workers.
    name, namespace
        What the objects' names begin with, and where they are; an empty namespace is that of kubectl.
    secret
        The name of the Secret with the keys.
    cpu, memory, shm
        Of each worker's pod, as Kubernetes writes quantities; shm is a part of memory.
    gpus
        Of each worker's pod.
    grace_s
        How long a worker's pod may take to end.
    environment
        Of workers.
    worker_args
        More options for ``scalepool worker``.
    """

    image: str
    workers: int
    name: str = "scalepool"
    namespace: str = ""
    secret: str = "scalepool-keys"
    cpu: str = "1"
    memory: str = "2Gi"
    shm: str = "512Mi"
    gpus: int = 0
    grace_s: int = 30
    environment: tuple[tuple[str, str], ...] = ()
    worker_args: tuple[str, ...] = ()


def documents(wanted: Wanted, keys: ClusterKeys | None, only: frozenset[str]) -> str:
    """Return the manifest; ``keys`` are written into a Secret, and None leaves that to whoever makes it.

    ``only`` names the parts to write: "secret", "head", "workers".
    """
    parts = []
    if keys is not None and "secret" in only:
        parts.append(_secret(wanted, keys))
    if "head" in only:
        parts += [_service(wanted), _head(wanted)]
    if "workers" in only:
        parts.append(_workers(wanted))
    return "---\n".join(parts)


def _meta(wanted: Wanted, name: str, part: str) -> str:
    place = f"\n  namespace: {_text(wanted.namespace)}" if wanted.namespace else ""
    return f"metadata:\n  name: {_text(name)}{place}\n  labels:\n{_labels(wanted, part, 4)}"


def _labels(wanted: Wanted, part: str, indent: int) -> str:
    pad = " " * indent
    return (
        f"{pad}app.kubernetes.io/name: scalepool\n{pad}app.kubernetes.io/instance: {_text(wanted.name)}\n"
        f"{pad}app.kubernetes.io/component: {part}"
    )


def _text(value: str) -> str:
    return json.dumps(value)


def _secret(wanted: Wanted, keys: ClusterKeys) -> str:
    files = {"head": keys, "worker": keys.only_for(AGENT), "program": keys.only_for(DRIVER)}
    data = "\n".join(f"  {part}.json: {_text(keys_text(theirs))}" for part, theirs in files.items())
    return f"""\
# Whoever can read this Secret can run code in the cluster: keep this document as safe as a password.
apiVersion: v1
kind: Secret
{_meta(wanted, wanted.secret, "keys")}
type: Opaque
stringData:
{data}
"""


def _service(wanted: Wanted) -> str:
    return f"""\
# The one address that workers and programs dial: SCALEPOOL_ADDRESS=tcp://{wanted.name}-head:{_PORT}
apiVersion: v1
kind: Service
{_meta(wanted, f"{wanted.name}-head", "head")}
spec:
  selector:
{_labels(wanted, "head", 4)}
  ports:
    - name: scalepool
      port: {_PORT}
      targetPort: scalepool
"""


def _head(wanted: Wanted) -> str:
    here = f"tcp://127.0.0.1:{_PORT}"
    command = f"exec scalepool head --bind 0.0.0.0 --port {_PORT} --key-file /run/scalepool/keys.json"
    probe = _probe(f"scalepool status {here} --key-file /run/scalepool/keys.json")
    return f"""\
# The head: it brings programs and workers together, and runs no tasks. There is one.
apiVersion: apps/v1
kind: Deployment
{_meta(wanted, f"{wanted.name}-head", "head")}
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
{_labels(wanted, "head", 6)}
  template:
    metadata:
      labels:
{_labels(wanted, "head", 8)}
    spec:
{_pod(10)}
      containers:
        - name: head
          image: {_text(wanted.image)}
{_command(command)}
          ports:
            - name: scalepool
              containerPort: {_PORT}
{_environment(())}
          resources:
            requests:
              cpu: "500m"
              memory: 256Mi
            limits:
              memory: 1Gi
{probe}
{_rights(shm=False)}
{_volumes(wanted, "head", shm=False)}
"""


def _workers(wanted: Wanted) -> str:
    address = f"tcp://{wanted.name}-head:{_PORT}"
    drain_s = wanted.grace_s * 5 / 6  # the rest is for killing what has not ended by then, and for saying so
    join = (
        f"exec scalepool worker {shlex.quote(address)} --key-file /run/scalepool/keys.json --drain-timeout {drain_s:g}"
    )
    command = shlex.join(wanted.worker_args)
    look = f'scalepool status {shlex.quote(address)} --key-file /run/scalepool/keys.json --expect "$(uname -n)"'
    gpus = f"\n              nvidia.com/gpu: {wanted.gpus}" if wanted.gpus else ""
    return f"""\
# The workers: each pod is a host of the cluster. To have more or fewer: kubectl scale deployment {wanted.name}-worker
apiVersion: apps/v1
kind: Deployment
{_meta(wanted, f"{wanted.name}-worker", "worker")}
spec:
  replicas: {wanted.workers}
  selector:
    matchLabels:
{_labels(wanted, "worker", 6)}
  template:
    metadata:
      labels:
{_labels(wanted, "worker", 8)}
    spec:
{_pod(wanted.grace_s)}
      containers:
        - name: worker
          image: {_text(wanted.image)}
{_command(f"{join} {command}".rstrip())}
{_environment(wanted.environment)}
          resources:
            requests:
              cpu: {_text(wanted.cpu)}
              memory: {_text(wanted.memory)}
            limits:
              cpu: {_text(wanted.cpu)}
              memory: {_text(wanted.memory)}{gpus}
{_probe(look)}
{_rights(shm=True)}
{_volumes(wanted, "worker", shm=True)}
"""


def _pod(grace_s: int) -> str:
    # One process table for the pod: its first process then takes care of orphans, which we are not made for.
    return f"""\
      terminationGracePeriodSeconds: {grace_s}
      automountServiceAccountToken: false
      enableServiceLinks: false
      shareProcessNamespace: true
      securityContext:
        runAsNonRoot: true
        runAsUser: {_USER}
        runAsGroup: {_USER}
        fsGroup: {_USER}
        seccompProfile:
          type: RuntimeDefault"""


def _command(command: str) -> str:
    # Kubernetes lets the group read what it mounts for a user who is not root; a key file is its owner's alone.
    steps = ["umask 077", "cp /run/secrets/scalepool/keys.json /run/scalepool/keys.json", command]
    return "          command:\n            - /bin/sh\n            - -ec\n            - |\n" + "\n".join(
        f"              {step}" for step in steps
    )


def _environment(variables: Iterable[tuple[str, str]]) -> str:
    every = {"HOME": "/tmp", "TMPDIR": "/tmp", **dict(variables)}
    lines: Iterator[str] = (
        f"            - name: {_text(name)}\n              value: {_text(value)}" for name, value in every.items()
    )
    return "          env:\n" + "\n".join(lines)


def _probe(command: str) -> str:
    exec_lines = (
        "            exec:\n              command:\n                - /bin/sh\n                - -c\n"
        f"                - {_text(command)}\n            timeoutSeconds: 15\n"
    )
    return (
        f"          startupProbe:\n{exec_lines}            periodSeconds: 2\n            failureThreshold: 60\n"
        f"          readinessProbe:\n{exec_lines}            periodSeconds: 30\n            failureThreshold: 2\n"
        f"          livenessProbe:\n{exec_lines}            periodSeconds: 60\n            failureThreshold: 3"
    )


def _rights(*, shm: bool) -> str:
    memory = "\n            - name: shm\n              mountPath: /dev/shm" if shm else ""
    return f"""\
          securityContext:
            allowPrivilegeEscalation: false
            capabilities:
              drop:
                - ALL
          volumeMounts:
            - name: keys
              mountPath: /run/secrets/scalepool
              readOnly: true
            - name: run
              mountPath: /run/scalepool
            - name: tmp
              mountPath: /tmp{memory}"""


def _volumes(wanted: Wanted, part: str, *, shm: bool) -> str:
    memory = (
        "\n        - name: shm\n          emptyDir:\n            medium: Memory\n"
        f"            sizeLimit: {_text(wanted.shm)}"
    )
    return f"""\
      volumes:
        - name: keys
          secret:
            secretName: {_text(wanted.secret)}
            defaultMode: 288  # 0440
            items:
              - key: {part}.json
                path: keys.json
        - name: run
          emptyDir:
            medium: Memory
            sizeLimit: 1Mi
        - name: tmp
          emptyDir: {{}}{memory if shm else ""}"""
