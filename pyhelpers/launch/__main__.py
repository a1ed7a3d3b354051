"""The runtime's entry: `python3 -I -S pyhelpers/launch/__main__.py COMMAND …`.

Kept to a few lines: a script's own file is compiled at every start, its imports are not.
"""

import sys

sys.path.insert(0, __file__.rpartition("/launch/")[0])

from launch.cli import main

main(sys.argv[1:])
