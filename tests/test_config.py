"""CPU count, thread limits and the merge of settings: pure functions, so every input is made up here."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._base.clock import monotonic_s
from scalepool._base.ids import PEER_MAX, IdSource, make_id, peer_of
from scalepool.config import THREAD_VARIABLES, CpuCount, Settings, cpu_count, settings, thread_limits

if TYPE_CHECKING:
    from pathlib import Path


class Host:
    """A made-up file tree and environment to count the CPUs of."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Host:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return self

    def count(self, affinity: int = 64, xoption: str = "", **environ: str) -> CpuCount:
        return cpu_count(environ=environ, affinity=affinity, root=self.root, xoption=xoption)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_any_limit_the_affinity_mask_decides(host: Host) -> None:
    assert host.count(affinity=6) == CpuCount(6, "affinity mask")


def test_real_affinity_of_a_process_is_seen() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from scalepool.config import cpu_count; print(cpu_count())"
    environ = {k: v for k, v in os.environ.items() if k != "PYTHON_CPU_COUNT"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert out.stdout.strip() == "CpuCount(count=1, reason='affinity mask')"


@pytest.mark.parametrize(
    ("quota", "count"),
    [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("50000 25000\n", 2), ("6400000 100000", 64)],
)
def test_cgroup_v2_quota_is_rounded_up(host: Host, quota: str, count: int) -> None:
    host.write("/proc/self/cgroup", "0::/job\n").write("/sys/fs/cgroup/job/cpu.max", quota)
    assert host.count().count == count


@pytest.mark.parametrize(
    "quota", ["max 100000", "", "\n", "100000", "abc def", "0 100000", "100000 0", "-1 100000", "²  1"]
)
def test_cgroup_v2_without_a_sane_quota_sets_no_limit(host: Host, quota: str) -> None:
    host.write("/proc/self/cgroup", "0::/job\n").write("/sys/fs/cgroup/job/cpu.max", quota)
    assert host.count(affinity=5).count == 5


def test_cgroup_v2_quota_of_a_parent_counts(host: Host) -> None:
    host.write("/proc/self/cgroup", "0::/slice/pod/container\n")
    host.write("/sys/fs/cgroup/slice/pod/container/cpu.max", "max 100000")
    host.write("/sys/fs/cgroup/slice/cpu.max", "300000 100000")
    assert host.count() == CpuCount(3, "cgroup v2 quota of 3 CPUs at /slice")


def test_cgroup_v2_top_of_a_container_counts(host: Host) -> None:
    host.write("/proc/self/cgroup", "0::/\n").write("/sys/fs/cgroup/cpu.max", "400000 100000")
    assert host.count().count == 4


def test_cgroup_v2_mount_is_looked_up_and_its_top_stripped(host: Host) -> None:
    host.write("/proc/self/mountinfo", "30 23 0:26 /docker/abc /my\\040groups rw - cgroup2 cgroup rw\n")
    host.write("/proc/self/cgroup", "0::/docker/abc/inner\n")
    host.write("/my groups/inner/cpu.max", "250000 100000")
    assert host.count().count == 3


def test_cgroup_outside_of_the_namespace_reads_the_visible_top(host: Host) -> None:
    host.write("/proc/self/cgroup", "0::/../../other\n").write("/sys/fs/cgroup/cpu.max", "100000 100000")
    host.write("/cpu.max", "1 1")
    assert host.count() == CpuCount(1, "cgroup v2 quota of 1 CPUs at /")


def test_cgroup_v1_quota_by_its_mount(host: Host) -> None:
    host.write("/proc/self/mountinfo", "broken line\n33 23 0:29 / /cg/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n")
    host.write("/proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/jobs/one\n0::/\n")
    host.write("/cg/cpu/jobs/one/cpu.cfs_quota_us", "-1\n").write("/cg/cpu/jobs/one/cpu.cfs_period_us", "100000\n")
    host.write("/cg/cpu/jobs/cpu.cfs_quota_us", "150000\n").write("/cg/cpu/jobs/cpu.cfs_period_us", "100000\n")
    assert host.count() == CpuCount(2, "cgroup v1 quota of 1.5 CPUs at /jobs")


@pytest.mark.parametrize(
    ("quota", "period"), [("-1", "100000"), ("", "100000"), ("100000", ""), ("x", "y"), ("1", "0")]
)
def test_cgroup_v1_without_a_sane_quota_sets_no_limit(host: Host, quota: str, period: str) -> None:
    host.write("/proc/self/cgroup", "4:cpu:/\n")
    host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota).write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period)
    assert host.count(affinity=7).count == 7


