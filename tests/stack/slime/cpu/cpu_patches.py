"""Module -> what to change in it: always, and so that slime trains without CUDA, Transformer Engine or flash attention.

The tiny model is built with `--transformer-impl local`, whose layers keep the layer norms outside the linear layers;
slime's weight names assume Transformer Engine's fused ones, hence the renames both ways.
"""

import itertools
import os
import types

FUSED_NORMS = {
    ".input_layernorm.weight": ".self_attention.linear_qkv.layer_norm_weight",
    ".pre_mlp_layernorm.weight": ".mlp.linear_fc1.layer_norm_weight",
}


def with_fused_norm_names(name):
    for local, fused in FUSED_NORMS.items():
        name = name.replace(local, fused)
    return name


def patch_torch(module):
    import cpu_torch

    cpu_torch.install()


def patch_torchvision(module):
    """Where the compiled operators do not load (a CUDA build), their signatures, which are all its import needs."""
    import torch

    if not module._has_ops():
        # The library object must live as long as the process.
        module.stand_in = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            module.stand_in.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def patch_megatron_random(module):
    import torch

    module._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    module._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)


def patch_accelerators(module):
    """Registers a CPU accelerator; slime versions from August 2026 on choose it by SLIME_ACCELERATOR=cpu."""
    import torch
    from slime.utils.accelerator.cuda import CUDAAccelerator

    class CPUAccelerator(CUDAAccelerator):
        name = device_type = "cpu"
        communication_backend_name = "gloo"

        def is_available(self):
            return True

        def device(self, index=None):
            return torch.device("cpu")

        def device_name(self, index=None):
            return "cpu"

        def current_device(self):
            return torch.device("cpu")

        def device_count(self):
            return 1

        def set_device(self, index):
            pass

        def attach_oom_observer(self, callback):
            return False

        def supports(self, capability):
            return False

        def get_device_properties(self, index=None):
            return types.SimpleNamespace(uuid=f"cpu-{os.getpid()}", name="cpu", total_memory=0)

        def set_allocator_expandable_segments(self):
            return False

    module.register_accelerator("cpu", CPUAccelerator, lambda: True, priority=500, communication_backends=("gloo",))


def patch_loading(module):
    original = module.qwen_hf_tensor

    def qwen_hf_tensor(name, reader, config):
        # The MLP's norm has its own name in slime's table; only the attention's is missing there.
        return original(name.replace(*next(iter(FUSED_NORMS.items()))), reader, config)

    module.qwen_hf_tensor = qwen_hf_tensor


def patch_saving(module):
    original = module.convert_qwen2_to_hf
    module.convert_qwen2_to_hf = lambda args, name, param: original(args, with_fused_norm_names(name), param)


def patch_attention(module):
    """Packed sequences, which the local implementation refuses: plain causal attention over each of them."""
    import torch
    import torch.nn.functional as F

    original = module.DotProductAttention.forward

    def forward(
        self, query, key, value, attention_mask, attn_mask_type=None, attention_bias=None, packed_seq_params=None
    ):
        if packed_seq_params is None:
            return original(self, query, key, value, attention_mask, attn_mask_type, attention_bias)
        heads_per_group = query.shape[-2] // key.shape[-2]
        key, value = (x.repeat_interleave(heads_per_group, -2) for x in (key, value))
        ends = packed_seq_params.cu_seqlens_q.tolist()
        outputs = []
        for start, end in itertools.pairwise(ends):
            q, k, v = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
            outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1))
        return torch.cat(outputs).flatten(start_dim=1)

    module.DotProductAttention.forward = forward


ALWAYS = {"torchvision.extension": patch_torchvision}
CPU_FOR_CUDA = {
    "torch": patch_torch,
    "megatron.core.tensor_parallel.random": patch_megatron_random,
    "megatron.core.transformer.dot_product_attention": patch_attention,
    "slime.utils.accelerator": patch_accelerators,
    "slime.backends.megatron_utils.hf_to_megatron.qwen": patch_loading,
    "slime.backends.megatron_utils.megatron_to_hf.qwen2": patch_saving,
}
