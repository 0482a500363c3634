"""One script per figure or claim of the notes: `python -m experiments` lists them.

Each is four names over the shared runner: a frozen dataclass `Config` (with the sizes of `--quick`),
`compute(config)` to a dict of arrays, `claims(config, arrays)` to a dict of name to bool, and
`draw(figure, config, arrays)`.
"""
