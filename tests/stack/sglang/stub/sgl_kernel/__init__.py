"""Stands in for sgl-kernel, which has no wheel for a plain CPU: what SGLang's torch path calls, written in torch.

Every other name exists, because SGLang imports many of them, and refuses to be called.
"""

__version__ = "0.4.10"


def assign_req_to_token_pool_cpu(req_pool_indices, req_to_token, starts, ends, cache_locations, *_):
    """Writes each request's new cache locations into its row of the request-to-token table, in place."""
    used = 0
    for row, start, end in zip(req_pool_indices.tolist(), starts.tolist(), ends.tolist(), strict=True):
        new = cache_locations[used : used + end - start]
        req_to_token[row, start:end] = new.to(req_to_token.dtype)
        used += end - start


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*args, **kwargs):
        raise NotImplementedError(f"sgl_kernel.{name} has no CPU stand-in")

    return refuse
