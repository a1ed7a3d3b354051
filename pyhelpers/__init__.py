"""The control plane: validates manifests, finds servers, compiles plans, reports the truth."""
