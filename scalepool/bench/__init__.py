"""Is scalepool faster for you, on your machine? The library behind ``scalepool bench``.

Every figure comes from a *run*: one workload by one candidate in a fresh interpreter, checked for right results. Runs
of the candidates take turns, so what disturbs the machine disturbs all of them, and ratios within one report hold where
single figures do not.

::

    model        what a workload, a metric and a target are
    candidates   scalepool and its peers: names, whether they are installed
    drivers/     one small adapter per library, all with the same few operations
    workloads/   the catalogue: what is measured and how each candidate does it
    run, run_one what happens inside the fresh interpreter
    tree         CPU time and memory of a tree of processes
    launch       starts a run, watches it, ends everything it started
    plan, runner which runs, in which order, and the loop over them
    report, summary, compare, table, plot    from rounds to what is shown
    profile/     where the microseconds of a task go

Nothing here is imported by the rest of the package.
"""
