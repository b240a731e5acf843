"""Where a night's shards are read: here, or on the worker processes of a Ray or a Dask cluster.

Each worker process holds one model. A shard whose worker died is read again by another one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from ecner.config import RunSettings, Settings
from ecner.errors import RunError, UsageError

Runner = TaskRunner[PrefectFuture[Any]]
_LOST_WORKERS = 3  # a shard that has lost so many is not given to one more: it may be what kills them
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HERE = ("localhost", "127.0.0.1", "::1")


def check_runner(settings: Settings) -> None:
    """Looks, before anything starts, whether what was chosen can run.

    Raises:
        UsageError: its package is not installed, or workers elsewhere would find no Prefect server, or no lake.
    """
    run = settings.run
    if run.runner == "local":
        return
    if find_spec(f"prefect_{run.runner}") is None:
        raise UsageError(f"run.runner is {run.runner}, which is not installed: pip install 'ecner[{run.runner}]'")
    if run.address is None:
        return
    if _host(run.address.get_secret_value()) not in _HERE and not PREFECT_API_URL.value():
        raise UsageError(
            "run.address names a cluster elsewhere, whose workers cannot reach a Prefect server that is started here: "
            "set PREFECT_API_URL to one that they can"
        )
    if "://" not in settings.lake.uri and not Path(settings.lake.uri).is_absolute():
        raise UsageError(
            f"lake.uri is {settings.lake.uri}, and workers of a cluster do not run in this folder: expected s3://, or "
            "the absolute path of a folder that all of them share"
        )


def _host(address: str) -> str | None:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:
        raise UsageError("run.address has another form than ray://host:10001 or tcp://host:8786: set it anew") from None


def open_runner(settings: Settings, shards: int) -> AbstractContextManager[Runner]:
    """The task runner of the settings, for so many shards."""
    run, gpu = settings.run, settings.model.device != "cpu"
    if run.runner == "ray":
        return _ray(run, shards, gpu=gpu)
    if run.runner == "dask":
        return _dask(run, shards, gpu=gpu)
    # one shard at a time: the model uses every core, or the whole GPU, by itself
    return cast("Runner", ThreadPoolTaskRunner(max_workers=1))


@contextmanager
def _ray(run: RunSettings, shards: int, *, gpu: bool) -> Iterator[Runner]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # after a lost connection Ray would start a cluster here
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # whoever reaches a cluster without one may run what he likes on it
    ray, prefect_ray = import_module("ray"), import_module("prefect_ray")
    remote_options = import_module("prefect_ray.context").remote_options
    with ExitStack() as stack:
        try:
            runner = stack.enter_context(prefect_ray.RayTaskRunner(*_ray_cluster(run)))
        except ConnectionError as error:
            raise RunError(
                f"no Ray cluster answers at run.address: {error}; look whether it runs, and whether RAY_AUTH_MODE and "
                "RAY_AUTH_TOKEN are the same here and there"
            ) from error
        share = worker_share([node["Resources"] for node in ray.nodes() if node["Alive"]], shards, run.workers, gpu=gpu)
        # unless told otherwise Ray starts a process, and loads the model, for each task on a GPU
        stack.enter_context(remote_options(**share, max_retries=_LOST_WORKERS, max_calls=0))
        yield runner


def _ray_cluster(run: RunSettings) -> tuple[str, dict[str, Any]]:
    """Address and options."""
    quiet = {"log_to_driver": False}
    if run.address:
        return run.address.get_secret_value(), quiet
    # a cluster that happens to run on this machine is not meant
    return "local", quiet | {"num_cpus": max(cores(), run.workers or 1), "include_dashboard": False}


def worker_share(
    nodes: Sequence[Mapping[str, float]], shards: int, workers: int | None, *, gpu: bool
) -> dict[str, int]:
    """Cores and GPUs that Ray keeps for each worker: a GPU where there are some, else its part of the cores."""
    with_gpu = [node for node in nodes if gpu and node.get("GPU")]
    if with_gpu:
        return {"num_cpus": max(1, int(min(node["CPU"] // node["GPU"] for node in with_gpu))), "num_gpus": 1}
    free = [int(node["CPU"]) for node in nodes if node.get("CPU")]
    part = sum(free) // (workers or min(sum(free), shards))
    return {"num_cpus": max(1, min(part, *free)), "num_gpus": 0}  # a worker lies on one node


@contextmanager
def _dask(run: RunSettings, shards: int, *, gpu: bool) -> Iterator[Runner]:
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # is read when it is imported, by workers too
    dask, prefect_dask = import_module("dask"), import_module("prefect_dask")
    with ExitStack() as stack:
        if run.address:
            runner = stack.enter_context(prefect_dask.DaskTaskRunner(address=run.address.get_secret_value()))
            check_threads(runner.client.scheduler_info(n_workers=-1)["workers"])
        else:
            workers = run.workers or min(cores(), shards)
            threads = os.environ.get(_THREADS[0], str(max(1, cores() // workers)))
            environment = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in _THREADS}
            stack.enter_context(
                dask.config.set(environment | {"distributed.scheduler.allowed-failures": _LOST_WORKERS})
            )
            runner = stack.enter_context(prefect_dask.DaskTaskRunner(**_local_cluster(workers, gpu=gpu)))
        yield runner


def _local_cluster(workers: int, *, gpu: bool) -> dict[str, Any]:
    """Processes of one thread each, without Dask's limit on memory: a worker holds the model and one shard."""
    kwargs: dict[str, Any] = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "security": True}
    if gpu and find_spec("dask_cuda"):
        return {"cluster_class": "dask_cuda.LocalCUDACluster", "cluster_kwargs": kwargs}
    return {"cluster_kwargs": kwargs | {"n_workers": 1 if gpu else workers, "processes": True}}


def check_threads(workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses workers that would read several shards at a time with one model."""
    if many := sorted(name for name, worker in workers.items() if worker["nthreads"] != 1):
        raise UsageError(f"workers of the Dask cluster have several threads ({many[0]}): start them with --nthreads 1")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
