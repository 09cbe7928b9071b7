"""Installs `slime_patch/` into a slime checkout: the parts behind `tools/install_patch.py`.

patch_tree    the patch's files, one file's state on disk, and which paths are safe to write
versions      which slime a checkout is, from content hashes
store         `.ta_opd_patch/` inside the checkout: manifest, kept originals, lock
plan          what apply, revert and verify would do, and what stands against it; changes nothing
transaction   a journal of changes that ends all done or all undone, whenever it is interrupted

Standard library only.
"""