def test_python_cpu_count_wins_over_everything(host: Host) -> None:
    host.write("/proc/self/cgroup", "0::/\n").write("/sys/fs/cgroup/cpu.max", "100000 100000")
    assert host.count(affinity=2, PYTHON_CPU_COUNT="12") == CpuCount(12, "PYTHON_CPU_COUNT=12")
    assert host.count(affinity=2, PYTHON_CPU_COUNT="12", xoption="3") == CpuCount(3, "-X cpu_count=3")


@pytest.mark.parametrize("text", ["default", "", "0", "-4", "4.5", "many", "٣", "9" * 30])
def test_a_senseless_python_cpu_count_is_ignored(host: Host, text: str) -> None:
    assert host.count(affinity=3, PYTHON_CPU_COUNT=text).count == 3


def test_the_option_default_cancels_the_variable(host: Host) -> None:
    assert host.count(affinity=3, PYTHON_CPU_COUNT="9", xoption="default").count == 3


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_CPUS_PER_NODE": "16"}, 3),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2"}, 4),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2", "SLURM_NODEID": "2"}, 2),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2", "SLURM_NODEID": "9"}, 4),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2", "SLURM_NODEID": "one"}, 4),
        ({"SLURM_CPUS_PER_TASK": "no", "SLURM_JOB_CPUS_PER_NODE": "5"}, 5),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),oops"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": "1(x99999999999)"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": "0"}, 64),
        ({"SLURM_JOB_CPUS_PER_NODE": ""}, 64),
        ({"PBS_NP": "6"}, 6),
        ({"NCPUS": "6"}, 64),
        ({"NCPUS": "6", "PBS_JOBID": "12.head"}, 6),
        ({"PBS_NP": "8", "NCPUS": "2", "PBS_ENVIRONMENT": "PBS_BATCH"}, 2),
        ({"LSB_DJOB_NUMPROC": "7"}, 7),
        ({"LSB_DJOB_NUMPROC": "-7"}, 64),
        ({"PBS_NP": "6", "LSB_DJOB_NUMPROC": "3"}, 3),
    ],
)
def test_batch_systems(host: Host, environ: dict[str, str], count: int) -> None:
    assert host.count(**environ).count == count


@given(text=st.text(max_size=30), affinity=st.integers(-3, 500))
def test_whatever_a_file_holds_the_count_is_positive(
    tmp_path_factory: pytest.TempPathFactory, text: str, affinity: int
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    text = text.encode("utf-8", "replace").decode().replace("\x00", "")
    host.write("/proc/self/cgroup", "0::/\n4:cpu:/\n").write("/sys/fs/cgroup/cpu.max", text)
    host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text).write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "1000")
    assert host.count(affinity, SLURM_JOB_CPUS_PER_NODE=text, PBS_NP=text, LSB_DJOB_NUMPROC=text).count >= 1


# --- thread limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpus", "workers", "threads"), [(8, 2, 4), (8, 3, 2), (2, 2, 1), (2, 9, 1), (4, 0, 4)])
def test_default_shares_the_cpus(cpus: int, workers: int, threads: int) -> None:
    assert thread_limits(cpus, workers, {}) == dict.fromkeys(THREAD_VARIABLES, str(threads))


def test_the_users_own_setting_is_left_alone() -> None:
    limits = thread_limits(8, 4, {"NUMBA_NUM_THREADS": "5", "MKL_NUM_THREADS": ""})
    assert "NUMBA_NUM_THREADS" not in limits
    assert "MKL_NUM_THREADS" not in limits
    assert limits["OMP_NUM_THREADS"] == "2"


