"""Compares a hand-derived gradient with autodiff and with finite differences, leaf by leaf.

    report = gradcheck.compare(f, grad_f, params, x, y)
    print(report)                                     # a table: leaf, shape, errors, index of the largest
    gradcheck.assert_ok(f, grad_f, params, x, y)      # the same in a test

`f(params, *rest)` is a scalar; `grad_f(params, *rest)` is its gradient with respect to `params`, any pytree: alone, as
`jax.grad(f)` returns it, or as the pair (value, gradient) of `jax.value_and_grad(f)`, which `train` takes. Both must
compute the same network: pass options such as `hidden` to both.

    f = lambda params, x, y: cost.value(mlp.logits(params, x, hidden=relu), y)
    report = gradcheck.compare(f, partial(backprop.value_and_grad, cost=cost, hidden=relu), params, x, y)
"""

from jnn.gradcheck.comparison import assert_ok, compare
from jnn.gradcheck.report import Difference, Leaf, Report

__all__ = ["Difference", "Leaf", "Report", "assert_ok", "compare"]
