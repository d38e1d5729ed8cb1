# The first program: says hello, with its arguments, and counts the lines of its standard input.
# It needs a Python that was built for WASI: docs/first-python.md.
import sys

print(f"Hello from {sys.argv[0]}!")
for number, argument in enumerate(sys.argv[1:], 1):
    print(f"  argument {number}: {argument}")
lines = sum(1 for line in sys.stdin)
if lines:
    print(f"  lines of input: {lines}")
