"""One process of a load test; `children` starts it and says what to do."""

import sys

from infermesh.loadgen.children import child

if __name__ == "__main__":
    child(sys.stdin, sys.stdout)
