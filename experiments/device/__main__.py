"""`python -m experiments.device`, as for every command."""

from experiments import device

raise SystemExit(device.main())
