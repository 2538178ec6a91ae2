"""The embedded node: a process of its own that speaks Bacalhau's HTTP API on this machine."""
