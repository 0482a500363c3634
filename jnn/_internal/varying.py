"""Arrays inside of `jax.shard_map`, whose types say over which axes of the mesh they vary."""

from typing import Any

import jax

from jnn.typing import PyTree


def match(*trees: PyTree) -> tuple[PyTree, ...]:
    """The trees, every array varying over each axis that one of them varies over, as the carry of a scan must.

    The derivative with respect to an array that did not vary is summed over the axis. Elsewhere nothing varies.
    """
    axes = frozenset().union(*map(_axes, jax.tree.leaves(trees)))

    def vary(leaf: PyTree) -> PyTree:
        return jax.lax.pcast(leaf, tuple(sorted(axes - _axes(leaf))), to="varying") if axes else leaf

    return jax.tree.map(vary, trees)


def _axes(leaf: Any) -> frozenset[str]:
    kind: Any = jax.typeof(leaf)
    return kind.manual_axis_type.varying
