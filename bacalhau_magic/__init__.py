"""bacalhau_magic: a notebook cell that runs elsewhere and comes back as a value."""
