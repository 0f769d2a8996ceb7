from __future__ import annotations

import pytest

from scalepool.cli.targets import Batch, Host, TargetError, batch, distinct, hosts, hosts_in_lines, variables


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h1", (Host("h1"),)),
        ("h1,h2:4", (Host("h1"), Host("h2", "", 4))),
        ("me@h1,h2:4,you@h3/", (Host("h1", "me"), Host("h2", "me", 4), Host("h3", "you"))),
        ("[::1]:2,fe80.example", (Host("::1", "", 2), Host("fe80.example"))),
        ("10.0.0.7:64", (Host("10.0.0.7", "", 64),)),
    ],
)
def test_hosts(text: str, found: tuple[Host, ...]) -> None:
    assert hosts(text) == found


def test_a_login_is_what_ssh_is_given() -> None:
    assert [host.login for host in hosts("me@h1,[::1]")] == ["me@h1", "me@::1"]
    assert hosts("h1")[0].login == "h1"


@pytest.mark.parametrize(
    "text",
    ["", "h1,", "-oProxyCommand=x", "me@-h", "-u@h", "h1 h2", "h1:0", "h1:many", "h;rm", "$(x)", "h1:4:5", "::1", "@h"],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(TargetError):
        hosts(text)


def test_a_host_that_is_named_twice_is_an_error_of_the_users() -> None:
    with pytest.raises(TargetError, match="h1 is named twice"):
        hosts("h1,h2,h1:4")
    with pytest.raises(TargetError, match="h1 is named twice"):
        distinct([*hosts("h1"), *hosts_in_lines("h1")])


def test_a_file_of_hosts_has_comments_and_empty_lines() -> None:
    assert hosts_in_lines("# all\nh1  # ours\n\n me@h2:3 \n") == (Host("h1"), Host("h2", "me", 3))
    with pytest.raises(TargetError, match="no hosts"):
        hosts_in_lines("# none\n")


def test_a_batch_target_has_our_names_and_the_systems() -> None:
    found = batch("slurm", "long?nodes=4&walltime=1:00:00&cpus-per-task=8&qos=low&exclusive=&project=p1&memory=4G")
    assert found == Batch(
        "slurm",
        4,
        {"queue": "long", "time": "1:00:00", "cpus": "8", "account": "p1", "mem": "4G"},
        (("qos", "low"), ("exclusive", "")),
    )
    assert batch("lsf", "") == Batch("lsf", 1, {}, ())


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("q?nodes=0", "nodes is a number from 1"),
        ("q?nodes=many", "nodes is a number"),
        ("q?cpus=-1", "cpus is a number"),
        ("q?time=1%0A%23SBATCH%20--x", "cannot stand in a job script"),
        ("q?comment=two%20words", "cannot stand"),
        ("q?qos=$(x)", "cannot stand"),
        ("q;x", "the queue"),
        ("q?%2D%2Dx=1", "no name of an option"),
    ],
)
def test_what_could_break_out_of_a_directive_is_refused(rest: str, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        batch("slurm", rest)


def test_variables() -> None:
    assert variables(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("text", ["A", "=1", "1A=2", "A B=1", "A=\0"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="NAME=VALUE"):
        variables([text])
