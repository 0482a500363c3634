"""The report of a comparison: a row for each leaf, printed as a table."""

from typing import NamedTuple


class Difference(NamedTuple):
    """The distance of an array a from its reference b.

    Attributes:
      absolute: The largest absolute difference of an entry.
      relative: That over the largest absolute entry of b, or of the whole gradient if b is all zeros, so that entries
        near zero do not inflate it.
      where: The index of the largest difference.
      compared: How many entries were compared.
      rounding: How large `absolute` can be from rounding in the reference alone.
    """

    absolute: float
    relative: float
    where: tuple[int, ...]
    compared: int
    rounding: float = 0.0

    def within(self, tolerance: float) -> bool:
        """True if the relative difference is within tolerance, or the absolute one within rounding; never for NaN."""
        return self.relative <= tolerance or self.absolute <= self.rounding


class Leaf(NamedTuple):
    """One row of the table: the hand-derived gradient of a leaf compared with both references.

    Attributes:
      path: Where the leaf is in the tree.
      shape: The shape of the leaf.
      got: The shape of the hand-derived gradient; if it differs, the differences are infinite.
      autodiff: The distance from autodiff.
      finite: The distance from central differences.
      kinks: How many entries are at a kink of f, such as a relu at exactly 0. Their one-sided differences disagree and
        the hand-derived gradient lies between them, so they are compared with autodiff only.
      diagnosis: The mistake that a wrong gradient looks like, such as the transpose or a constant factor, or "".
    """

    path: str
    shape: tuple[int, ...]
    got: tuple[int, ...]
    autodiff: Difference
    finite: Difference
    kinks: int = 0
    diagnosis: str = ""


class Report(NamedTuple):
    """The result of a comparison, which prints as a table and is true if every gradient is right.

    Attributes:
      leaves: A row for each leaf.
      tolerance: The largest relative difference from autodiff.
      finite_tolerance: The largest relative difference from central differences.
    """

    leaves: tuple[Leaf, ...]
    tolerance: float
    finite_tolerance: float

    @property
    def ok(self) -> bool:
        """True if every leaf is within both tolerances."""
        return not self.wrong

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    @property
    def wrong(self) -> tuple[Leaf, ...]:
        """The leaves that exceed a tolerance."""
        return tuple(
            leaf
            for leaf in self.leaves
            if not (leaf.autodiff.within(self.tolerance) and leaf.finite.within(self.finite_tolerance))
        )

    def __str__(self) -> str:
        head = ("leaf", "shape", "autodiff: abs", "rel", "where", "finite diff.: abs", "rel", "where", "")
        rows = [head, *(_row(leaf, leaf in self.wrong, self.finite_tolerance) for leaf in self.leaves)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{leaf.path or '(it)'}: {leaf.diagnosis}" for leaf in self.wrong if leaf.diagnosis]
        verdict = f"{len(self.wrong)} of {len(self.leaves)} leaves wrong" if self.wrong else "all leaves ok"
        held = f"tolerances {self.tolerance:g} against autodiff, {self.finite_tolerance:g} against finite differences"
        return "\n".join([*lines, f"{verdict} ({held})"])


def _row(leaf: Leaf, wrong: bool, finite_tolerance: float) -> tuple[str, ...]:
    def numbers(d: Difference) -> tuple[str, str, str]:
        return f"{d.absolute:.1e}", f"{d.relative:.1e}", str(list(d.where))

    verdict = "WRONG" if wrong else "ok"
    if leaf.got != leaf.shape:
        verdict += f": gradient of shape {leaf.got}"
    if leaf.kinks:
        verdict += f", {leaf.kinks} at a kink"
    if not wrong and leaf.finite.relative > finite_tolerance:
        verdict += f", within the rounding of f, {leaf.finite.rounding:.1e}"
    sampled = leaf.finite.compared + leaf.kinks < leaf.autodiff.compared
    *errors, where = numbers(leaf.finite)
    where += f" ({leaf.finite.compared} entries)" if sampled else ""
    return (leaf.path or "(it)", str(leaf.shape), *numbers(leaf.autodiff), *errors, where, verdict)
