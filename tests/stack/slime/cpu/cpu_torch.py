"""Calls that Megatron-core, SGLang and slime hard-code to torch.cuda land on the CPU. For tests only."""

import contextlib
import functools

import torch

CPU = torch.device("cpu")
FACTORIES = (
    *("empty", "zeros", "ones", "full", "tensor", "arange", "rand", "randn", "randint", "as_tensor"),
    *("zeros_like", "empty_like", "ones_like"),
)
NO_OPERATION = ("synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats", "manual_seed_all", "set_device")
ZERO = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")


class Nothing:
    """A stream or an event: every method returns None."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        return lambda *args, **kwargs: None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def is_cuda(device):
    return (isinstance(device, str) and device.startswith("cuda")) or (
        isinstance(device, torch.device) and device.type == "cuda"
    )


def on_cpu(function):
    """The factory, with device="cuda" and pinned memory turned into what a CPU has."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        return function(*args, **kwargs)

    return wrapped


def patch_cuda_module():
    cuda = torch.cuda
    for name in NO_OPERATION:
        setattr(cuda, name, lambda *args, **kwargs: None)
    for name in ZERO:
        setattr(cuda, name, lambda *args, **kwargs: 0)
    cuda.current_device = lambda: CPU
    cuda.device_count = lambda: 1
    cuda.mem_get_info = lambda *args, **kwargs: (0, 1)
    cuda.manual_seed = lambda seed: torch.default_generator.manual_seed(int(seed))
    cuda.default_generators = (torch.default_generator,)
    for module in (cuda, cuda.random):
        module.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
        module.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    cuda.Stream = cuda.Event = Nothing
    cuda.current_stream = cuda.default_stream = lambda *args, **kwargs: Nothing()
    cuda.stream = lambda stream: contextlib.nullcontext()
    for kind in ("Float", "Int", "Long", "Byte"):
        setattr(cuda, f"{kind}Tensor", getattr(torch, f"{kind}Tensor"))


def patch_tensors():
    for name in FACTORIES:
        setattr(torch, name, on_cpu(getattr(torch, name)))
    torch.Tensor.pin_memory = torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    move, kind = torch.Tensor.to, torch.Tensor.type

    def to(self, *args, **kwargs):
        if is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
        return move(self, *(CPU if is_cuda(value) else value for value in args), **kwargs)

    def type_(self, *args, **kwargs):
        """Megatron asks a tensor for its type to see that it is on the GPU: "torch.cuda.FloatTensor"."""
        if args or kwargs:
            return kind(self, *args, **kwargs)
        return kind(self).replace("torch.", "torch.cuda.", 1)

    torch.Tensor.to, torch.Tensor.type = to, type_


def patch_process_groups():
    """Groups asked for with NCCL are gloo groups."""
    distributed = torch.distributed
    for name in ("init_process_group", "new_group"):
        original = getattr(distributed, name)

        def gloo(*args, _original=original, **kwargs):
            args = tuple("gloo" if value == "nccl" else value for value in args)
            if "nccl" in str(kwargs.get("backend", "")):
                kwargs["backend"] = "gloo"
            kwargs.pop("device_id", None)
            return _original(*args, **kwargs)

        setattr(distributed, name, gloo)


def install():
    patch_cuda_module()
    patch_tensors()
    patch_process_groups()
