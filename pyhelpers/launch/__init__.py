"""The runtime: builds a sandbox from a compiled plan and supervises it. Standard library only."""