def test_omp_set_by_the_user_rules_the_libraries_that_follow_it() -> None:
    limits = thread_limits(8, 4, {"OMP_NUM_THREADS": "6,2"})
    assert limits["OPENBLAS_NUM_THREADS"] == limits["MKL_NUM_THREADS"] == "6"
    assert limits["NUMBA_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in limits


def test_an_argument_beats_the_environment() -> None:
    assert thread_limits(8, 4, {"OMP_NUM_THREADS": "6"}, threads=3) == dict.fromkeys(THREAD_VARIABLES, "3")


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    assert thread_limits(8, 2) == {}


# --- settings ----------------------------------------------------------------------------------------------------


def test_defaults_are_valid_and_frozen() -> None:
    merged = settings({}, {})
    assert merged == Settings()
    with pytest.raises(AttributeError):
        merged.tick_s = 1.0  # type: ignore[misc]


def test_arguments_beat_environment_beats_defaults() -> None:
    environ = {"SCALEPOOL_TICK_S": " 0.5 ", "SCALEPOOL_RESULT_FLUSH_COUNT": "8", "SCALEPOOL_NUM_CPUS": ""}
    merged = settings({"result_flush_count": 9, "num_cpus": None, "idle_worker_s": 2}, environ)
    assert (merged.tick_s, merged.result_flush_count, merged.num_cpus, merged.idle_worker_s) == (0.5, 9, None, 2)


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("SCALEPOOL_TICK_S", "fast", r"SCALEPOOL_TICK_S='fast' is not a number of seconds"),
        ("SCALEPOOL_TICK_S", "nan", r"SCALEPOOL_TICK_S must be between 0.0001 and 10.0"),
        ("SCALEPOOL_RESULT_FLUSH_COUNT", "6.5", r"SCALEPOOL_RESULT_FLUSH_COUNT='6.5' is not a whole number"),
        ("SCALEPOOL_NUM_CPUS", "0", r"SCALEPOOL_NUM_CPUS must be at least 1, not 0"),
        ("SCALEPOOL_TRANSPORT", "pigeon", r"SCALEPOOL_TRANSPORT must be one of unix, ipc, not 'pigeon'"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        settings({}, {variable: text})


@pytest.mark.parametrize("value", ["4", 4.0, True, [4]])
def test_an_argument_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="num_cpus must be a whole number"):
        settings({"num_cpus": value}, {})


def test_a_text_must_be_one() -> None:
    assert settings({}, {"SCALEPOOL_TRANSPORT": " ipc "}).transport == "ipc"
    with pytest.raises(TypeError, match="transport must be text, not 1"):
        settings({"transport": 1}, {})


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown setting 'tick'; known are num_cpus"):
        settings({"tick": 1}, {})


def test_a_size_may_be_text_with_a_unit() -> None:
    assert settings({"max_worker_rss": "2GB"}, {}).max_worker_rss == 2 * 10**9
    assert settings({}, {"SCALEPOOL_MAX_WORKER_RSS": "1 GiB"}).max_worker_rss == 1 << 30
    with pytest.raises(ValueError, match="SCALEPOOL_MAX_WORKER_RSS must be"):
        settings({}, {"SCALEPOOL_MAX_WORKER_RSS": "much"})


# --- ids and clock -----------------------------------------------------------------------------------------------


@given(peer=st.integers(0, PEER_MAX), counter=st.integers(0, 2**40 - 1))
def test_an_id_holds_its_two_parts(peer: int, counter: int) -> None:
    made = make_id(peer, counter)
    assert (peer_of(made), made - make_id(peer, 0)) == (peer, counter)
    assert made < 2**63


@pytest.mark.parametrize(("peer", "counter"), [(-1, 1), (PEER_MAX + 1, 1), (1, -1), (1, 2**40)])
def test_parts_out_of_range_are_refused(peer: int, counter: int) -> None:
    with pytest.raises(ValueError, match="is not in"):
        make_id(peer, counter)


def test_a_source_counts_from_one_under_its_peer() -> None:
    source = IdSource(3)
    assert [source.take(), source.take()] == [make_id(3, 1), make_id(3, 2)]
    assert repr(source) == "IdSource(peer=3)"


def test_the_clock_does_not_run_backwards() -> None:
    first = monotonic_s()
    assert monotonic_s() >= first


def test_what_travels_inside_messages_is_bounded() -> None:
    limit = 512 * 1024
    assert settings({"inline_limit_bytes": limit}).inline_limit_bytes == limit
    with pytest.raises(ValueError, match="SCALEPOOL_INLINE_LIMIT_BYTES must be between 0 and 524288, not 524289"):
        settings(None, {"SCALEPOOL_INLINE_LIMIT_BYTES": str(limit + 1)})
