"""Prints what the installed SGLang requires, with its own pins, less what needs a GPU; torch stays as it is."""

from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

GPU_ONLY = {
    *("cuda-python", "flash-attn-4", "flashinfer-cubin", "flashinfer-python", "humming-kernels", "kernels"),
    *("nvidia-cutlass-dsl", "nvidia-mathdx", "nvshmem4py-cu13", "quack-kernels", "sgl-deep-ep", "sgl-deep-gemm"),
    *("sgl-flash-mla", "sglang-kernel", "tilelang", "tokenspeed-mla", "torchao"),
}
# Sound, video and vision models, other front ends: the tests serve text over HTTP.
NOT_SERVED = {
    "av",
    "decord2",
    "deepseek-recipe",
    "smg-grpc-servicer",
    "timm",
    "tml-renderers",
    "torchaudio",
    "torchcodec",
}
INSTALLED_BEFORE = {"torch", "torchvision", "triton"}


def main():
    for line in requires("sglang"):
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and canonicalize_name(requirement.name) not in GPU_ONLY | NOT_SERVED | INSTALLED_BEFORE:
            requirement.marker = None
            print(requirement)
    print(f"torch=={version('torch').partition('+')[0]}")


if __name__ == "__main__":
    main()
