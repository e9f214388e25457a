"""The submission: its names, its checks, its zip."""
