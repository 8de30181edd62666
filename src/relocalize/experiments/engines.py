"""What does the runs of a sweep: this process, one after the other, or a Ray cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from relocalize import progress
from relocalize.errors import ExperimentError, RelocalizeError
from relocalize.experiments.runs import Run
from relocalize.parallel import one_native_thread
from relocalize.place.lock import patient_locks

# Seconds for runs on other processes to write their checkpoints after Ctrl-C.
_STOPPING = 30.0

# Does runs and yields each as it ends.
Engine = Callable[[Sequence[Run]], Iterator[Run]]


def local_engine(runs: Sequence[Run]) -> Iterator[Run]:
    """Here, one after the other: each has the machine for itself, so times can be compared."""
    for number, run in enumerate(runs, start=1):
        progress.say(f"run {number} of {len(runs)}: {run.folder.name}")
        run.work()
        yield run


def ray_engine(runs: Sequence[Run]) -> Iterator[Run]:
    """On Ray: as many at a time as there are processors (``threads`` each) or GPUs.

    A cluster is joined where RAY_ADDRESS names one, whose machines see the Place under the same
    path; else Ray is started on this machine and ended again. A run whose worker died is done
    again by another, from its checkpoint.

    Raises:
        ExperimentError: Ray is not installed, or does not start.
        RelocalizeError: that of the first run that cannot be done; the others are stopped.
    """
    if not runs:
        return
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        _start(ray)
    try:
        yield from _on(ray, runs)
    finally:
        if started:
            ray.shutdown()


ENGINES: dict[str, Engine] = {"local": local_engine, "ray": ray_engine}


def check_engine(name: str) -> None:
    """Raise `ExperimentError` where there is no such engine, or not here."""
    if name not in ENGINES:
        raise ExperimentError(f"no engine {name!r}; there are {', '.join(ENGINES)}")
    if name == "ray":
        _ray()


def _ray() -> Any:
    if find_spec("ray") is None:
        raise ExperimentError(
            "--engine ray needs ray, which is not installed; "
            'install it with: pip install "relocalize[cluster]"'
        )
    return import_module("ray")


def _start(ray: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except Exception as error:  # Ray raises bare ones, of a slow machine too
        raise ExperimentError(
            f"Ray did not start: {_first_line(error)}; try again, or use --engine local"
        ) from error
    finally:
        # What SIGTERM does stays as it is: Ray would end this process before runs are stopped.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _on(ray: Any, runs: Sequence[Run]) -> Iterator[Run]:
    on_gpus = ray.cluster_resources().get("GPU", 0) >= 1
    work = ray.remote(_work)
    waiting: dict[Any, Run] = {}
    for run in runs:
        gpus = 1 if on_gpus and run.settings.device in {"auto", "cuda"} else 0
        options = {"num_cpus": run.settings.threads or 1, "num_gpus": gpus}
        waiting[work.options(**options).remote(run)] = run
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            run = waiting.pop(done)
            _result(ray, done)
            yield run
            progress.say(f"done: {run.folder.name}; {len(waiting)} of {len(runs)} left")
    finally:
        # After an error or Ctrl-C the others are interrupted, and write their checkpoints.
        for task in waiting:
            ray.cancel(task)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=_STOPPING)


def _work(run: Run) -> None:
    """In a process of Ray's."""
    with one_native_thread(), patient_locks():
        run.work()


def _result(ray: Any, task: Any) -> None:
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RelocalizeError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ExperimentError(
            f"Ray could not do a run: {_first_line(error)}; run the same command again to resume"
        ) from error
