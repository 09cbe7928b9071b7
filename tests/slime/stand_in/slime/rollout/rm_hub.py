"""slime's dispatch on --rm-type."""

from slime.utils.misc import load_function


async def async_rm(args, sample, **kwargs):
    for path in (sample.custom_rm_path, args.custom_rm_path):
        if path:
            return await load_function(path)(args, sample, **kwargs)
    kind = (sample.metadata or {}).get("rm_type") or args.rm_type
    if kind == "length":
        return sample.response_length
    if kind == "mapping":
        return {"accuracy": 1.0, "format": 0.5}
    raise NotImplementedError(f"no reward of type {kind!r}")
