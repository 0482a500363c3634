"""The notes chapter by chapter: percent scripts, beside each the notebook that `python -m notebooks.renew` makes."""
