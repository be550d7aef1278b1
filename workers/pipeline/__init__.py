"""The Omni-R1 pipeline. Knows no database, queue, web framework, storage or labeling tool."""

import os

# Threads of the CPU kernels that wait sleep instead of spinning: beside other processes on few cores, spinning made the
# pipeline several times slower (docs/benchmarks.md). OpenMP reads this when torch is loaded, so it must stand here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
