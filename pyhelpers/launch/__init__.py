"""The runtime: builds a sandbox from a compiled plan and supervises it. Standard library only."""

import gc

# A collection at every start costs more than its few cycles; in the supervisor one would touch,
# and so copy, pages that are shared with pid 1.
gc.disable()
