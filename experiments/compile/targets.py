"""The devices for which programs are compiled: facts of their data sheets, and how XLA's compilers are told of them."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

INSTALL = "pip install '.[accelerators]'"


class Target(NamedTuple):
    """One kind of device.

    Attributes:
      name: What JAX calls a topology of four.
      accelerator: What Cloud TPU calls four of them; empty for a GPU.
      memory: Bytes.
      bandwidth: Of the memory, in bytes per second.
      rates: Operations per second of products of bfloat16, and of float32 at the precisions "default" and "highest".
      launch: Seconds between the beginnings of two kernels that have nothing to do: an assumption.
      gpu: Of a GPU, what differs from one to another in the description that XLA's compiler takes.
    """

    name: str
    accelerator: str
    memory: float
    bandwidth: float
    rates: Mapping[str, float]
    launch: float
    gpu: Mapping[str, Any] = {}


def tpu(name: str, accelerator: str, memory: float, bandwidth: float, bfloat16: float) -> Target:
    """A TPU, which multiplies float32 as bfloat16, or at the precision "highest" as six products of bfloat16."""
    rates = {"bfloat16": bfloat16, "default": bfloat16, "highest": bfloat16 / 6}
    return Target(name, accelerator, memory, bandwidth, rates, 2e-7)


def gpu(name: str, rates: tuple[float, float, float], bandwidth: float, **facts: Any) -> Target:
    """A GPU of 80 GB, which multiplies float32 as TF32, or at the precision "highest" as it is."""
    bfloat16, default, highest = rates
    named: dict[str, float] = {"bfloat16": bfloat16, "default": default, "highest": highest}
    return Target(name, "", 80e9, bandwidth, named, 3e-6, facts)


TARGETS = {
    "v5e": tpu("v5e:2x2", "v5litepod-4", 16e9, 819e9, 197e12),
    "v6e": tpu("v6e:2x2", "v6e-4", 32e9, 1640e9, 918e12),
    "h100": gpu(
        "NVIDIA H100 80GB HBM3",
        (989e12, 494e12, 67e12),
        3350e9,
        cores=132,
        fpus=128,
        clock=1.98,
        shared=228,
        l2=50,
        capability="major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES",
    ),
    "a100": gpu(
        "NVIDIA A100-SXM4-80GB",
        (312e12, 156e12, 19.5e12),
        2039e9,
        cores=108,
        fpus=64,
        clock=1.41,
        shared=164,
        l2=40,
        capability="major: 8 minor: 0",
    ),
}
"""H100 and A100 are those on SXM boards; rates of products are without sparsity."""


def missing(device: str) -> list[str]:
    """The packages that compiling for the device needs and that are not installed."""
    needed = {"libtpu": "libtpu"} if TARGETS[device].accelerator else {"jax_cuda12_plugin": "jax-cuda12-plugin"}
    return [package for module, package in needed.items() if importlib.util.find_spec(module) is None]


def environment(device: str, folder: str) -> dict[str, str]:
    """The variables of a process that compiles for the device, which must be set before it imports JAX.

    JAX computes on the host. libtpu asks nobody for the machine, writes its logs to `folder`, which must exist, and
    does not mind that other processes have loaded it, too.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "TPU_"))}
    variables |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if accelerator := TARGETS[device].accelerator:
        variables |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": accelerator, "TPU_LOG_DIR": folder}
        variables |= {"TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    return variables


def devices(device: str) -> list[Any]:
    """Four devices that are not there, for which JAX compiles; only in a process with the `environment`."""
    from jax.experimental import topologies

    target = TARGETS[device]
    if target.accelerator:
        return topologies.get_topology_desc(target.name, "tpu").devices
    text = description(target)
    return topologies.get_topology_desc(target.name, "cuda", topology="1x1x4", target_config=text).devices


def description(target: Target) -> str:
    """A GPU as XLA takes it, a GpuTargetConfig in text form; a block may use all of a core's memory but 1 KiB."""
    facts, kibi = target.gpu, 1024
    return f"""
platform_name: "CUDA"
device_description_str: "{target.name}"
runtime_version {{ major: 12 minor: 9 }}
dnn_version_info {{ major: 9 minor: 10 }}
gpu_device_info {{
  cuda_compute_capability {{ {facts["capability"]} }}
  core_count: {facts["cores"]}
  fpus_per_core: {facts["fpus"]}
  clock_rate_ghz: {facts["clock"]}
  memory_bandwidth: {target.bandwidth:.0f}
  device_memory_size: {target.memory:.0f}
  l2_cache_size: {facts["l2"] * kibi**2}
  shared_memory_per_core: {facts["shared"] * kibi}
  shared_memory_per_block_optin: {(facts["shared"] - 1) * kibi}
  shared_memory_per_block: {48 * kibi}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
"""
