"""The inside of row_losses and topk_losses: one read of the logits forward, a recomputing backward.

request -> function (the autograd Function of row_losses), which on one shard of a CPU is one_pass and else sharded:
kernels (torch_kernels over block, or triton_kernels over triton_*) -> vocab_parallel -> scalars. topk_buckets and
topk_rows are the same for lists. entries is the table of divergences that all of them read.
"""
