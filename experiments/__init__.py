"""One module for each figure or claim of the notes: `python -m experiments` lists and runs them.

Each has four names: a frozen dataclass `Config`, whose fields are the flags and whose `quick` holds those that
`--quick` changes; `compute(config)`, which returns a dict of arrays; `claims(config, arrays)`, which returns whether
each claim holds; and `draw(figure, config, arrays)`.
"""
