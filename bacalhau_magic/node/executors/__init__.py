"""What runs a job here: bubblewrap, a container engine, or a plain process; each keeps its limits or says that it can't."""
